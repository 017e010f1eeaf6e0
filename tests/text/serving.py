"""A loopback HTTP server with the faults of real ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Site:
    """What a server serves, and how it misbehaves.

    Attributes
    ----------
    files : dict
        Bytes by path.
    cut : dict
        For a path, after how many bytes the connection is cut, for each request in turn; None
        serves the rest.
    statuses : dict
        For a path, error statuses to answer with, one a request, before it works.
    redirects : dict
        Location by path.
    ranges, tag : bool, str
        Whether ranges are served, and the ETag.
    stall : float
        Seconds before the first byte.
    asked : list
        (path, Range header) of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, list[int | None]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    tag: str = '"one"'
    stall: float = 0.0
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, self.headers.get("Range")))
            if site.stall:
                site.stopped.wait(site.stall)
            if self.path in site.redirects:
                self.send_response(302)
                self.send_header("Location", site.redirects[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif site.statuses.get(self.path):
                self.send_error(site.statuses[self.path].pop(0))
            elif self.path not in site.files:
                self.send_error(404)
            else:
                self._serve(site.files[self.path])

        def _serve(self, data: bytes) -> None:
            begin = 0
            asked = self.headers.get("Range")
            if site.ranges and asked and self.headers.get("If-Range") == site.tag:
                begin = int(asked.removeprefix("bytes=").rstrip("-"))
                if begin >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data) - begin))
            self.send_header("ETag", site.tag)
            self.end_headers()
            cuts = site.cut.get(self.path)
            stop = cuts.pop(0) if cuts else None
            self.wfile.write(data[begin:] if stop is None else data[begin : begin + stop])
            self.close_connection = stop is not None

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
