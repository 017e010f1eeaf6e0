"""Folders of the cache: written beside their place, moved there whole, shared by runs."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chargen.errors import CorpusError

_PREFIX = "building-"
_ABANDONED_AFTER = 7 * 24 * 3600.0  # seconds; for builders on another machine


def not_writable(what: str, folder: Path, error: OSError) -> CorpusError:
    """The sentence for a cache that cannot be written."""
    reason = error.strerror or str(error)
    return CorpusError(
        f"{what} cannot be written to {folder}: {reason}; set CHARGEN_CACHE_DIR to another folder"
    )


@contextmanager
def workspace(folder: Path, what: str = "the encoded corpus") -> Iterator[Path]:
    """A new folder inside `folder` to build in; whatever is left in it at the end is removed.

    `what` is built there, for the message.

    Raises `CorpusError` when nothing can be written there, now or in the body of the ``with``.
    """
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
        host, _, rest = path.name.removeprefix(_PREFIX).rpartition("-")[0].rpartition("-")
        try:
            old = time.time() - path.stat().st_mtime > _ABANDONED_AFTER
        except OSError:  # another run was faster
            continue
        if old or (host == socket.gethostname() and rest.isdigit() and not _is_alive(int(rest))):
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
