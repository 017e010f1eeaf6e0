"""Counting, encoding and splitting a text into a folder of the cache.

Knows nothing about where that folder lies; whatever the size of the text, memory stays bounded.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from chargen.errors import CorpusError, VocabularyError
from chargen.storage.directories import sync_file
from chargen.text import builtin
from chargen.text.cache import IDS, META
from chargen.text.config import CorpusConfig
from chargen.text.files import Advance, Source, raw_blocks
from chargen.text.formats import DELIMITERS, Dialect
from chargen.text.labels import SymbolOf, odd_labels
from chargen.text.sources import check_marked, read
from chargen.text.splitting import split_point
from chargen.text.symbols import MOST_LABELS, SEPARATOR
from chargen.text.tables import open_table
from chargen.text.vocabulary import (
    CODE_POINTS,
    ByteVocabulary,
    CharVocabulary,
    RawVocabulary,
    Vocabulary,
    code_points,
)

FORMAT = 1

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the bytes done and the bytes in all."""

_BLOCK = 1 << 20  # ids written at a time


@dataclass
class Builder:
    """The work behind one `chargen.text.corpus.load_corpus`, stage by stage."""

    name: str  # fit for a folder
    label: str  # for people
    sources: list[Source]  # none of them a stream
    valid: list[Source]  # what to validate on, if that is another text
    config: CorpusConfig  # this and the rest as `load_corpus` takes them
    vocabulary: Vocabulary | None
    reverse: bool
    minimum: int
    progress: Progress | None

    def key(self) -> str:
        """SHA-256 over the text and everything that decides its ids."""
        advance = self._advance("reading", self.sources + self.valid)
        config = self.config
        parts = {
            "format": FORMAT,
            "text": fingerprint(self.sources, config, advance),
            "valid": fingerprint(self.valid, config, advance) if self.valid else None,
            "fraction": None if self.valid else config.valid_fraction,
            **({"valid_of_each": True} if self._of_each else {}),
            "level": config.level,
            "min_count": config.min_count,
            "vocabulary": None if self.vocabulary is None else self.vocabulary.to_json(),
            "reverse": self.reverse,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def build(self, folder: Path) -> None:
        """Write `IDS` and `META` into `folder`.

        Raises `CorpusError` for text that cannot be read, is too small or changes meanwhile.
        """
        notes: list[str] = []
        counted, vocabulary = self._vocabulary(notes)
        path = folder / IDS
        with path.open("wb") as file:
            advance = self._advance("encoding", self.sources + self.valid)
            starts: list[int] = []
            symbol_of = vocabulary.label_symbol if vocabulary.labels else None
            texts = self._texts(file, starts, notes, advance, symbol_of)
            characters, length = _encode(file, vocabulary, texts, self.label, notes)
            if counted not in (None, characters):
                raise CorpusError(f"{self.label} changed while it was being read; try again")
            self.check_size(characters)
            more = 0
            if self.valid:
                texts = read(self.valid, self.config, notes, advance, symbol_of=symbol_of)
                valid = self.valid[0].name
                more, _ = _encode(file, vocabulary, texts, valid, notes)
                if not more:
                    raise CorpusError(f"{valid} is empty: it cannot be used for validation")
            sync_file(file)
        ids: npt.NDArray[Any] = np.memmap(path, dtype=vocabulary.dtype, mode="r")
        if self.valid:
            split = length
        elif self._of_each:
            bounds = [start // vocabulary.dtype.itemsize for start in starts] + [length]
            ids, split = _last_of_each(path, ids, bounds, vocabulary, self.config, notes)
        else:
            split = split_point(ids, vocabulary, self.config)
        if self.reverse:
            _write_again(path, [ids[:split][::-1], ids[split:][::-1]])
        meta = {
            "format": FORMAT,
            "name": self.name,
            "split": split,
            "total": len(ids),
            "characters": characters + more,
            "sources": [source.name for source in self.sources + self.valid],
            "notes": list(dict.fromkeys(notes)),  # each pass over the text notes the same
            "vocabulary": vocabulary.to_json(),
        }
        with (folder / META).open("w", encoding="utf-8") as out:
            json.dump(meta, out)
            sync_file(out)

    @property
    def _of_each(self) -> bool:
        """Whether the end of each source is kept for validation."""
        config = self.config
        several = len(self.sources) > 1 and not self.valid
        return several and config.valid_of_each and config.valid_fraction > 0

    def _texts(
        self,
        file: IO[bytes],
        starts: list[int],
        notes: list[str],
        advance: Advance | None,
        symbol_of: SymbolOf | None,
    ) -> Iterator[str]:
        """What `read` gives; `starts` gets the place in `file` where what is next read will stand.

        One place is that of the text, or several are those of the sources.
        """
        config, seen, last = self.config, set[str](), "\n"
        for sources in [[one] for one in self.sources] if self._of_each else [self.sources]:
            if last != "\n" and config.documents is None and not config.raw_bytes:
                yield (last := "\n")
            starts.append(file.tell())
            for text in read(sources, config, notes, advance, seen, symbol_of):
                last = text[-1]
                yield text
        check_marked(self.sources, config, seen)

    def check_size(self, characters: int) -> None:
        """Refuse a text with fewer characters than `minimum`."""
        if not characters:
            raise CorpusError(f"{self.label} is empty: there is no text in it")
        if characters < self.minimum:
            raise CorpusError(
                f"{self.label} has {characters} characters; at least {self.minimum} are needed"
            )

    def _advance(self, stage: str, sources: list[Source]) -> Advance | None:
        if self.progress is None:
            return None
        progress = self.progress
        total = sum(source.size for source in sources)
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress(stage, min(done, total), total)

        progress(stage, 0, total)
        return advance

    def _vocabulary(self, notes: list[str]) -> tuple[int | None, Vocabulary]:
        """The vocabulary, and the number of characters if they had to be counted for it."""
        documents = self.config.documents is not None
        if self.vocabulary is not None:
            return None, self.vocabulary
        if self.config.raw_bytes:
            return None, RawVocabulary(documents)
        labels: set[str] = set()
        labelled = 0

        def collect(label: str) -> str:
            nonlocal labelled
            labels.add(label)
            labelled += 1
            if len(labels) > MOST_LABELS:
                raise VocabularyError(
                    f"--label-column {self.config.label_column} has more than {MOST_LABELS:,} "
                    "different labels: does it hold labels?"
                )
            return ""

        byte = self.config.level == "byte"
        if byte and not self.config.label_column:
            return None, ByteVocabulary(documents)
        counts = np.zeros(CODE_POINTS, dtype=np.int64)
        advance = self._advance("counting", self.sources)
        seen: set[str] = set()
        for text in read(self.sources, self.config, notes, advance, seen, collect):
            found = np.bincount(code_points(text))
            counts[: found.size] += found
        if self.config.label_column and not labels:
            raise CorpusError(
                f"{self.label}: no row has a label in its column {self.config.label_column!r}"
            )
        names = sorted(labels)
        notes += odd_labels(self.label, names, labelled)
        if byte:
            return None, ByteVocabulary(documents, names)
        check_marked(self.sources, self.config, seen)
        counts[ord(SEPARATOR)] = 0
        total = int(counts.sum())
        self.check_size(total)
        return total, CharVocabulary.build(counts, self.config.min_count, documents, names)


def fingerprint(
    sources: Iterable[Source], config: CorpusConfig, advance: Advance | None = None
) -> str:
    """SHA-256 over the sources' bytes and how they are read; their names do not count."""
    column = config.text_column[0] if len(config.text_column) == 1 else config.text_column or None
    options = (config.encoding, config.errors, column, config.normalize)
    version = unicodedata.unidata_version if config.normalize else None
    cleaning = () if config.clean is None else (config.clean,)  # options of later versions
    table = () if config.delimiter is None and config.header else (config.delimiter, config.header)
    quoting = ("quoting", config.quoting) if config.quoting else ()
    raw = ("raw bytes",) if config.raw_bytes else ()
    labels = ("labels", config.label_column) if config.label_column else ()
    whole = (*options, config.documents, version, *cleaning, *table, *quoting, *raw, *labels)
    digest = hashlib.sha256(repr(whole).encode())
    for source in sources:
        kind = "" if source.texts is None else "given "
        content = hashlib.sha256(f"{kind}{source.form} {source.compression}\n".encode())
        if source.form in DELIMITERS and not config.raw_bytes:
            dialect = open_table(source, config, []).dialect
            if dialect != Dialect(source.form, DELIMITERS[source.form], header=True):
                content.update(repr(tuple(dialect)).encode())  # once there was only this one
        if source.form == "topics":
            content.update(repr(builtin.topics()).encode())
        elif source.texts is not None:
            for text in source.texts:
                content.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))
        else:
            for block in raw_blocks(source, advance):
                content.update(block)
        digest.update(content.digest())
    return digest.hexdigest()


