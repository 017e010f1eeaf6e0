"""Find the sources that corpus arguments name, and read them as one stream of text.

Arguments are names, files, folders and pipes. The stream consists of strings of bounded length, not
of ids.
"""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from chargen.errors import (
    ConfigError,
    CorpusError,
    OneDocumentError,
    brief,
    did_you_mean,
    nearest_name,
    printable,
)
from chargen.text import builtin, datasets, fetching
from chargen.text.config import DOCUMENT_MODES, CorpusConfig
from chargen.text.decoding import decode_source, normalized, replace_invalid
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

_SEPARATOR_LINE = f"\n{SEPARATOR}\n"  # ends a row if documents end at blank lines or a marker
CHUNK_CHARACTERS = 1 << 20  # most characters in a string of the stream


def resolve(
    corpora: Sequence[str], config: CorpusConfig, notes: list[str] | None = None
) -> list[Source]:
    """Find the sources that the corpus arguments name, in the order in which they are read.

    Arguments are ``python-docs``, ``python-stdlib``, files, folders, or ``-`` for standard input.
    These names take precedence over files in the current folder (``./python-docs`` is the file);
    files take precedence over names and addresses of `chargen.text.datasets`, which may have to be
    fetched. `notes` receives a sentence about skipped files, and about a glob without a folder.

    Raises `CorpusError` for sources that are missing, empty or unreadable; `ConfigError` without
    arguments, for a repeated ``-``, and if documents are rows but a source is not a table.
    """
    notes = [] if notes is None else notes
    if not corpora:
        raise ConfigError("name at least one corpus: a file, a folder, python-docs or -")
    if list(corpora).count("-") > 1:
        raise ConfigError("- (standard input) can be read only once")
    sources = [source for name in corpora for source in _resolve_one(str(name), config, notes)]
    if config.glob and not any(map(_may_be_folder, map(str, corpora))):
        more = f" and {len(corpora) - 1:,} more" if len(corpora) > 1 else ""
        shown = f"{printable(str(corpora[0]))}{more}"
        notes.append(f"--glob has no effect on {shown}: it chooses among the files of a folder")
    if config.documents == "rows":
        option = "--label-column" if config.label_column else "--documents rows"
        for source in sources:
            if source.form not in TABLES.values():
                raise ConfigError(
                    f"{option} needs .csv, .tsv, .jsonl or .json files; {source.name} is none"
                )
    return sources


def refuse_table_options(sources: Iterable[Source], config: CorpusConfig) -> None:
    """Raise `ConfigError` if table options were given but no source is a table."""
    options = config.table_options
    if options and not any(source.form in TABLES.values() for source in sources):
        raise ConfigError(f"{options[0]} needs .csv, .tsv, .jsonl or .json files")


def from_texts(texts: Any) -> Source:
    """Return texts from Python as a source, read as a file (one text) or as table rows."""
    checked = tuple(given_texts(texts))
    form = "plain" if len(checked) == 1 else "texts"
    return Source("the given text", form=form, size=sum(map(len, checked)), texts=checked)


def is_local(argument: str) -> bool:
    """Return whether a corpus is on this machine and can be read again: no pipe, no download."""
    if argument == "-" or argument in builtin.NAMES:
        return argument != "-"
    if reference := fetching.dataset_reference(argument):
        return fetching.cached(reference) is not None
    with contextlib.suppress(OSError):
        return Path(argument).is_file() or Path(argument).is_dir()
    return False


def are_tables(corpora: Sequence[str], config: CorpusConfig) -> bool:
    """Return whether each source is a table, so that its rows can be documents."""
    return all(source.form in TABLES.values() for source in resolve(corpora, config))


def have_column(corpora: Sequence[str], config: CorpusConfig, column: str) -> bool:
    """Return whether each table can have the column; JSON always can, a CSV pipe never."""

    def has(source: Source) -> bool:
        if source.form in ("json", "jsonl"):
            return True
        table = open_table(source, config, [])
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
    if reference := fetching.dataset_reference(argument):
        paths = fetching.fetch_paths(reference, notes.append)
        return [source for path in paths for source in _from_path(path, path.name, config, notes)]
    return _from_path(Path(argument), argument, config, notes)


def _from_path(path: Path, argument: str, config: CorpusConfig, notes: list[str]) -> list[Source]:
    try:
        if path.is_dir():
            # With a wide encoding, `text_files` leaves no file out as binary.
            any_bytes = (
                replace(config, raw_bytes=False, encoding="utf-16") if config.raw_bytes else config
            )
            return text_files(path, any_bytes, notes)
        if not os.path.lexists(path):
            raise _missing_error(argument)
    except (OSError, ValueError) as error:
        raise unreadable(printable(argument), error) from error
    source = from_path(path)
    if source.size == 0 and not source.stream:
        raise CorpusError(f"{source.name} is empty")
    return [source]


