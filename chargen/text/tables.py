"""Tables of texts: files, the columns that are read of them, and what a cell says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

from chargen.errors import CorpusError
from chargen.text.config import TableConfig
from chargen.text.decoding import clean, decode, newlines
from chargen.text.files import Advance, Source, byte_blocks
from chargen.text.table_rows import DEFAULT_COLUMN, Row, read_rows

TEXT_COLUMNS = (
    *("text", "review", "sentence", "content", "comment", "body", "document", "message", "tweet"),
)
"""Usual names, the likeliest first."""

NOT_A_NUMBER = ("nan", "NaN")
"""What pandas and numpy write for a missing value where they are made to write text."""

Pieces = Callable[[Advance | None], Iterable[str]]
"""Gives the decoded text of a file from its beginning; `Advance` hears of the bytes on disk."""


class Table:
    """A table (or text, one a line) that is read from its beginning as often as needed.

    Parameters
    ----------
    name : str
        As shown to people.
    form : {"csv", "tsv", "jsonl", "plain"}
    config : TableConfig
    pieces : callable
    size : int
        Bytes on disk, 0 where that is not known.

    Raises
    ------
    CorpusError
        From every method, where the file is missing, damaged or not text, or its header is broken.
    """

    def __init__(
        self, name: str, form: str, config: TableConfig, pieces: Pieces, size: int = 0
    ) -> None:
        self.name = name
        self.form = form
        self.config = config
        self.size = size
        self._pieces = pieces

    @cached_property
    def columns(self) -> list[str]:
        """The header; of JSON lines, all names in the order in which they appear first."""
        header, rows = self._open()
        if self.form == "jsonl":
            return list(dict.fromkeys(name for row in rows for name in row.names))
        return [DEFAULT_COLUMN] if self.form == "plain" else header

    def rows(self, advance: Advance | None = None) -> Iterator[Row]:
        """All rows, the broken ones among them."""
        return self._open(advance)[1]

    def whole_rows(self, advance: Advance | None = None) -> Iterator[Row]:
        """All rows; the first broken one is a `CorpusError`."""
        for row in self.rows(advance):
            if row.problem:
                raise self.broken(row)
            yield row

    def broken(self, row: Row) -> CorpusError:
        """The sentence for a broken row."""
        return CorpusError(f"{self.name}, line {row.line} {row.problem}")

    @cached_property
    def text_column(self) -> str:
        """The column of the texts: the one that is asked for, or the first usual name."""
        return find_column(self.columns, self.name, self.config.text_column, TEXT_COLUMNS, "text")

    def text(self, row: Row) -> str:
        """The text of a whole row; "" where the cell says that there is none.

        Raises
        ------
        CorpusError
            Where something else than text stands there.
        """
        value = row.cell(self.text_column)
        if value is None or (value in NOT_A_NUMBER and self.form != "plain"):
            return ""
        return self._text_of(row, self.text_column)

    def texts(self, advance: Advance | None = None) -> Iterator[str]:
        """The text of every row that has any; a row without the column is an error."""
        column = self.config.text_column or DEFAULT_COLUMN
        header, found = self._open(advance)
        if header and column not in header:
            raise self._lacks(self.name, column, header)
        for row in found:
            if row.problem:
                raise self.broken(row)
            if text := self._text_of(row, column):
                yield text

    def _text_of(self, row: Row, column: str) -> str:
        where = f"{self.name}, line {row.line}"
        if column not in row.names:
            raise self._lacks(where, column, row.names)
        value = row.cell(column)
        if not isinstance(value, str):
            raise CorpusError(f"{where}: {column!r} is not text, but {type(value).__name__}")
        # Escapes of JSON can spell what no decoder yields.
        return newlines(clean(value, self.config.errors, lambda _: where))

    def _lacks(self, where: str, column: str, there: Iterable[str]) -> CorpusError:
        return CorpusError(
            f"{where} has no column {column!r}; its columns are {_listed(there)}: choose one with"
            " --text-column (or read the file as plain text from standard input: - < file)"
        )

    def _open(self, advance: Advance | None = None) -> tuple[list[str], Iterator[Row]]:
        header, rows = read_rows(self._pieces(advance), self.form)
        if header is not None and header.problem:
            raise self.broken(header)
        return [] if header is None else list(header.values), rows


def open_table(
    source: Source, config: TableConfig, notes: list[str], max_bytes: int | None = None
) -> Table:
    """The table in a file; one that comes from a pipe is held in memory.

    `notes` gets a sentence about what was read otherwise than asked, once.
    """
    held: list[str] = []

    def pieces(advance: Advance | None = None) -> Iterable[str]:
        if held:
            return held
        told: list[str] = []
        blocks = byte_blocks(source, advance, max_bytes)
        decoded = decode(blocks, source.name, config.encoding, config.errors, told)
        if source.stream and source.form != "plain":
            held.extend(decoded)
            decoded = iter(held)
        return _told(decoded, told, notes)

    return Table(source.name, source.form, config, pieces, source.size)


def _told(pieces: Iterable[str], told: list[str], notes: list[str]) -> Iterator[str]:
    for piece in pieces:
        notes += (note for note in told if note not in notes)
        yield piece


def find_column(
    columns: Sequence[str], name: str, wanted: str | None, usual: Sequence[str], what: str
) -> str:
    """The column that is `wanted`, or the first with a usual name.

    Raises
    ------
    CorpusError
        Which lists the columns there are.
    """
    if not columns:
        raise CorpusError(f"{name} is empty: it has no columns")
    there = f"its columns are {_listed(columns)}: choose one with --{what}-column"
    if wanted is not None:
        if wanted not in columns:
            raise CorpusError(f"{name} has no column {wanted!r}; {there}")
        return wanted
    for one in usual:
        for column in columns:
            if column.strip().casefold() == one:
                return column
    raise CorpusError(f"{name} has no {what} column with a usual name; {there}")


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(repr(str(one)) for one in list(columns)[:20]) or "none"
