"""Write files atomically, compressed according to their suffix."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from chargen.errors import ConfigError, CorpusError, printable
from chargen.storage.directories import real_path, sync_file, sync_path


@contextmanager
def atomic_write(output: str, *, uncompressed: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing bytes; it appears at `output` only when the block ends.

    Its suffix determines the compression, unless `uncompressed` turns it off. It has the mode of a
    file that it replaces. An `OSError` is raised as a `CorpusError`; after any error, no partial
    file remains.
    """
    path = real_path(output)  # a link is kept, and its target is replaced
    hidden = path.parent / f".{path.name}.{os.getpid()}.writing"  # with_name refuses the root
    try:
        with hidden.open("wb") as file:
            if path.exists():
                shutil.copymode(path, hidden)  # a private file stays private
            with _compressed(file, "" if uncompressed else path.suffix.lower()) as packed:
                yield packed
            sync_file(file)
        hidden.replace(path)
        sync_path(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CorpusError(f"{printable(output)} cannot be written: {reason}") from error
    finally:
        with contextlib.suppress(OSError):  # such as a name that is too long
            hidden.unlink()


def write_file(output: str, data: bytes, *, uncompressed: bool = False) -> None:
    """Write a file atomically, or raise `CorpusError`; see `atomic_write`."""
    with atomic_write(output, uncompressed=uncompressed) as file:
        file.write(data)


@contextmanager
def _compressed(file: IO[bytes], compression: str) -> Iterator[IO[bytes]]:
    packers: dict[str, Callable[[], Any]] = {
        ".gz": lambda: gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0),
        ".bz2": lambda: bz2.BZ2File(file, "wb"),
        ".xz": lambda: lzma.LZMAFile(file, "wb"),  # noqa: SIM115
        ".zst": lambda: _zstd_writer(file),
    }
    with packers.get(compression, lambda: contextlib.nullcontext(file))() as opened:
        yield opened


def _zstd_writer(file: IO[bytes]) -> Any:
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
