"""What a corpus argument means: names, files, folders and pipes, read as one stream of text.

Knows nothing about ids; it hands over strings of bounded length.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from chargen.errors import ConfigError, CorpusError, brief, did_you_mean, nearest, shown
from chargen.text import builtin, datasets, fetching
from chargen.text.config import WAYS, CorpusConfig
from chargen.text.decoding import clean, decoded, normalized
from chargen.text.files import (
    COMPRESSIONS,
    Advance,
    Source,
    byte_blocks,
    from_path,
    refuse_text,
    unreadable,
)
from chargen.text.folders import text_files
from chargen.text.formats import TABLES, lines
from chargen.text.given import given_texts
from chargen.text.html import clean_html
from chargen.text.labels import SymbolOf, labelled_texts
from chargen.text.symbols import SEPARATOR
from chargen.text.tables import open_table

_END_LINE = f"\n{SEPARATOR}\n"  # ends a row where documents end at lines
CHUNK = 1 << 20  # characters handed over at a time, at most


def resolve(
    corpora: Sequence[str], config: CorpusConfig, notes: list[str] | None = None
) -> list[Source]:
    """Find what the corpus arguments name, in the order in which it will be read.

    They are ``python-docs``, ``python-stdlib``, files, folders, or ``-`` for standard input. These
    names win over a file in the current folder; ``./python-docs`` is the file. Names and addresses
    of `chargen.text.datasets`, which may have to be fetched, do not. `notes` gets a sentence about
    files that were passed over.

    Raises `CorpusError` for what is missing, empty or unreadable; `ConfigError` when documents are
    rows and a source has none.
    """
    notes = [] if notes is None else notes
    if not corpora:
        raise ConfigError("name at least one corpus: a file, a folder, python-docs or -")
    if list(corpora).count("-") > 1:
        raise ConfigError("- (standard input) can be read only once")
    sources = [source for one in corpora for source in _resolve_one(str(one), config, notes)]
    if config.documents == "rows":
        option = "--label-column" if config.label_column else "--documents rows"
        for source in sources:
            if source.form not in TABLES.values():
                raise ConfigError(
                    f"{option} needs .csv, .tsv, .jsonl or .json files; {source.name} is none"
                )
    return sources


def refuse_table_options(sources: Iterable[Source], config: CorpusConfig) -> None:
    """Raise `ConfigError` where options of tables were given, and no source is one."""
    given = config.table_options
    if given and not any(source.form in TABLES.values() for source in sources):
        raise ConfigError(f"{given[0]} needs .csv, .tsv, .jsonl or .json files")


def from_texts(texts: Any) -> Source:
    """Texts from Python as a source: one is read as a file of it, several as rows of a table."""
    found = tuple(given_texts(texts))
    form = "plain" if len(found) == 1 else "texts"
    return Source("the given text", form=form, size=sum(map(len, found)), texts=found)


def is_there(argument: str) -> bool:
    """Whether a corpus lies here to be read again: no pipe, and nothing that is to be fetched."""
    if argument == "-" or argument in builtin.NAMES:
        return argument != "-"
    if reference := fetching.asked(argument):
        return fetching.cached(reference) is not None
    with contextlib.suppress(OSError):
        return Path(argument).is_file() or Path(argument).is_dir()
    return False


def are_tables(corpora: Sequence[str], config: CorpusConfig) -> bool:
    """Whether each source is a table, whose rows can be documents."""
    return all(source.form in TABLES.values() for source in resolve(corpora, config))


def have_column(corpora: Sequence[str], config: CorpusConfig, column: str) -> bool:
    """Whether each source, a table, can have this column: of JSON any row may."""

    def has(source: Source) -> bool:
        if source.form in ("json", "jsonl"):
            return True
        table = open_table(source, config, [], config.max_bytes)
        return not source.stream and column in table.columns

    return all(map(has, resolve(corpora, config)))


def _resolve_one(argument: str, config: CorpusConfig, notes: list[str]) -> list[Source]:
    if argument == "-":
        return [Source("standard input", stream=True)]
    if argument in builtin.NAMES:
        return builtin.resolve_builtin(argument)
    if not argument:
        raise CorpusError("the name of the corpus is empty")
    refuse_text(argument)
    if reference := fetching.asked(argument):
        found = fetching.paths(reference, notes.append)
        return [source for path in found for source in _from_path(path, path.name, config, notes)]
    return _from_path(Path(argument), argument, config, notes)


def _from_path(path: Path, argument: str, config: CorpusConfig, notes: list[str]) -> list[Source]:
    try:
        if path.is_dir():
            # In a wide encoding no file looks binary.
            as_told = (
                replace(config, raw_bytes=False, encoding="utf-16") if config.raw_bytes else config
            )
            return text_files(path, as_told, notes)
        if not os.path.lexists(path):
            raise _missing(argument)
    except (OSError, ValueError) as error:
        raise unreadable(shown(argument), error) from error
    source = from_path(path)
    if source.size == 0 and not source.stream:
        raise CorpusError(f"{source.name} is empty")
    return [source]


def _missing(argument: str) -> CorpusError:
    names = (*builtin.NAMES, *datasets.CATALOGUE)
    there = list(names)
    folder = Path(argument).parent
    with contextlib.suppress(OSError, ValueError):
        there += [entry.name for entry in os.scandir(folder)][:10_000]
    near = nearest(Path(argument).name, there)
    if near is None:
        return CorpusError(f"{shown(argument)} does not exist")
    close = near if near in names else folder / near
    return CorpusError(f"{shown(argument)} does not exist; did you mean {shown(close)}?")


def corpus_name(corpora: Sequence[str]) -> str:
    """A short name for the corpus that can be the name of a folder."""
    first = corpora[0] if corpora else "texts"
    if reference := fetching.asked(first):
        first = reference.name
    name = "stdin" if first == "-" else Path(os.path.abspath(first)).name  # noqa: PTH100
    if first not in builtin.NAMES and not Path(first).is_dir():
        for endings in (COMPRESSIONS, (*TABLES, ".txt", ".text", ".md", ".log")):
            stem, ending = os.path.splitext(name)  # noqa: PTH122
            name = stem if ending.lower() in endings and stem else name
    name = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:80] or "corpus"
    return name if len(corpora) < 2 else f"{name}-and-{len(corpora) - 1}-more"


def read(
    sources: Iterable[Source],
    config: CorpusConfig,
    notes: list[str] | None = None,
    advance: Advance | None = None,
    seen: set[str] | None = None,
    symbol_of: SymbolOf | None = None,
) -> Iterator[str]:
    """Read the sources that `resolve` found as one stream of text.

    When documents are kept apart each is followed by exactly one `SEPARATOR`; otherwise a newline
    stands between sources. `notes` gets a sentence about what was read otherwise than asked, and
    `advance` hears of the bytes consumed on disk. Raises `CorpusError` for bytes or rows that are
    not text, damaged archives, and files that change meanwhile. The marker that ends documents goes
    to `seen` where it occurs (see `check_marked`). The symbol that `symbol_of` gives for the label
    of a row comes before its text.

    Yields
    ------
    str
        At most 1,048,576 characters.
    """
    notes = [] if notes is None else notes
    seen = set() if seen is None else seen
    return gathered(_Reader(config, notes, advance, seen, symbol_of).stream(sources))


def read_all(
    corpora: Sequence[str],
    config: CorpusConfig,
    notes: list[str] | None = None,
    symbol_of: SymbolOf | None = None,
) -> str:
    """All the text of some sources, pipes among them, as one string; see `resolve` and `read`.

    Options of tables are a `ConfigError` where no source is one.
    """
    found = resolve(corpora, config, notes)
    refuse_table_options(found, config)
    return "".join(read(found, config, notes, symbol_of=symbol_of))


class _Reader(NamedTuple):
    """What `read` was asked, while it reads."""

    config: CorpusConfig
    notes: list[str]
    advance: Advance | None
    seen: set[str]
    symbol_of: SymbolOf | None

    def stream(self, sources: Iterable[Source]) -> Iterator[str]:
        """The text of all sources, with what stands between them."""
        config = self.config
        end = SEPARATOR if config.documents is not None else "" if config.raw_bytes else "\n"
        last = end
        for source in sources:
            if end and last != end:  # what came before goes on to its own end, but not into this
                yield end
                last = end
            pieces = self.pieces(source)
            if config.normalize:
                pieces = normalized(pieces, config.normalize)
            cleaned_by_line = config.clean == "html" and source.form == "plain"
            if config.documents == "lines" and not cleaned_by_line:
                pieces = lines_apart(pieces)
            elif config.marker or config.documents == "blank-lines":
                pieces = _documents(lines(pieces), config.marker, self.seen)
            for piece in pieces:
                last = piece[-1]
                yield piece
        if config.documents is not None and last != end:
            yield end

    def pieces(self, source: Source) -> Iterator[str]:
        """The text of one source, not empty, with `SEPARATOR` only where rows or topics end."""
        config = self.config
        if config.raw_bytes:
            if source.path is None and not source.stream:
                raise CorpusError(f"{source.name} is text: --raw-bytes reads files and pipes")
            blocks = byte_blocks(source, self.advance, config.max_bytes)
            # Each byte as the character of its number.
            yield from (block.decode("latin-1") for block in blocks)
        elif source.form in TABLES.values():
            yield from _rows(self._rows_of_table(source), config, "\n")
        elif source.form == "python":
            blocks = byte_blocks(source, self.advance, config.max_bytes)
            if text := builtin.decode_python(blocks, source.name, self.notes):
                yield text
        elif source.form == "topics" or source.texts is not None:
            yield from self._texts(source)
            if self.advance is not None:
                self.advance(source.size)
        else:
            found = decoded(source, config, self.notes, self.advance, config.max_bytes)
            yield from _plain(found, config)

    def _rows_of_table(self, source: Source) -> Iterator[tuple[str, str]]:
        config = self.config
        table = open_table(source, config, self.notes, config.max_bytes)
        if config.label_column and self.symbol_of:
            return labelled_texts(table, config.label_column, self.symbol_of, self.advance)
        return _unlabelled(table.texts(self.advance))

    def _texts(self, source: Source) -> Iterable[str]:
        """What lies in no file: the topics of Python's documentation, or texts from Python."""
        config = self.config
        if source.texts is not None:
            sound = _sound(source.texts, config.errors)
            if source.form == "plain":
                return _plain(sound, config)
            return _rows(_unlabelled(sound), config, SEPARATOR)
        between = SEPARATOR if config.documents == "files" else "\n\n"
        *others, last = builtin.topics()
        return [*chain.from_iterable((text, between) for text in others if text), last]


