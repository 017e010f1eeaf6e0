"""Read a source of text as a stream of bytes: a plain or compressed file, or a pipe.

The bytes are not decoded here. Every failure is raised as a `CorpusError` naming the source.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from chargen.errors import CorpusError, printable
from chargen.text.formats import TABLES

BLOCK = 1 << 20  # bytes read at a time
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")

Advance = Callable[[int], None]

ALWAYS_ALLOWED_BYTES = 100_000_000
MAX_EXPANSION_RATIO = 1000
"""A compressed source may unpack to this many times its size, or to `ALWAYS_ALLOWED_BYTES`."""


@dataclass(frozen=True)
class Source:
    """A source of text: a file, a pipe, standard input, or texts in memory."""

    name: str  # as shown to people: printable, one line
    # None for standard input and for text that is in no file
    path: Path | None = None
    # "plain", "csv", "tsv", "jsonl", "json", "python" (a file with its own coding line), "topics"
    # (`pydoc_data.topics`) or "texts"
    form: str = "plain"
    compression: str = ""  # "", ".gz", ".bz2", ".xz" or ".zst"
    size: int = 0  # bytes on disk, or characters of `texts`; 0 if unknown
    # inode, size and modification time when the file was found, to detect later changes
    stamp: tuple[int, int, int] | None = None
    stream: bool = False  # standard input or a pipe, which can be read only once
    # read instead of a file: one text with the form "plain", or several as the rows of "texts"
    texts: tuple[str, ...] | None = None


def refuse_text(name: str) -> None:
    """Raise `CorpusError` if `name` seems to be a text instead of the name of a file."""
    suffix = Path(name).suffix
    words = len(name.split()) > 3 and (suffix in ("", ".") or any(map(str.isspace, suffix)))
    long = len(name) > 255 and "://" not in name
    folder = os.path.dirname(name)  # noqa: PTH120  Path fails for names that are too long
    in_a_folder = bool(folder) and os.path.isdir(folder)  # noqa: PTH112
    if (words or long or "\n" in name) and not in_a_folder and not os.path.lexists(name):
        cut = f"{name[:30]}..." if len(name) > 255 else name
        raise CorpusError(
            f"'{printable(cut)}' looks like a text, not like the name of a file: write it to one, "
            "or in Python give chargen.train(texts=[...]), chargen.finetune((texts, labels), ...)"
        )


def from_path(path: Path, name: str | None = None) -> Source:
    """Describe the file or pipe at `path`; raise `CorpusError` for anything else."""
    name = printable(path) if name is None else name
    try:
        info = path.stat()
    except (OSError, ValueError) as error:
        raise unreadable(name, error) from error
    ending, compression = endings(path)
    form = TABLES.get(ending, "plain")
    if stat.S_ISFIFO(info.st_mode):
        return Source(name, path, form, compression, stream=True)
    if not stat.S_ISREG(info.st_mode):
        raise CorpusError(f"{name} is not a file, a folder or a pipe; use '-' for standard input")
    return Source(name, path, form, compression, info.st_size, _stamp(info))


def endings(path: Path) -> tuple[str, str]:
    """Return the format and compression endings of a name, in lower case; "" if it has none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    return suffixes[-1] if suffixes else "", compression


