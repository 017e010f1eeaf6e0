"""Build folders of the cache, move them into place whole, share them among runs, and remove them.

A process that maps an encoded corpus holds a lock on it, which the system releases with the
mapping. A locked corpus is never removed; on file systems without locks, none is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from chargen.errors import CorpusError, convert_memory_errors, is_out_of_memory

IDS, META = "ids.bin", "meta.json"
"""Names of the files of an encoded corpus."""

_PREFIX = "building-"
_ABANDONED_SECONDS = 7 * 24 * 3600.0  # seconds; for builders whose process cannot be checked


def not_writable(content: str, folder: Path, error: OSError) -> CorpusError:
    """Return the error for a cache that cannot be written.

    If memory ran out, raise `error` itself, because another folder would not help.
    """
    if is_out_of_memory(error):
        raise error
    reason = error.strerror or str(error)
    return CorpusError(
        f"{content} cannot be written to {folder}: {reason}; set CHARGEN_CACHE_DIR to another "
        "folder"
    )


@contextmanager
def workspace(folder: Path, content: str = "the encoded corpus") -> Iterator[Path]:
    """Yield a new temporary folder inside `folder` for building `content`; remove it at the end.

    Raises `CorpusError` if the folder cannot be written, at first or in the body of the ``with``,
    and `OutOfMemoryError` if memory runs out.
    """
    with convert_memory_errors(), _workspace(folder, content) as path:
        yield path


@contextmanager
def _workspace(folder: Path, content: str) -> Iterator[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        # Host and process id in the name let a later run clean up after a killed one.
        prefix = f"{_PREFIX}{socket.gethostname()}-{os.getpid()}-"
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    except OSError as error:
        raise not_writable(content, folder, error) from error
    try:
        yield path
    except OSError as error:
        raise not_writable(content, folder, error) from error
    finally:
        shutil.rmtree(path, ignore_errors=True)


def publish(built: Path, target: Path) -> None:
    """Move a finished folder to `target`; keep a folder that another run put there first."""
    try:
        built.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*"):
        host, _, pid = path.name.removeprefix(_PREFIX).rpartition("-")[0].rpartition("-")
        with contextlib.suppress(OSError):  # another run removed the folder first
            old = time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
            if old or (host == socket.gethostname() and pid.isdigit() and not _is_alive(int(pid))):
                shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # on Windows os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


# ---------------------------------------------------------------- encoded corpora


@dataclass(frozen=True)
class Encoding:
    """An encoded corpus in the cache; `used` is its last use, in seconds since the epoch."""

    path: Path
    bytes: int
    used: float

    @property
    def name(self) -> str:
        """Name of the corpus; "" if it cannot be read."""
        try:
            return str(json.loads((self.path / META).read_text("utf-8"))["name"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @property
    def in_use(self) -> bool:
        """Whether a process maps this corpus, as far as can be determined."""
        with _locked_if_unused(self.path) as unused:
            return not unused


def encodings(folder: Path) -> list[Encoding]:
    """Return the encoded corpora in a folder of the cache, least recently used first."""
    entries = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if re.fullmatch("[0-9a-f]{64}", path.name):
                with contextlib.suppress(OSError):  # another process removed the folder
                    sizes = [file.stat().st_size for file in path.iterdir()]
                    meta = path / META
                    used = (meta if meta.exists() else path).stat().st_mtime
                    entries.append(Encoding(path, sum(sizes), used))
    return sorted(entries, key=lambda one: (one.used, one.path.name))


def remove(candidates: Iterable[Encoding]) -> list[Encoding]:
    """Remove the encodings that are not in use; return those that could be removed."""
    return [encoding for encoding in candidates if _remove(encoding.path)]


def trim(folder: Path, limit: float) -> list[Encoding]:
    """Remove the least recently used encodings beyond `limit` bytes; return the removed ones."""
    removed: list[Encoding] = []
    candidates = encodings(folder)
    total = sum(encoding.bytes for encoding in candidates)
    for encoding in candidates:
        if total <= limit:
            break
        if _remove(encoding.path):
            total -= encoding.bytes
            removed.append(encoding)
    return removed


def older_than(candidates: Iterable[Encoding], days: float) -> list[Encoding]:
    now = time.time()
    return [encoding for encoding in candidates if now - encoding.used > days * 86400]


def record_use(encoding_folder: Path) -> None:
    with contextlib.suppress(OSError):  # a cache may be read-only
        os.utime(encoding_folder / META)


def lock_shared(file: IO[bytes]) -> None:
    """Protect an open file of ids from removal while the file or a mapping of it is open."""
    _lock(file, exclusive=False)


@contextmanager
def shared_lock(encoding_folder: Path) -> Iterator[None]:
    """Protect an encoding from removal while the block runs."""
    if sys.platform == "win32":  # Windows cannot move a folder with an open file
        yield
        return
    with (encoding_folder / IDS).open("rb") as file:
        lock_shared(file)
        yield


def _remove(encoding_folder: Path) -> bool:
    try:
        with _locked_if_unused(encoding_folder) as unused:
            if not unused:
                return False
            with workspace(
                encoding_folder.parent
            ) as trash:  # renamed first, so that it vanishes in one step
                encoding_folder.rename(trash / encoding_folder.name)
    except (OSError, CorpusError):
        return False
    return True


@contextmanager
def _locked_if_unused(encoding_folder: Path) -> Iterator[bool]:
    """Yield whether no process uses an encoding; if so, none can start to while the block runs."""
    if sys.platform == "win32":  # Windows itself refuses to move a mapped file
        yield True
        return
    try:
        file = (encoding_folder / IDS).open(
            "r+b"
        )  # network file systems need write access for a lock
    except FileNotFoundError:  # damaged, so no process can use it
        yield True
        return
    except OSError:
        yield False
        return
    with file:
        yield _lock(file, exclusive=True)


def _lock(file: IO[bytes], exclusive: bool) -> bool:
    """Try to lock an open file together with its mappings; return whether that succeeded."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
    except OSError:
        return False
    return True
