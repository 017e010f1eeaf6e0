"""Serve the page to this machine only, and load nothing from other hosts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chargen.errors import ConfigError, MissingExtraError
from chargen.runtime.signals import handle_interrupts
from chargen.web.jobs import JobRunner
from chargen.web.models import Models

HOST = "127.0.0.1"

# Other sites must not frame or read the page, and the page loads nothing from other hosts.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; frame-ancestors 'none'"
)
_HEADERS = {b"content-security-policy": _POLICY.encode(), b"referrer-policy": b"no-referrer"}


_LAUNCH: dict[str, Any] = {
    "server_name": HOST,
    "prevent_thread_lock": True,
    "share": False,
    "quiet": True,
    "footer_links": [],
    "run_history": False,
    "ssr_mode": False,
    "pwa": False,
    "mcp_server": False,
    "enable_monitoring": False,
    "max_file_size": "1gb",
}


class _WithHeaders:
    """Middleware that adds `_HEADERS` to each response."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS.items()]
            await send(message)

        await self.app(scope, receive, sent)


@contextmanager
def served(folder: str | Path, port: int | None = None) -> Iterator[str]:
    """Serve the page for a folder of checkpoints, where it also trains; yield its address.

    Raises `ConfigError` if the port is not free or `folder` is a file, and `MissingExtraError`
    without Gradio.
    """
    # Gradio would report each start to its makers and ask them for its newest version.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio as gr
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
    except ImportError as error:
        raise MissingExtraError("chargen web", "web") from error
    from chargen.web import views
    from chargen.web.page import build

    if Path(folder).exists() and not Path(folder).is_dir():
        raise ConfigError(f"{folder} is a file: name the folder of your checkpoints")
    runner = JobRunner(folder)
    page = build(Models(folder), runner)
    page.queue(default_concurrency_limit=4, api_open=False)
    # After DNS rebinding, requests from another site carry the name of that site as Host.
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    theme = gr.themes.Base(
        primary_hue="slate",
        font=["system-ui", "sans-serif"],  # plain names in a list are fonts of the reader's machine
        font_mono=["ui-monospace", "monospace"],
    )
    app = {"middleware": [Middleware(_WithHeaders), guard]}
    try:
        _, address, _ = page.launch(
            server_port=port, theme=theme, css=views.STYLE, app_kwargs=app, **_LAUNCH
        )
    except OSError as error:
        what = f"--port {port} is" if port else "the ports from 7860 on are"
        raise ConfigError(f"{what} not free: choose another --port") from error
    try:
        yield address
    finally:
        page.close(verbose=False)
        runner.close()


def serve(folder: str | Path, port: int | None, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM, which stops a run with a checkpoint; `ready` gets the URL."""
    stopped = threading.Event()
    with handle_interrupts(stopped.set), served(folder, port) as address:
        ready(address)
        while not stopped.wait(0.5):  # the timeout lets signals arrive on every system
            pass