def unreadable(name: str, error: Exception) -> CorpusError:
    """Return the error for a file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return CorpusError(f"{name} does not exist")
    reason = getattr(error, "strerror", None) or str(error)
    return CorpusError(f"{name} cannot be read: {reason}")


def _stamp(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_ino, info.st_size, info.st_mtime_ns


def _check_unchanged(source: Source, file: IO[bytes]) -> None:
    if source.stamp is not None and _stamp(os.fstat(file.fileno())) != source.stamp:
        raise CorpusError(f"{source.name} changed while it was being read; try again")


@contextmanager
def _raw(source: Source) -> Iterator[IO[bytes]]:
    if source.path is None:
        if sys.stdin is None:
            raise CorpusError("standard input is closed")
        yield sys.stdin.buffer
        return
    try:
        file = source.path.open("rb")
    except OSError as error:
        raise unreadable(source.name, error) from error
    with file:
        _check_unchanged(source, file)
        yield file
        _check_unchanged(source, file)


def raw_blocks(source: Source, advance: Advance | None = None) -> Iterator[bytes]:
    """Yield the bytes as they are on disk, still compressed, in blocks of at most `BLOCK` bytes."""
    with _raw(source) as file:
        while True:
            try:
                block = file.read(BLOCK)
            except OSError as error:
                raise unreadable(source.name, error) from error
            if not block:
                return
            if advance is not None:
                advance(len(block))
            yield block


def byte_blocks(
    source: Source, advance: Advance | None = None, max_bytes: int | None = None
) -> Iterator[bytes]:
    """Yield the decompressed bytes in blocks of about `BLOCK` bytes, at any compression ratio.

    `advance` is called with the number of bytes on disk that each block takes. Raises `CorpusError`
    if the source cannot be read, or exceeds `max_bytes` (by default: what `MAX_EXPANSION_RATIO`
    allows).
    """
    done = 0
    # The size of a pipe is unknown.
    guarded = source.compression and source.size
    likely = max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION_RATIO * source.size) if guarded else None
    for block in unpacked_blocks(source, advance):
        done += len(block)
        if max_bytes is not None:
            if done > max_bytes:
                raise CorpusError(f"{source.name} has more bytes of text than --max-bytes allows")
        elif likely is not None and done > likely:
            raise CorpusError(
                f"{source.name} unpacks to more than {MAX_EXPANSION_RATIO:,} times its "
                f"{source.size:,} bytes, which ordinary text does not: unpack it first, or "
                "allow it with --max-bytes, if the command has this option"
            )
        yield block


def unpacked_blocks(source: Source, advance: Advance | None) -> Iterator[bytes]:
    if not source.compression:
        yield from raw_blocks(source, advance)
        return
    unpack = _unpack_zstd if source.compression == ".zst" else _unpack
    with _raw(source) as file:
        done = 0
        try:
            for block in unpack(source, file):
                yield block
                if advance is not None and source.path is not None and not source.stream:
                    advance(file.tell() - done)
                    done = file.tell()
        except (EOFError, zlib.error, lzma.LZMAError, ValueError, OSError) as error:
            # Decompressors raise OSError for damaged data too, but without an errno.
            if isinstance(error, OSError) and error.errno is not None:
                raise unreadable(source.name, error) from error
            early = "the compressed data ends too early"
            reason = early if isinstance(error, EOFError) else error
            raise CorpusError(f"{source.name} is damaged: {reason}") from error


def _unpack(source: Source, file: IO[bytes]) -> Iterator[bytes]:
    unpackers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    with unpackers[source.compression](file) as opened:
        while block := opened.read(BLOCK):
            yield block


def _unpack_zstd(source: Source, file: IO[bytes]) -> Iterator[bytes]:
    if sys.version_info >= (3, 14):
        from compression import zstd

        try:
            with zstd.ZstdFile(file, "rb") as opened:
                while block := opened.read(BLOCK):
                    yield block
        except zstd.ZstdError as error:
            raise CorpusError(f"{source.name} is damaged: {error}") from error
        return
    try:
        import zstandard
    except ImportError as error:
        raise CorpusError(
            f"{source.name}: reading .zst files needs the extra: pip install 'chargen[zstd]'"
        ) from error
    # zstandard's stream reader accepts a truncated file, so frames are decompressed one by one.
    # Only 2 KiB are read at a time, because a block of 4 bytes may unpack to 128 KiB.
    decompressor = None
    try:
        while data := file.read(2048):
            while data:
                decompressor = decompressor or zstandard.ZstdDecompressor().decompressobj()
                block = decompressor.decompress(data)
                data = decompressor.unused_data if decompressor.eof else b""
                if decompressor.eof:
                    decompressor = None
                if block:
                    yield block
    except zstandard.ZstdError as error:
        raise CorpusError(f"{source.name} is damaged: {error}") from error
    if decompressor is not None:
        raise EOFError


def spool(source: Source, folder: Path, name: str, max_bytes: int | None = None) -> Source:
    """Copy a stream into `folder` and return the copy; return any other source as it is."""
    if not source.stream:
        return source
    path = folder / name
    done = 0
    with path.open("wb") as file:
        for block in raw_blocks(source):
            done += len(block)
            if max_bytes is not None and done > max_bytes:
                raise CorpusError(f"{source.name} has more bytes than --max-bytes allows")
            file.write(block)
    info = path.stat()
    return replace(source, path=path, size=info.st_size, stamp=_stamp(info), stream=False)
