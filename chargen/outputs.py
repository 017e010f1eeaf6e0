"""Where results are written: what may be replaced, files that appear whole, one run at a time."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from . import checkpoint
from .directories import cache_folder, sync_directory, sync_file
from .errors import CheckpointError, ConfigError, CorpusError
from .text.files import shown


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
    name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
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


@contextmanager
def whole_file(output: str) -> Iterator[IO[bytes]]:
    """A file to write bytes to, compressed as its name says; it appears when the block ends.

    Written to a hidden sibling that takes its place by one rename; after an error nothing is left
    of it.

    Raises
    ------
    CorpusError
        Where it cannot be written.
    """
    path = Path(output).resolve()  # a link stays one, and what it points to is replaced
    hidden = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with hidden.open("wb") as file:
            with _packed(file, path.suffix.lower()) as packed:
                yield packed
            sync_file(file)
        hidden.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CorpusError(f"{shown(output)} cannot be written: {reason}") from error
    finally:
        hidden.unlink(missing_ok=True)


@contextmanager
def _packed(file: IO[bytes], compression: str) -> Iterator[IO[bytes]]:
    opened: Any
    if compression == ".gz":
        opened = gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0)
    elif compression == ".bz2":
        opened = bz2.BZ2File(file, "wb")
    elif compression == ".xz":
        opened = lzma.LZMAFile(file, "wb")  # noqa: SIM115
    elif compression == ".zst":
        opened = _packed_zstd(file)
    else:
        yield file
        return
    with opened:
        yield opened


def _packed_zstd(file: IO[bytes]) -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return zstd.ZstdFile(file, "wb")
    try:
        import zstandard
    except ImportError as error:
        raise ConfigError(
            "--output: writing .zst files needs the extra: pip install 'chargen[zstd]'"
        ) from error
    return zstandard.ZstdCompressor().stream_writer(file, closefd=False)
