"""Turn fetched files into the texts of a data set; no archive can write outside the given folder.

The module uses neither the network nor the cache: it reads files and writes into a folder.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from chargen.errors import CorpusError, enumerated, printable
from chargen.text.datasets import Dataset
from chargen.text.files import BLOCK

SPLIT_SHARES = (0.9, 0.95)
"""Shares at which text8 and enwik8 are cut, into 90, 5 and 5 % (Mikolov et al. 2012)."""

MOST_BYTES = 20_000_000_000
"""Largest unpacked size of an archive, also limited to `MAX_EXPANSION_RATIO` times its size."""
MAX_EXPANSION_RATIO = 200
MOST_FILES = 1_000_000

_DAMAGE_ERRORS = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, UnicodeError),
)


def unpack(dataset: Dataset, fetched: list[Path], folder: Path, notes: list[str]) -> None:
    """Write the parts of a data set into an empty folder.

    `notes` receives a sentence about files that are left out because of their names.
    Raises `CorpusError` for an archive that is damaged, too large, or lacks the expected content.
    """
    try:
        if dataset.unpack == "splits":
            _write_splits(dataset, fetched[0], folder)
        elif dataset.unpack == "reviews":
            _write_reviews(dataset, fetched[0], folder)
        elif dataset.unpack == "gutenberg":
            _write_book(dataset, fetched[0], folder / dataset.parts["all"])
        elif dataset.unpack == "archive":
            _write_archive(fetched[0], folder / dataset.parts["all"], notes)
        elif dataset.unpack == "tables":
            for path, name in zip(fetched, dataset.parts.values(), strict=True):
                _write_table(path, folder / name)
        else:
            shutil.move(fetched[0], folder / dataset.parts["all"])
    except RuntimeError as error:  # zipfile raises it for encrypted files and unknown methods
        raise CorpusError(f"{dataset.name}: the archive cannot be unpacked: {error}") from error
    except (*_DAMAGE_ERRORS, OSError) as error:
        # Decompressors raise OSError for damaged data too, but without an errno.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise CorpusError(f"{dataset.name}: the downloaded file is damaged: {error}") from error


def _write_splits(dataset: Dataset, path: Path, folder: Path) -> None:
    """Write the only file of a zip archive, cut into training, validation and test text."""
    with zipfile.ZipFile(path) as archive:
        member = next((info for info in archive.infolist() if info.filename == dataset.name), None)
        if member is None:
            raise CorpusError(f"{dataset.name}: the archive holds no file of that name")
        with archive.open(member) as source:
            data = b"".join(_blocks(source, dataset.name, _unpacked_limit(path)))
    algorithm, _, published = (dataset.files[0].member_hash or "sha256:").partition(":")
    if published and hashlib.new(algorithm, data).hexdigest() != published:
        raise CorpusError(f"{dataset.name}: the text in the archive is not the published one")
    ends = [_character_begin(data, int(len(data) * share)) for share in SPLIT_SHARES]
    for name, begin, end in zip(dataset.parts.values(), [0, *ends], [*ends, None], strict=True):
        (folder / name).write_bytes(data[begin:end])


def _character_begin(data: bytes, index: int) -> int:
    """Return the last index up to `index` (at most 3 less) where a UTF-8 character begins."""
    while 0 < index < len(data) and 0x80 <= data[index] < 0xC0:
        index -= 1
    return index


def _write_reviews(dataset: Dataset, path: Path, folder: Path) -> None:
    """Write the reviews of aclImdb as tables, in the order of their numbers."""
    pattern = re.compile(r"aclImdb/(train|test)/(pos|neg|unsup)/(\d{1,6})_(\d{1,2})\.txt")
    reviews: dict[str, list[tuple[str, int, str, str]]] = {name: [] for name in dataset.parts}
    limit = _unpacked_limit(path)
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            match = pattern.fullmatch(member.name)
            if match is None or not member.isreg():
                continue
            split, label, number, rating = match.groups()
            source = archive.extractfile(member)
            assert source is not None  # because the member is a regular file
            text = b"".join(_blocks(source, dataset.name, limit)).decode("utf-8")
            limit -= len(text)
            part = "unsup" if label == "unsup" else split
            reviews[part].append((label, int(number), rating, text))
    for part, rows in reviews.items():
        if not rows:
            raise CorpusError(f"{dataset.name}: the archive holds no reviews for {part}")
        with (folder / dataset.parts[part]).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            labelled = part != "unsup"
            writer.writerow(("label", "rating", "text") if labelled else ("text",))
            # Sorted by number, so that labels alternate and the first rows contain both.
            for label, _, rating, text in sorted(rows, key=lambda row: (row[1], row[0])):
                writer.writerow((label, rating, text) if labelled else (text,))


def _write_table(path: Path, target: Path) -> None:
    """Copy a table, with its column "sentence" renamed to "text" as in the other data sets."""
    with path.open("rb") as source, target.open("wb") as file:
        file.write(source.readline().replace(b"sentence", b"text"))
        shutil.copyfileobj(source, file, BLOCK)


def _write_book(dataset: Dataset, path: Path, target: Path) -> None:
    """Write the book itself: the text between the marks that Project Gutenberg adds."""
    text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    mark = r"^\*\*\* ?{} OF TH(?:E|IS) PROJECT GUTENBERG EBOOK.*?\*\*\*[^\n]*$"
    start = re.search(mark.format("START"), text, re.M | re.S)
    end = re.search(mark.format("END"), text, re.M)
    if start is None or end is None or end.start() <= start.end():
        raise CorpusError(
            f"{dataset.name}: the downloaded file is not a book of Project Gutenberg; fetch its "
            "text by address instead"
        )
    target.write_text(text[start.end() : end.start()].strip() + "\n", "utf-8", newline="\n")


def _write_archive(path: Path, folder: Path, notes: list[str]) -> None:
    """Write the regular files of an archive below `folder`; skip links, devices, unsafe paths."""
    folder.mkdir()
    limit = _unpacked_limit(path)
    count = 0
    unsafe = []
    for name, source in _members(path):
        relative = _safe_path(name)
        if relative is None:
            unsafe.append(printable(name))
            continue
        count += 1
        if count > MOST_FILES:
            raise CorpusError(f"the archive holds more than {MOST_FILES:,} files")
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise CorpusError(f"the archive holds {printable(name)} twice")
        with target.open("wb") as file:
            for block in _blocks(source, printable(name), limit):
                limit -= len(block)
                file.write(block)
    if not count:
        raise CorpusError("the archive holds no files")
    if unsafe:
        notes.append(f"left out because of unsafe names: {enumerated(unsafe, 'file')}")


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                kind = info.external_attr >> 28  # on Unix: 8 is a file, 10 a link
                if not info.is_dir() and kind in (0, 8):
                    with archive.open(info) as source:
                        yield info.filename, source
        return
    with tarfile.open(path) as archive_:
        for member in archive_:
            if member.isreg():
                with contextlib.closing(archive_.extractfile(member)) as inner:  # type: ignore[type-var]
                    assert inner is not None
                    yield member.name, inner
        # tarfile stops at the last member, but decompressors check their data at its end.
        unpacked: Any = archive_.fileobj
        for _ in _blocks(unpacked, "after its last file", _unpacked_limit(path)):
            pass


def _safe_path(name: str) -> Path | None:
    """Return a member's name as a path that stays below a folder, or None if it could leave it."""
    pure = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in pure.parts if part != "."]
    unsafe = any(part == ".." or re.search("[:\0-\x1f\x7f]", part) for part in parts)
    if pure.is_absolute() or unsafe or not parts:
        return None
    return Path(*parts)


def _unpacked_limit(path: Path) -> int:
    return min(MOST_BYTES, max(10_000_000, MAX_EXPANSION_RATIO * path.stat().st_size))


def _blocks(source: IO[bytes], name: str, limit: int) -> Iterator[bytes]:
    done = 0
    while block := source.read(BLOCK):
        done += len(block)
        if done > limit:
            raise CorpusError(f"{name}: the archive unpacks to more than a text usually does")
        yield block
