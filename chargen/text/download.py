"""Fetch one file over http or https, resuming an interrupted attempt, or copy it from disk.

The downloader is for pooch, which checks the hash and moves the file into place. It does not
depend on the data sets.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from chargen.errors import CorpusError, printable

TRIES = 5
MOST_REDIRECTS = 5
BLOCK_BYTES = 1 << 14
"""Bytes read at a time; fewer than these are lost when a connection is cut off."""
_CUT_OFF = "the connection was cut off"
_RETRIED = {408, 425, 429, 500, 502, 503, 504}


@dataclass
class Downloader:
    """Downloader of one file; pooch calls it as ``downloader(url, output_file, pooch)``."""

    # file for the received bytes; it is kept when the network fails, and the next attempt requests
    # the rest (RFC 9110, sections 13.1.5 and 14.2)
    partial_file: Path
    # whether the file will be checked against a hash. Only then may a redirect lead to another
    # host, or from https to http
    hash_checked: bool
    timeout: float = 30.0  # seconds without data after which the server counts as dead
    pause: float = 1.0  # seconds before the second attempt; doubled after each that brings no data
    progress: bool = True  # show a progress bar if stderr is a terminal

    def __call__(self, url: str, output_file: Any, pooch: Any = None) -> None:
        """Fetch `url` into `output_file`, or raise `CorpusError` and keep the received bytes."""
        if urlsplit(url).scheme.lower() == "file":
            _copy(url, Path(output_file))
            return
        self._fetch(url)
        self.partial_file.replace(output_file)
        self._discard()

    def _discard(self) -> None:
        self.partial_file.unlink(missing_ok=True)
        self._validator_file.unlink(missing_ok=True)

    @property
    def _validator_file(self) -> Path:
        return self.partial_file.with_name(f"{self.partial_file.name}.json")

    def _fetch(self, url: str) -> None:
        import requests

        failed, reason = 0, ""
        with requests.Session() as session:
            while failed < TRIES:
                before = self._size()
                try:
                    reason = self._request(session, url)
                    if not reason:
                        return
                except requests.exceptions.SSLError as error:
                    raise CorpusError(
                        f"{printable(url)} has no valid certificate: {error}"
                    ) from error
                except ValueError as error:  # of requests, or of urllib for a redirect
                    raise CorpusError(
                        f"{printable(url)} is not an address, or redirects to none: {error}"
                    ) from error
                except requests.exceptions.RequestException as error:
                    reason = _innermost_reason(error)
                failed = 0 if self._size() > before else failed + 1
                if failed < TRIES:
                    time.sleep(min(30.0, self.pause * 2 ** max(0, failed - 1)))
        kept = self._size()
        rest = f"; {kept:,} bytes are kept, and the next try continues from there" if kept else ""
        raise CorpusError(f"{printable(url)} cannot be fetched: {reason}{rest}")

    def _request(self, session: Any, url: str) -> str:
        """Make one request; return why the file is still incomplete, "" if it is complete."""
        begin = self._size()
        headers = {"Accept-Encoding": "identity"}
        if begin and (validator := self._validator()):
            # Without If-Range, parts of two versions of the file could be joined.
            headers |= {"Range": f"bytes={begin}-", "If-Range": validator}
        with self._follow(session, url, headers) as response:
            status = response.status_code
            if status in _RETRIED:
                return f"the server answers {_status(response)}"
            if status == 416 or (status == 206 and not _continues_at(response, begin)):
                self._discard()  # the bytes are no part of the current file
                return _CUT_OFF
            if status not in (200, 206):
                raise CorpusError(f"{printable(url)} cannot be fetched: {_status(response)}")
            if status == 200:
                begin = 0
            length = response.headers.get("Content-Length", "")
            total = begin + int(length) if length.isdecimal() else None
            tag = response.headers.get("ETag", "")
            strong = tag.startswith('"')
            validator = tag if strong else response.headers.get("Last-Modified")
            with self.partial_file.open("ab" if begin else "wb") as file:
                # Only now are no bytes of an earlier version left, to which it would not apply.
                self._validator_file.write_text(json.dumps({"validator": validator}), "utf-8")
                self._write(response, file, url, begin, total)
        return "" if total is None or self._size() == total else _CUT_OFF

    def _follow(self, session: Any, url: str, headers: dict[str, str]) -> Any:
        """Request `url`, follow its redirects and return the last response."""
        start = urlsplit(url)
        for _ in range(MOST_REDIRECTS + 1):
            response = session.get(
                url, headers=headers, stream=True, allow_redirects=False, timeout=self.timeout
            )
            if not response.is_redirect:
                return response
            response.close()
            url = urljoin(url, response.headers["Location"])
            target = urlsplit(url)
            if target.scheme not in ("http", "https"):
                raise CorpusError(
                    f"{start.geturl()} redirects to {printable(url)}, which is not fetched"
                )
            downgraded = start.scheme == "https" and target.scheme == "http"
            if not self.hash_checked and (target.netloc != start.netloc or downgraded):
                raise CorpusError(
                    f"{start.geturl()} redirects to another place, {printable(url)}: give that "
                    "address, or the hash of the file with --sha256"
                )
        raise CorpusError(f"{start.geturl()} redirects more than {MOST_REDIRECTS} times")

    def _write(
        self, response: Any, file: IO[bytes], url: str, begin: int, total: int | None
    ) -> None:
        from tqdm import tqdm

        with tqdm(
            total=total,
            initial=begin,
            unit="B",
            unit_scale=True,
            desc=printable(urlsplit(url).path.rpartition("/")[2])[:40],
            disable=None if self.progress else True,  # None: only on a terminal
            leave=False,
        ) as bar:
            for block in response.iter_content(BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))

    def _size(self) -> int:
        with contextlib.suppress(OSError):
            return self.partial_file.stat().st_size
        return 0

    def _validator(self) -> str | None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            validator = json.loads(self._validator_file.read_text("utf-8")).get("validator")
            return validator if isinstance(validator, str) else None
        return None


def _copy(url: str, output: Path) -> None:
    from urllib.request import url2pathname  # slow to import

    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise CorpusError(
            f"{printable(url)} names another machine: write a file address with three slashes"
        )
    path = Path(url2pathname(parts.path))
    try:
        shutil.copyfile(path, output)
    except OSError as error:
        if error.filename and os.fspath(error.filename) == os.fspath(path):
            raise CorpusError(f"{printable(path)} cannot be read: {error.strerror}") from error
        raise


def _continues_at(response: Any, begin: int) -> bool:
    return str(response.headers.get("Content-Range", "")).startswith(f"bytes {begin}-")


def _status(response: Any) -> str:
    return f"{response.status_code} {printable(response.reason or '')}".strip()


def _innermost_reason(error: Exception) -> str:
    """Return the innermost cause of an error of requests, which wraps other exceptions."""
    while isinstance(inner := error.__cause__ or error.__context__, Exception):
        error = inner
    if isinstance(error, TimeoutError):
        return "the server does not answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