def check_marked(sources: Sequence[Source], config: CorpusConfig, seen: set[str]) -> None:
    """Raise `CorpusError` where documents end at a marker, and none was seen in the sources."""
    marker = config.marker
    if marker is None or seen:
        return
    names = ", ".join(source.name for source in sources[:3])
    more = f" and {len(sources) - 3:,} more" if len(sources) > 3 else ""
    raise CorpusError(
        f"--documents {brief(marker)}: no line of {names}{more} is exactly that, so no document "
        f"ends{did_you_mean(marker, WAYS)}"
    )


def _unlabelled(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    return (("", text) for text in texts)


def _sound(texts: Iterable[str], errors: str) -> Iterator[str]:
    """The texts that are not empty, without what is no text."""
    for place, text in enumerate(texts):
        if text:
            yield clean(text, errors, lambda at: f"texts[{place}], character {at},")  # noqa: B023


def _plain(pieces: Iterable[str], config: CorpusConfig) -> Iterable[str]:
    return _cleaned_lines(pieces, config.documents) if config.clean == "html" else pieces


def _rows(found: Iterable[tuple[str, str]], config: CorpusConfig, of_files: str) -> Iterator[str]:
    """Rows, each a label's symbol and a text, and an end: `of_files` where files are documents."""
    ends = {None: "\n", "lines": "\n", "files": of_files, "rows": SEPARATOR}
    end = ends.get(config.documents, _END_LINE)
    for symbol, row in found:
        if text := clean_html(row) if config.clean == "html" else row:
            yield symbol + text
            yield end


def _cleaned_lines(pieces: Iterable[str], documents: str | None) -> Iterator[str]:
    """Lines without HTML; where each is a document, breaks within one do not end it."""
    for line in lines(pieces):
        text = line.removesuffix("\n")
        text = text if text == documents else clean_html(text)
        end = "\n" if line.endswith("\n") else ""
        if documents == "lines":
            if not text:
                continue
            end = SEPARATOR
        if text or end:
            yield text + end


def lines_apart(pieces: Iterable[str]) -> Iterator[str]:
    """Every newline ends a document; lines without a character are none."""
    inside = False
    for piece in pieces:
        text = re.sub("\n+", SEPARATOR, piece)
        if not inside:
            text = text.removeprefix(SEPARATOR)
        if text:
            inside = text[-1] != SEPARATOR
            yield text


def _documents(fed: Iterable[str], marker: str | None, seen: set[str]) -> Iterator[str]:
    """Documents that end at lines which are the marker, or blank without one, or ends of rows.

    Those lines are left out, and so are empty ones where a document begins or ends. A marker that
    occurs is `seen`.
    """
    inside = False
    newlines = ""
    for line in fed:
        text = line.removesuffix("\n")
        if text == marker:
            seen.add(text)
        if text in (marker, SEPARATOR) or (marker is None and not text.strip()):
            if inside:
                yield SEPARATOR
            inside, newlines = False, ""
            continue
        if text:
            yield newlines + text
            inside, newlines = True, ""
        if inside:
            newlines += "\n"


def gathered(pieces: Iterable[str]) -> Iterator[str]:
    """Join small pieces and cut large ones: a folder of many small files is no slower."""
    held: list[str] = []
    length = 0
    for piece in pieces:
        for begin in range(0, len(piece), CHUNK):
            part = piece if len(piece) <= CHUNK else piece[begin : begin + CHUNK]
            if length + len(part) > CHUNK:
                yield "".join(held)
                held, length = [], 0
            held.append(part)
            length += len(part)
    if length:
        yield "".join(held)
