"""Encoded corpora that the cache keeps, and the removal of those that were used least recently.

A process that maps an encoding holds a lock on it, which the system lets go with the mapping; what
is locked is never removed. Where nothing can be locked (some network file systems) nothing is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from chargen.errors import CorpusError
from chargen.text.building import IDS, META
from chargen.text.cache import workspace


@dataclass(frozen=True)
class Encoding:
    """A folder of the cache."""

    path: Path
    bytes: int
    used: float  # when it was used last, in seconds since the epoch

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
        with _alone(self.path) as alone:
            return not alone


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
    """Remove encodings; those in use and those that the system keeps stay.

    Returns
    -------
    list of Encoding
        What was removed.
    """
    return [one for one in some if _remove(one.path)]


def trim(folder: Path, limit: float) -> list[Encoding]:
    """Remove the least recently used encodings until the others have at most `limit` bytes.

    Returns
    -------
    list of Encoding
        What was removed.
    """
    removed = []
    kept = encodings(folder)
    total = sum(one.bytes for one in kept)
    for one in kept:
        if total <= limit:
            break
        if gone := remove([one]):
            total -= one.bytes
            removed += gone
    return removed


def older_than(some: Iterable[Encoding], days: float) -> list[Encoding]:
    """Those that were not used for some days."""
    now = time.time()
    return [one for one in some if now - one.used > days * 86400]


def note_use(place: Path) -> None:
    """Let an encoding count as used now."""
    with contextlib.suppress(OSError):  # a cache may be read-only
        os.utime(place / META)


def hold(file: IO[bytes]) -> None:
    """Keep the ids in an open file from being removed while it, or a mapping of it, is open."""
    _lock(file, exclusive=False)


@contextlib.contextmanager
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
        with _alone(place) as alone:
            if not alone:
                return False
            with workspace(place.parent) as trash:  # gone at once, for whoever looks
                place.rename(trash / place.name)
    except (OSError, CorpusError):
        return False
    return True


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[bool]:
    """Whether nobody else uses an encoding; then nobody can begin to while the block runs."""
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