def _encode(
    file: IO[bytes], vocabulary: Vocabulary, texts: Iterable[str], label: str, notes: list[str]
) -> tuple[int, int]:
    """Append the ids; how many characters (without separators) and ids that were."""
    characters = length = unknown = 0
    for text in texts:
        ids = vocabulary.encode(text)
        file.write(ids.data)
        labels = ids.size - vocabulary.count_predicted(ids)
        characters += len(text) - text.count(SEPARATOR) - labels
        length += ids.size
        if vocabulary.unknown_id is not None:
            unknown += int(np.count_nonzero(ids == vocabulary.unknown_id))
    if unknown:
        notes.append(
            f"{unknown:,} of the {characters:,} characters of {label} are read as unknown"
            f" ({unknown / characters:.2%})"
        )
    return characters, length


def _last_of_each(
    path: Path,
    ids: npt.NDArray[Any],
    bounds: list[int],
    vocabulary: Vocabulary,
    config: CorpusConfig,
    notes: list[str],
) -> tuple[npt.NDArray[Any], int]:
    """Write the ids again, the last share of each source behind all the rest; and where it begins.

    A source that cannot be split is training text. Where none can (each is one document), the last
    ones are kept whole for validation.
    """
    parts = []
    for first, end in pairwise(bounds):
        try:
            cut = first + split_point(ids[first:end], vocabulary, config)
        except CorpusError:
            cut = end
        parts.append((first, cut, end))
    if all(cut == end for _, cut, end in parts):
        return ids, split_point(ids, vocabulary, config)
    notes.append(
        f"validation text: the last {config.valid_fraction:.0%} of each of {len(parts):,} files"
    )
    newline = vocabulary.encode("\n")
    of_lines = config.documents is None and not config.raw_bytes
    training: list[npt.NDArray[Any]] = []
    for first, cut, end in parts:
        training.append(ids[first:cut])
        if of_lines and cut < end and ids[cut - 1] != newline[0]:
            training.append(newline)  # the next source does not go on in this line
    _write_again(path, [*training, *(ids[cut:end] for _, cut, end in parts)])
    return np.memmap(path, dtype=vocabulary.dtype, mode="r"), sum(map(len, training))


def _write_again(path: Path, parts: Iterable[npt.NDArray[Any]]) -> None:
    """Replace the file of ids by these parts of it, one after the other."""
    written = path.with_name("written.bin")
    with written.open("wb") as file:
        for part in parts:
            for begin in range(0, len(part), _BLOCK):
                file.write(np.ascontiguousarray(part[begin : begin + _BLOCK]).data)
        sync_file(file)
    written.replace(path)
