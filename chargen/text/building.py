"""Count, encode and split a text, and write the result into a folder of the cache.

The caller chooses the folder. Memory stays bounded for texts of any size.
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
from chargen.text.labels import SymbolOf, label_notes
from chargen.text.sources import read, require_marker
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
"""Called with the name of the stage, the bytes done and the total number of bytes."""

_BLOCK = 1 << 20  # ids written at a time


@dataclass
class Builder:
    """Encoder of one text, which `chargen.text.corpus.load_corpus` runs stage by stage."""

    name: str  # valid as the name of a folder
    display_name: str  # name for messages
    sources: list[Source]  # without streams
    valid: list[Source]  # the validation text, if it is separate from `sources`
    config: CorpusConfig  # this and the fields below are parameters of `load_corpus`
    vocabulary: Vocabulary | None
    reverse: bool
    min_characters: int
    progress: Progress | None

    def key(self) -> str:
        """Return the SHA-256 hash of the text and of everything that determines its ids."""
        advance = self._progress_callback("reading", self.sources + self.valid)
        config = self.config
        parts = {
            "format": FORMAT,
            "text": fingerprint(self.sources, config, advance),
            "valid": fingerprint(self.valid, config, advance) if self.valid else None,
            "fraction": None if self.valid else config.valid_fraction,
            **({"valid_of_each": True} if self._splits_each_source else {}),
            "level": config.level,
            "min_count": config.min_count,
            "vocabulary": None if self.vocabulary is None else self.vocabulary.to_json(),
            "reverse": self.reverse,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def build(self, folder: Path) -> None:
        """Write the files `IDS` and `META` into `folder`.

        Raises `CorpusError` if the text cannot be read, is too small or changes while it is read.
        """
        notes: list[str] = []
        counted, vocabulary = self._counted_vocabulary(notes)
        path = folder / IDS
        with path.open("wb") as file:
            advance = self._progress_callback("encoding", self.sources + self.valid)
            starts: list[int] = []
            symbol_of = vocabulary.label_symbol if vocabulary.labels else None
            texts = self._texts(file, starts, notes, advance, symbol_of)
            characters, length = _encode(file, vocabulary, texts, self.display_name, notes)
            if counted not in (None, characters):
                raise CorpusError(f"{self.display_name} changed while it was being read; try again")
            self.check_size(characters)
            valid_characters = 0
            if self.valid:
                texts = read(self.valid, self.config, notes, advance, symbol_of=symbol_of)
                valid_name = self.valid[0].name
                valid_characters, _ = _encode(file, vocabulary, texts, valid_name, notes)
                if not valid_characters:
                    raise CorpusError(f"{valid_name} is empty: it cannot be used for validation")
            sync_file(file)
        ids: npt.NDArray[Any] = np.memmap(path, dtype=vocabulary.dtype, mode="r")
        if self.valid:
            split = length
        elif self._splits_each_source:
            bounds = [start // vocabulary.dtype.itemsize for start in starts] + [length]
            ids, split = _split_each_source(path, ids, bounds, vocabulary, self.config, notes)
        else:
            split = split_point(ids, vocabulary, self.config)
        if self.reverse:
            _replace_ids_file(path, [ids[:split][::-1], ids[split:][::-1]])
        meta = {
            "format": FORMAT,
            "name": self.name,
            "split": split,
            "total": len(ids),
            "characters": characters + valid_characters,
            "sources": [source.name for source in self.sources + self.valid],
            "notes": list(dict.fromkeys(notes)),  # each pass over the text adds the same notes
            "vocabulary": vocabulary.to_json(),
        }
        with (folder / META).open("w", encoding="utf-8") as out:
            json.dump(meta, out)
            sync_file(out)

    @property
    def _splits_each_source(self) -> bool:
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
        """Yield the text of the sources; append to `starts` the offsets in `file` where ids begin.

        There is one offset per source if each source is split separately, otherwise a single one.
        """
        config, seen, last = self.config, set[str](), "\n"
        for sources in (
            [[source] for source in self.sources] if self._splits_each_source else [self.sources]
        ):
            if last != "\n" and config.documents is None and not config.raw_bytes:
                yield (last := "\n")
            starts.append(file.tell())
            for text in read(sources, config, notes, advance, seen, symbol_of):
                last = text[-1]
                yield text
        require_marker(self.sources, config, seen)

    def check_size(self, characters: int) -> None:
        """Raise `CorpusError` if `characters` is 0 or less than `min_characters`."""
        if not characters:
            raise CorpusError(f"{self.display_name} is empty: there is no text in it")
        if characters < self.min_characters:
            raise CorpusError(
                f"{self.display_name} has {characters} characters; at least {self.min_characters} "
                "are needed"
            )

    def _progress_callback(self, stage: str, sources: list[Source]) -> Advance | None:
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

    def _counted_vocabulary(self, notes: list[str]) -> tuple[int | None, Vocabulary]:
        """Return the number of characters (None if they were not counted) and the vocabulary."""
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
        advance = self._progress_callback("counting", self.sources)
        seen: set[str] = set()
        for text in read(self.sources, self.config, notes, advance, seen, collect):
            text_counts = np.bincount(code_points(text))
            counts[: text_counts.size] += text_counts
        if self.config.label_column and not labels:
            raise CorpusError(
                f"{self.display_name}: no row has a label in its column "
                f"{self.config.label_column!r}"
            )
        names = sorted(labels)
        notes += label_notes(self.display_name, names, labelled)
        if byte:
            return None, ByteVocabulary(documents, names)
        require_marker(self.sources, self.config, seen)
        counts[ord(SEPARATOR)] = 0
        total = int(counts.sum())
        self.check_size(total)
        return total, CharVocabulary.build(counts, self.config.min_count, documents, names)


def fingerprint(
    sources: Iterable[Source], config: CorpusConfig, advance: Advance | None = None
) -> str:
    """Return the SHA-256 hash of the sources' bytes, not names, and of how they are read."""
    column = config.text_column[0] if len(config.text_column) == 1 else config.text_column or None
    options = (config.encoding, config.errors, column, config.normalize)
    version = unicodedata.unidata_version if config.normalize else None
    # Options added later are left out at their defaults, so that earlier keys stay valid.
    cleaning = () if config.clean is None else (config.clean,)
    table = () if config.delimiter is None and config.header else (config.delimiter, config.header)
    quoting = ("quoting", config.quoting) if config.quoting else ()
    raw = ("raw bytes",) if config.raw_bytes else ()
    labels = ("labels", config.label_column) if config.label_column else ()
    settings = (*options, config.documents, version, *cleaning, *table, *quoting, *raw, *labels)
    digest = hashlib.sha256(repr(settings).encode())
    for source in sources:
        kind = "" if source.texts is None else "given "
        content = hashlib.sha256(f"{kind}{source.form} {source.compression}\n".encode())
        if source.form in DELIMITERS and not config.raw_bytes:
            dialect = open_table(source, config, []).dialect
            # The usual dialect was once the only one; leaving it out keeps earlier keys valid.
            if dialect != Dialect(source.form, DELIMITERS[source.form], header=True):
                content.update(repr(tuple(dialect)).encode())
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
    file: IO[bytes],
    vocabulary: Vocabulary,
    texts: Iterable[str],
    display_name: str,
    notes: list[str],
) -> tuple[int, int]:
    """Append the ids; return the numbers of characters (without separators and labels) and ids."""
    characters = length = unknown = 0
    for text in texts:
        ids = vocabulary.encode(text)
        file.write(ids.data)
        label_count = ids.size - vocabulary.count_predicted(ids)
        characters += len(text) - text.count(SEPARATOR) - label_count
        length += ids.size
        if vocabulary.unknown_id is not None:
            unknown += int(np.count_nonzero(ids == vocabulary.unknown_id))
    if unknown:
        notes.append(
            f"{unknown:,} of the {characters:,} characters of {display_name} are read as unknown"
            f" ({unknown / characters:.2%})"
        )
    return characters, length