def _may_be_folder(argument: str) -> bool:
    return os.path.isdir(argument) or fetching.dataset_reference(argument) is not None  # noqa: PTH112


def _missing_error(argument: str) -> CorpusError:
    names = (*builtin.NAMES, *datasets.CATALOGUE)
    candidates = list(names)
    folder = Path(argument).parent
    with contextlib.suppress(OSError, ValueError):
        candidates += [entry.name for entry in os.scandir(folder)][:10_000]
    near = nearest_name(Path(argument).name, candidates)
    if near is None:
        return CorpusError(f"{printable(argument)} does not exist")
    suggestion = near if near in names else folder / near
    return CorpusError(
        f"{printable(argument)} does not exist; did you mean {printable(suggestion)}?"
    )


def corpus_name(corpora: Sequence[str]) -> str:
    """Return a short name for the corpus that can serve as the name of a folder."""
    first = corpora[0] if corpora else "texts"
    if reference := fetching.dataset_reference(first):
        first = reference.name
    name = "stdin" if first == "-" else Path(os.path.abspath(first)).name  # noqa: PTH100
    if first not in builtin.NAMES and not Path(first).is_dir():
        for endings in (COMPRESSIONS, (*TABLES, ".txt", ".text", ".md", ".log")):
            stem, ending = os.path.splitext(name)  # noqa: PTH122
            name = stem if ending.lower() in endings and stem else name
    # Marks are parts of letters, as are the vowel signs of Hindi and Thai, but not in \w.
    marks = "".join(c for c in name if unicodedata.category(c).startswith("M"))
    name = re.sub(rf"[^\w.{marks}-]+", "-", name).strip("-.")[:80] or "corpus"
    return name if len(corpora) < 2 else f"{name}-and-{len(corpora) - 1}-more"


def read(
    sources: Iterable[Source],
    config: CorpusConfig,
    notes: list[str] | None = None,
    advance: Advance | None = None,
    seen_markers: set[str] | None = None,
    symbol_of: SymbolOf | None = None,
) -> Iterator[str]:
    """Read the sources that `resolve` found as one stream of text.

    If documents are kept apart, exactly one `SEPARATOR` follows each; otherwise a newline stands
    between sources. The symbol that `symbol_of` returns for the label of a row precedes the row's
    text. `notes` receives a sentence about anything read differently than asked, and `advance` the
    number of bytes read from disk. If the marker that ends documents occurs, it is added to
    `seen_markers` (see `require_marker`). Raises `CorpusError` for bytes or rows that are not text,
    for damaged archives, and for files that change during reading.

    Yields
    ------
    str
        At most 1,048,576 characters.
    """
    notes = [] if notes is None else notes
    seen_markers = set() if seen_markers is None else seen_markers
    return rechunked(_Reader(config, notes, advance, seen_markers, symbol_of).stream(sources))


def read_all(
    corpora: Sequence[str],
    config: CorpusConfig,
    notes: list[str] | None = None,
    symbol_of: SymbolOf | None = None,
) -> str:
    """Return the text of all sources, including pipes, as one string; see `resolve` and `read`.

    Raises `ConfigError` if table options were given but no source is a table.
    """
    sources = resolve(corpora, config, notes)
    refuse_table_options(sources, config)
    return "".join(read(sources, config, notes, symbol_of=symbol_of))


class _Reader(NamedTuple):
    """The arguments of `read`, with the methods that read the sources."""

    config: CorpusConfig
    notes: list[str]
    advance: Advance | None
    seen_markers: set[str]
    symbol_of: SymbolOf | None

    def stream(self, sources: Iterable[Source]) -> Iterator[str]:
        """Yield the text of all sources, with separators or newlines between them."""
        config = self.config
        end = SEPARATOR if config.documents is not None else "" if config.raw_bytes else "\n"
        last = end
        for source in sources:
            if end and last != end:  # the previous source must not run on into this one
                yield end
                last = end
            pieces = self.pieces(source)
            if config.normalize:
                pieces = normalized(pieces, config.normalize)
            cleaned_by_line = config.clean == "html" and source.form == "plain"
            if config.documents == "lines" and not cleaned_by_line:
                pieces = separate_lines(pieces)
            elif config.marker or config.documents == "blank-lines":
                pieces = _separate_documents(lines(pieces), config.marker, self.seen_markers)
            for piece in pieces:
                last = piece[-1]
                yield piece
        if config.documents is not None and last != end:
            yield end

    def pieces(self, source: Source) -> Iterator[str]:
        """Yield nonempty pieces of one source, with `SEPARATOR` only where rows or topics end."""
        config = self.config
        if config.raw_bytes:
            if source.path is None and not source.stream:
                raise CorpusError(f"{source.name} is text: --raw-bytes reads files and pipes")
            blocks = byte_blocks(source, self.advance, config.max_bytes)
            # Latin-1 maps each byte to the character with the same number.
            yield from (block.decode("latin-1") for block in blocks)
        elif source.form in TABLES.values():
            yield from _row_pieces(self._rows_of_table(source), config, "\n")
        elif source.form == "python":
            blocks = byte_blocks(source, self.advance, config.max_bytes)
            if text := builtin.decode_python(blocks, source.name, self.notes):
                yield text
        elif source.form == "topics" or source.texts is not None:
            yield from self._texts(source)
            if self.advance is not None:
                self.advance(source.size)
        else:
            pieces = decode_source(source, config, self.notes, self.advance)
            yield from _plain_pieces(pieces, config)

    def _rows_of_table(self, source: Source) -> Iterator[tuple[str, str]]:
        config = self.config
        table = open_table(source, config, self.notes)
        if config.label_column and self.symbol_of:
            return labelled_texts(table, config.label_column, self.symbol_of, self.advance)
        return _with_empty_symbols(table.texts(self.advance))

    def _texts(self, source: Source) -> Iterable[str]:
        """Return text that is in no file: the topics of Python's documentation, or given texts."""
        config = self.config
        if source.texts is not None:
            texts = _valid_texts(source.texts, config.errors)
            if source.form == "plain":
                return _plain_pieces(texts, config)
            return _row_pieces(_with_empty_symbols(texts), config, SEPARATOR)
        end = SEPARATOR if config.documents == "files" else "\n\n"
        *others, last = builtin.topics()
        return [*chain.from_iterable((text, end) for text in others if text), last]


