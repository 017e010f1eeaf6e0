"""Files that appear whole or not at all, packed as their names say."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from chargen.errors import ConfigError, CorpusError, shown
from chargen.storage.directories import real_path, sync_file, sync_path


@contextmanager
def whole_file(output: str, *, as_is: bool = False) -> Iterator[IO[bytes]]:
    """A file to write bytes to, compressed as its name says; it appears when the block ends.

    With `as_is` the bytes stay what they are, whatever the name. After an error, which leaves as a
    `CorpusError`, nothing is left of it.
    """
    path = real_path(output)  # a link stays one, and what it points to is replaced
    hidden = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with hidden.open("wb") as file:
            with _packed(file, "" if as_is else path.suffix.lower()) as packed:
                yield packed
            sync_file(file)
        hidden.replace(path)
        sync_path(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CorpusError(f"{shown(output)} cannot be written: {reason}") from error
    finally:
        hidden.unlink(missing_ok=True)


def write_file(output: str, data: bytes, *, as_is: bool = False) -> None:
    """Write a file whole, or raise `CorpusError`; see `whole_file`."""
    with whole_file(output, as_is=as_is) as file:
        file.write(data)


@contextmanager
def _packed(file: IO[bytes], compression: str) -> Iterator[IO[bytes]]:
    packers: dict[str, Callable[[], Any]] = {
        ".gz": lambda: gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0),
        ".bz2": lambda: bz2.BZ2File(file, "wb"),
        ".xz": lambda: lzma.LZMAFile(file, "wb"),  # noqa: SIM115
        ".zst": lambda: _packed_zstd(file),
    }
    with packers.get(compression, lambda: contextlib.nullcontext(file))() as opened:
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