def _split_each_source(
    path: Path,
    ids: npt.NDArray[Any],
    bounds: list[int],
    vocabulary: Vocabulary,
    config: CorpusConfig,
    notes: list[str],
) -> tuple[npt.NDArray[Any], int]:
    """Move the last share of each source to the end; return the ids and where these shares begin.

    A source that cannot be split is training text. If no source can be split (each is one
    document), the last documents are kept whole for validation.
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
    share = f"{100 * config.valid_fraction:g}%"
    notes.append(f"validation text: the last {share} of each of {len(parts):,} files")
    newline = vocabulary.encode("\n")
    needs_newline = config.documents is None and not config.raw_bytes
    training: list[npt.NDArray[Any]] = []
    for first, cut, end in parts:
        training.append(ids[first:cut])
        if needs_newline and cut < end and ids[cut - 1] != newline[0]:
            training.append(newline)  # the next source starts on a new line
    _replace_ids_file(path, [*training, *(ids[cut:end] for _, cut, end in parts)])
    return np.memmap(path, dtype=vocabulary.dtype, mode="r"), sum(map(len, training))


def _replace_ids_file(path: Path, parts: Iterable[npt.NDArray[Any]]) -> None:
    """Replace the file of ids at `path` by the concatenation of `parts`."""
    written = path.with_name("written.bin")
    with written.open("wb") as file:
        for part in parts:
            for begin in range(0, len(part), _BLOCK):
                file.write(np.ascontiguousarray(part[begin : begin + _BLOCK]).data)
        sync_file(file)
    written.replace(path)
