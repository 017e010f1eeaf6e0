"""Directories: the location of the cache, durable creation and atomic replacement."""

from __future__ import annotations

import errno
import math
import os
import shutil
import sys
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from chargen.errors import ConfigError, printable

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# Errors of a kernel, C library or file system that cannot exchange two paths.
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM}


def cache_folder() -> Path:
    """Return the folder of encoded corpora and locks: $CHARGEN_CACHE_DIR or the user's cache."""
    if chosen := os.environ.get("CHARGEN_CACHE_DIR"):
        return Path(chosen)
    from platformdirs import user_cache_path  # imported late to keep --help fast

    return user_cache_path("chargen")


def real_path(path: str | Path) -> Path:
    """Resolve all links in a path; a text that cannot be a path is a `ConfigError`.

    `Path.resolve` would raise RuntimeError on a cycle of links.
    """
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:  # a NUL or a lone surrogate
        raise ConfigError(f"{printable(path)} cannot be a path: {error}") from error


def cache_limit() -> float:
    """Return the most bytes for encoded corpora: $CHARGEN_CACHE_GB (or 10) times 10**9."""
    value = os.environ.get("CHARGEN_CACHE_GB") or "10"
    try:
        gigabytes = float(value)
    except ValueError:
        gigabytes = math.nan
    if not gigabytes >= 0:
        raise ConfigError(
            "CHARGEN_CACHE_GB must be a number of at least 0, or inf for no limit, got "
            f"{printable(value)}"
        )
    return gigabytes * 1e9


def sync_file(file: IO[Any]) -> None:
    """Flush a file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_path(path: Path) -> None:
    """Make a file, or the entries of a directory, survive a power failure (no-op on Windows).

    Directories are left out that may only be written, or whose file system cannot sync them.
    """
    if sys.platform == "win32":
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EINVAL) or not path.is_dir():
            raise


def make_directory(path: Path) -> None:
    """Create a directory and its missing parents; their entries survive a power failure."""
    missing = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for directory in missing:
        sync_path(directory.parent)


def keep_other_entries(old: Path, new: Path, own: Collection[str]) -> None:
    """Copy the entries that people added to a directory to the one that will replace it.

    They are all entries but those named in `own`, those that `new` has, too, and pipes and sockets.
    """
    for path in old.iterdir():
        kept = new / path.name
        if path.name in own or kept.exists():
            continue
        if path.is_symlink() or not path.is_dir():
            _copy_entry(path, kept)
        else:
            shutil.copytree(path, kept, symlinks=True, copy_function=_copy_entry)
            for folder, _, _ in os.walk(kept):
                sync_path(Path(folder))


def _copy_entry(source: str | Path, target: str | Path) -> None:
    path, kept = Path(source), Path(target)
    if path.is_symlink():
        kept.symlink_to(path.readlink())
    elif path.is_file():
        shutil.copy2(path, kept)
        sync_path(kept)


def replace_directory(new: Path, target: Path, previous: Path) -> None:
    """Move `new` to `target`, replacing the directory there.

    All three paths are siblings, and only `target` exists afterwards. On Linux one system call
    exchanges `new` and `target`, so that `target` always exists. Other systems need two renames; a
    crash between them leaves the old directory at `previous`, where readers look for it. If an
    `OSError` is raised, `target` is unchanged.
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
    """Exchange two paths atomically; return False if the system does not support it."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes  # imported late to keep --help fast

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
