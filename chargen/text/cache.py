"""Folders of the cache: written beside their place and moved there whole, shared by runs, removed.

A process that maps an encoded corpus holds a lock on it, which the system lets go with the mapping;
what is locked is never removed. Where nothing can be locked (some network file systems) nothing is.
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

from chargen.errors import CorpusError, enough_memory, is_out_of_memory

IDS, META = "ids.bin", "meta.json"
"""The files of an encoded corpus."""

_PREFIX = "building-"
_ABANDONED_AFTER = 7 * 24 * 3600.0  # seconds; for builders on another machine


def not_writable(what: str, folder: Path, error: OSError) -> CorpusError:
    """The sentence for a cache that cannot be written.

    Memory that ran out, which no other folder has more of, is raised as it is.
    """
    if is_out_of_memory(error):
        raise error
    reason = error.strerror or str(error)
    return CorpusError(
        f"{what} cannot be written to {folder}: {reason}; set CHARGEN_CACHE_DIR to another folder"
    )


@contextmanager
def workspace(folder: Path, what: str = "the encoded corpus") -> Iterator[Path]:
    """A new folder inside `folder` to build `what` in; what is left in it at the end is removed.

    Raises `CorpusError` when nothing can be written there, now or in the body of the ``with``, and
    `OutOfMemoryError` where memory ran out.
    """
    with enough_memory(), _workspace(folder, what) as place:
        yield place


@contextmanager
def _workspace(folder: Path, what: str) -> Iterator[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        # The name tells whose it is, so that a later run can clean up after a killed one.
        prefix = f"{_PREFIX}{socket.gethostname()}-{os.getpid()}-"
        place = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    except OSError as error:
        raise not_writable(what, folder, error) from error
    try:
        yield place
    except OSError as error:
        raise not_writable(what, folder, error) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def publish(built: Path, place: Path) -> None:
    """Move a finished folder to its place; one that another run put there first may stay."""
    try:
        built.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*"):
        host, _, pid = path.name.removeprefix(_PREFIX).rpartition("-")[0].rpartition("-")
        with contextlib.suppress(OSError):  # another run was faster
            old = time.time() - path.stat().st_mtime > _ABANDONED_AFTER
            if old or (host == socket.gethostname() and pid.isdigit() and not _is_alive(int(pid))):
                shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there, os.kill would end the process
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
        """What its corpus is called; "" where that cannot be read."""
        try:
            return str(json.loads((self.path / META).read_text("utf-8"))["name"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @property
    def in_use(self) -> bool:
        """Whether some process maps it, as far as can be known."""
        with _unused(self.path) as unused:
            return not unused


def encodings(folder: Path) -> list[Encoding]:
    """What a folder of the cache holds, least recently used first."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if re.fullmatch("[0-9a-f]{64}", path.name):
                with contextlib.suppress(OSError):  # another process removes it
                    sizes = [file.stat().st_size for file in path.iterdir()]
                    meta = path / META
                    used = (meta if meta.exists() else path).stat().st_mtime
                    found.append(Encoding(path, sum(sizes), used))
    return sorted(found, key=lambda one: (one.used, one.path.name))


def remove(some: Iterable[Encoding]) -> list[Encoding]:
    """Remove encodings and return those that went: what is in use, or the system keeps, stays."""
    return [one for one in some if _remove(one.path)]


def trim(folder: Path, limit: float) -> list[Encoding]:
    """Remove the least recently used until the others have at most `limit` bytes; what went."""
    removed: list[Encoding] = []
    kept = encodings(folder)
    total = sum(one.bytes for one in kept)
    for one in kept:
        if total <= limit:
            break
        if _remove(one.path):
            total -= one.bytes
            removed.append(one)
    return removed


def older_than(some: Iterable[Encoding], days: float) -> list[Encoding]:
    now = time.time()
    return [one for one in some if now - one.used > days * 86400]


def note_use(place: Path) -> None:
    with contextlib.suppress(OSError):  # a cache may be read-only
        os.utime(place / META)


def hold(file: IO[bytes]) -> None:
    """Keep the ids in an open file from being removed while it, or a mapping of it, is open."""
    _lock(file, exclusive=False)


@contextmanager
def held(place: Path) -> Iterator[None]:
    """Keep an encoding from being removed while the block runs."""
    if sys.platform == "win32":  # there, a folder with an open file cannot be moved to its place
        yield
        return
    with (place / IDS).open("rb") as file:
        hold(file)
        yield


def _remove(place: Path) -> bool:
    try:
        with _unused(place) as unused:
            if not unused:
                return False
            with workspace(place.parent) as trash:  # gone at once, for whoever looks
                place.rename(trash / place.name)
    except (OSError, CorpusError):
        return False
    return True


@contextmanager
def _unused(place: Path) -> Iterator[bool]:
    """Whether nobody uses an encoding; then nobody can begin to while the block runs."""
    if sys.platform == "win32":  # there, what is mapped cannot be moved
        yield True
        return
    try:
        file = (place / IDS).open("r+b")  # to write, as locks of network file systems ask for
    except FileNotFoundError:  # damaged: of no use to anybody
        yield True
        return
    except OSError:
        yield False
        return
    with file:
        yield _lock(file, exclusive=True)


def _lock(file: IO[bytes], exclusive: bool) -> bool:
    """Whether the lock was to be had; it belongs to the open file and all mappings of it."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
    except OSError:
        return False
    return True
