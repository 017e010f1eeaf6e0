"""Directories: where the cache lies, and how one takes another's place without half of it seen."""

from __future__ import annotations

import errno
import math
import os
import shutil
import sys
from pathlib import Path
from typing import IO, Any

from chargen.errors import ConfigError, shown

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# What the kernel, the C library or the file system answers where it cannot exchange.
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM}


def cache_folder() -> Path:
    """Where encoded corpora and locks lie: $CHARGEN_CACHE_DIR, else the user's cache."""
    if chosen := os.environ.get("CHARGEN_CACHE_DIR"):
        return Path(chosen)
    from platformdirs import user_cache_path  # the help of the commands need not wait for it

    return user_cache_path("chargen")


def real_path(path: str | Path) -> Path:
    """Where a path leads. `Path.resolve` raises RuntimeError where links go round in a circle."""
    return Path(os.path.realpath(path))


def cache_limit() -> float:
    """Most bytes that encoded corpora may take: $CHARGEN_CACHE_GB times 10**9, else ten of them."""
    given = os.environ.get("CHARGEN_CACHE_GB") or "10"
    try:
        gigabytes = float(given)
    except ValueError:
        gigabytes = math.nan
    if not gigabytes >= 0:
        raise ConfigError(
            f"CHARGEN_CACHE_GB must be a number from 0 on, or inf for no bound, got {shown(given)}"
        )
    return gigabytes * 1e9


def sync_file(file: IO[Any]) -> None:
    """Flush a file down to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_path(path: Path) -> None:
    """Make a file, or the names in a directory, survive a loss of power (a no-op on Windows)."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory and what is missing above it; their names survive a loss of power."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_path(each.parent)


def replace_directory(new: Path, target: Path, previous: Path) -> None:
    """Let `new` take the place of `target`.

    All three are siblings, and only `target` exists afterwards. On Linux one system call exchanges
    the two, so that `target` always exists. Elsewhere two renames do it, and a crash between them
    leaves the old directory at `previous`, where readers look for it. After an `OSError` `target`
    is what it was.
    """
    if target.exists() and not exchange(new, target):
        shutil.rmtree(previous, ignore_errors=True)
        target.rename(previous)
        try:
            new.rename(target)
        except OSError:
            previous.rename(target)
            raise
    if not target.exists():
        new.rename(target)
    sync_path(target.parent)
    for leftover in (new, previous):
        shutil.rmtree(leftover, ignore_errors=True)


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes  # as above

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    result = rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    if result == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(second))