def require_marker(sources: Sequence[Source], config: CorpusConfig, seen_markers: set[str]) -> None:
    """Raise `OneDocumentError` if documents end at a marker that was not seen in the sources."""
    marker = config.marker
    if marker is None or seen_markers:
        return
    names = ", ".join(source.name for source in sources[:3])
    more = f" and {len(sources) - 3:,} more" if len(sources) > 3 else ""
    raise OneDocumentError(
        f"--documents {brief(marker)}: no line of {names}{more} is exactly that, so no document "
        f"ends{did_you_mean(marker, DOCUMENT_MODES)}"
    )


def _with_empty_symbols(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    return (("", text) for text in texts)


def _valid_texts(texts: Iterable[str], errors: str) -> Iterator[str]:
    """Yield the nonempty texts after `replace_invalid`."""
    for index, text in enumerate(texts):
        if text:
            yield replace_invalid(text, errors, lambda at: f"texts[{index}], character {at},")  # noqa: B023


def _plain_pieces(pieces: Iterable[str], config: CorpusConfig) -> Iterable[str]:
    return _cleaned_lines(pieces, config.documents) if config.clean == "html" else pieces


def _row_pieces(
    labelled_rows: Iterable[tuple[str, str]], config: CorpusConfig, file_end: str
) -> Iterator[str]:
    """Yield the symbol and text of each row, then its end: `file_end` if files are documents."""
    ends = {None: "\n", "lines": "\n", "files": file_end, "rows": SEPARATOR}
    end = ends.get(config.documents, _SEPARATOR_LINE)
    for symbol, row in labelled_rows:
        if text := clean_html(row) if config.clean == "html" else row:
            yield symbol + text
            yield end


def _cleaned_lines(pieces: Iterable[str], documents: str | None) -> Iterator[str]:
    """Yield lines without HTML; if each is a document, line breaks from its tags do not end it."""
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


def separate_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the text with a `SEPARATOR` for each run of newlines: nonempty lines are documents."""
    inside = False
    for piece in pieces:
        text = re.sub("\n+", SEPARATOR, piece)
        if not inside:
            text = text.removeprefix(SEPARATOR)
        if text:
            inside = text[-1] != SEPARATOR
            yield text


def _separate_documents(
    text_lines: Iterable[str], marker: str | None, seen_markers: set[str]
) -> Iterator[str]:
    """Yield documents that end at marker lines (blank lines without a marker) or ends of rows.

    These lines are left out, as are empty lines at the beginning and end of a document. If the
    marker occurs, it is added to `seen_markers`.
    """
    inside = False
    newlines = ""
    for line in text_lines:
        text = line.removesuffix("\n")
        if text == marker:
            seen_markers.add(text)
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


def rechunked(pieces: Iterable[str]) -> Iterator[str]:
    """Join small pieces, so that many small files are as fast as one, and cut large pieces."""
    parts: list[str] = []
    length = 0
    for piece in pieces:
        for begin in range(0, len(piece), CHUNK_CHARACTERS):
            part = (
                piece if len(piece) <= CHUNK_CHARACTERS else piece[begin : begin + CHUNK_CHARACTERS]
            )
            if length + len(part) > CHUNK_CHARACTERS:
                yield "".join(parts)
                parts, length = [], 0
            parts.append(part)
            length += len(part)
    if length:
        yield "".join(parts)
