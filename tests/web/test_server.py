"""The page is for this machine, ends cleanly, and says what is wrong."""

from __future__ import annotations

import http.client
import signal
import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chargen.errors import ConfigError, MissingExtraError
from chargen.web.server import served
from tests.processes import start


def _get(address: str, host: str) -> tuple[int, http.client.HTTPMessage]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=20)
    connection.request("GET", "/", headers={"Host": host})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers


def test_answers_only_by_the_name_of_this_machine(address: str) -> None:
    port = urlsplit(address).port
    assert urlsplit(address).hostname == "127.0.0.1"
    status, headers = _get(address, f"127.0.0.1:{port}")
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    assert _get(address, f"localhost:{port}")[0] == 200
    assert _get(address, f"evil.example:{port}")[0] == 400


def test_a_taken_port_and_a_file_are_told(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs chargen[web]")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port} is not free"), served(tmp_path, port):
            pass
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"), served(tmp_path / "file"):
        pass


def test_needs_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r"chargen\[web\]"), served(tmp_path):
        pass


def test_ends_at_a_signal(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="needs chargen[web]")
    with (tmp_path / "address").open("wb+") as address:
        process = start("web", tmp_path / "models", stdout=address.fileno())
        deadline = time.monotonic() + 120
        while not address.read().endswith(b"\n"):
            address.seek(0)
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "address").read_text().startswith("http://127.0.0.1:")
    assert said == b"the page is ready; Ctrl-C ends it\n"
