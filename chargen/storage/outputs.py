"""Output folders: what a run may replace, and a lock that admits one run at a time."""

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


def refuse_to_overwrite(directory: Path, force: bool, advice: str | None = None) -> None:
    """Raise `ConfigError` unless `directory` is new, empty or a checkpoint and `force` is set.

    `advice` is what the message about a checkpoint tells the user to do.
    """
    try:
        is_checkpoint = checkpoint.exists(directory)
        if is_checkpoint and not force:
            usual = (
                f"choose another --out, continue it with --resume {directory}, or replace it with "
                "--force"
            )
            raise ConfigError(f"{directory} exists: {advice or usual}")
        if directory.exists() and not directory.is_dir():
            raise ConfigError(f"{directory} is a file: --out is the folder of a checkpoint")
        if directory.exists() and not is_checkpoint and any(directory.iterdir()):
            raise ConfigError(f"{directory} exists and is not a checkpoint: choose another --out")
    except OSError as error:  # of the path itself, such as a name that is too long
        raise ConfigError(f"--out {directory}: {error.strerror}") from error


def save_model(directory: Path, model: Checkpoint, origin: Checkpoint | None, force: bool) -> None:
    """Write a model outside a run, keeping the other documents of the checkpoint `origin`."""
    inherited = {} if origin is None else origin.documents
    config = inherited.get("config", {}) | model.documents["config"]
    advice = "choose another folder, or replace it with force=True"
    with locked_for_run(directory, force, advice):
        documents = inherited | model.documents | {"config": config}
        checkpoint.save(directory, replace(model, documents=documents))


@contextmanager
def locked_for_run(
    directory: Path, force: bool = False, advice: str | None = None
) -> Iterator[None]:
    """Lock `directory`, and check that a new checkpoint may be written there.

    `advice` is that of `refuse_to_overwrite`. Raises `ConfigError` if `directory` must not be
    replaced, and `CheckpointError` if another run is writing it or it cannot be written.
    """
    with writing_lock(directory):
        refuse_to_overwrite(directory, force, advice)
        checkpoint.check_writable(directory)
        yield


@contextmanager
def writing_lock(directory: Path) -> Iterator[None]:
    """Lock `directory` for one run; raise `CheckpointError` if another run holds the lock.

    The system releases the lock when the process ends, even after a crash.
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
        raise CheckpointError(
            f"cannot lock {directory} in {folder}: {error.strerror}; set CHARGEN_CACHE_DIR to "
            "another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()
