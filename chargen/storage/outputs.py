"""Where a run writes: what may be replaced there, and that one run at a time writes it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from chargen.errors import CheckpointError, ConfigError
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.directories import cache_folder, real_path


def refuse_to_overwrite(directory: Path, force: bool) -> None:
    """Let a run replace a checkpoint only where it was asked to; all else is a `ConfigError`."""
    if checkpoint.exists(directory) and not force:
        raise ConfigError(
            f"{directory} exists: choose another --out, continue it with --resume {directory}, "
            "or replace it with --force"
        )
    if directory.is_file():
        raise ConfigError(f"{directory} is a file: --out is the folder of a checkpoint")
    if directory.exists() and not checkpoint.exists(directory) and any(directory.iterdir()):
        raise ConfigError(f"{directory} exists and is not a checkpoint: choose another --out")


def save_model(directory: Path, model: Checkpoint, origin: Checkpoint | None, force: bool) -> None:
    """Write a model by itself, with what the checkpoint that it came from tells of it."""
    if checkpoint.exists(directory) and not force:
        raise ConfigError(f"{directory} exists: choose another folder, or replace it by force=True")
    refuse_to_overwrite(directory, force)
    told = {} if origin is None else origin.documents
    config = told.get("config", {}) | model.documents["config"]
    with writing_lock(directory):
        documents = told | model.documents | {"config": config}
        checkpoint.save(directory, replace(model, documents=documents))


@contextmanager
def claimed(directory: Path, force: bool = False) -> Iterator[None]:
    """Hold `directory` for a run that writes a new checkpoint there; refuse before its work.

    `ConfigError` where something stands there that must not be replaced, `CheckpointError` where
    another run writes it or nothing can be written.
    """
    refuse_to_overwrite(directory, force)
    with writing_lock(directory):
        checkpoint.check_writable(directory)
        yield


@contextmanager
def writing_lock(directory: Path) -> Iterator[None]:
    """Hold `directory` for one run, or raise `CheckpointError` where another one holds it.

    The system lets go when the process ends, however it ends.
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
