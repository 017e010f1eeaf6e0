"""Where a run writes: what may be replaced there, and that one run at a time writes it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from chargen.errors import CheckpointError, ConfigError
from chargen.storage import checkpoint
from chargen.storage.directories import cache_folder, real_path


def refuse_to_overwrite(directory: Path, force: bool) -> None:
    """Let a run replace a checkpoint only where it was asked to, and nothing else ever.

    Raises
    ------
    ConfigError
    """
    if checkpoint.exists(directory) and not force:
        raise ConfigError(
            f"{directory} exists: choose another --out, go on with --resume {directory}, "
            "or replace it with --force"
        )
    if directory.is_file():
        raise ConfigError(f"{directory} is a file: --out is the folder of a checkpoint")
    if directory.exists() and not checkpoint.exists(directory) and any(directory.iterdir()):
        raise ConfigError(f"{directory} exists and is no checkpoint: choose another --out")


@contextmanager
def writing_lock(directory: Path) -> Iterator[None]:
    """Hold `directory` for one run; the system lets go when the process ends, however it ends.

    Raises
    ------
    CheckpointError
        Where another run holds it.
    """
    name = hashlib.sha256(os.fsencode(real_path(directory))).hexdigest()[:16]
    folder = cache_folder() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise CheckpointError(
            f"another run is writing {directory}: wait for it, or choose another --out"
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot lock {directory}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
