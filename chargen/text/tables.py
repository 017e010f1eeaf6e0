"""Tables of texts: files, the columns that are read of them, and what a cell says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

from chargen.errors import ConfigError, CorpusError
from chargen.text.config import TableConfig
from chargen.text.decoding import clean, decoded, encoding_of, newlines
from chargen.text.dialects import find_dialect, named_columns
from chargen.text.files import Advance, Source
from chargen.text.formats import DEFAULT_COLUMN, DELIMITERS, Dialect, Row, lines, read_rows

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
    form : {"csv", "tsv", "jsonl", "json", "plain"}
        By the name of the file; plain text is a table where `config` has a delimiter.
    size : int
        Bytes on disk, 0 where that is not known.
    notes : list of str, optional
        Gets a sentence about whatever was read otherwise than one may think.

    Every method raises `CorpusError` where the file is missing, damaged or not text, or its header
    is broken, and `ConfigError` where options of separated fields were given for JSON.
    """

    def __init__(
        self,
        name: str,
        form: str,
        config: TableConfig,
        pieces: Pieces,
        size: int = 0,
        notes: list[str] | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.size = size
        self._form = "csv" if form == "plain" and config.delimiter else form
        self._pieces = pieces
        self._notes = [] if notes is None else notes

    @cached_property
    def dialect(self) -> Dialect:
        """How the file is written."""
        config = self.config
        found = find_dialect(
            lambda: self._pieces(None),
            self._form,
            config.delimiter,
            config.header,
            config.quoting,
        )
        if found.problem:
            raise self.broken(Row(found.skipped, (), (), "", found.problem))
        if found.form == "plain" and self.size:  # of a pipe nothing can be read twice
            names = named_columns(lines(self._pieces(None)))
            if any(name.strip().casefold() in TEXT_COLUMNS for name in names):
                raise CorpusError(
                    f"{self.name} looks like a table with the columns {_listed(names)}, but its "
                    "name says that it is plain text: call it .csv or .tsv, or give --delimiter to "
                    "chargen sentiment predict"
                )
        if found.delimiter != DELIMITERS.get(self._form, "") and not config.delimiter:
            words = "tabs" if found.delimiter == "\t" else repr(found.delimiter)
            self._note(f"{self.name}: its fields are separated by {words}")
        if found.form in ("json", "jsonl") and (given := config.separated_options):
            raise ConfigError(f"{given[0]} is for .csv and .tsv tables; {self.name} holds JSON")
        if not found.quoted and not config.quoting:
            self._note(f"{self.name}: quotes are read as part of the text")
        return found

    def _note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)

    @property
    def advice(self) -> str:
        """What else can be done about a column that is not there."""
        named = self.dialect.header and self.config.header
        hint = " (with --no-header where the first row names none)" if named else ""
        return hint + self.config.advice

    @cached_property
    def columns(self) -> list[str]:
        """The header; of JSON, all names in the order in which they appear first."""
        header, rows = self._open()
        if self.dialect.form not in ("json", "jsonl"):
            return [DEFAULT_COLUMN] if self.dialect.form == "plain" else header
        names: dict[str, None] = {}
        problem = None
        for row in rows:
            names |= dict.fromkeys(row.names)
            problem = problem or (row if row.problem else None)
        if problem and not names:
            raise self.broken(problem)
        return list(names)

    def rows(self, advance: Advance | None = None) -> Iterator[Row]:
        """All rows, the broken ones among them."""
        return self._open(advance)[1]

    def whole_rows(self) -> Iterator[Row]:
        """All rows; the first broken one is a `CorpusError`."""
        for row in self.rows():
            if row.problem:
                raise self.broken(row)
            yield row

    def broken(self, row: Row) -> CorpusError:
        """The sentence for a broken row."""
        return CorpusError(f"{self.name}, line {row.line} {row.problem}")

    @cached_property
    def text_columns(self) -> list[str]:
        """The columns of the texts: those that are asked for, or the first with a usual name."""
        return self._text_columns(self.columns)

    def text(self, row: Row) -> str:
        """The text of a whole row, of several columns with newlines between.

        "" where the cells say that there is none. What else is no text is a `CorpusError`.
        """
        missing = () if self.dialect.form == "plain" else NOT_A_NUMBER
        values = ((column, row.cell(column)) for column in self.text_columns)
        there = [column for column, value in values if value is not None and value not in missing]
        return self._joined(row, there)

    def texts(self, advance: Advance | None = None) -> Iterator[str]:
        """The text of every row that has any; a row without its columns is an error."""
        return (text for _, text in self.rows_and_texts(advance))

    def rows_and_texts(self, advance: Advance | None = None) -> Iterator[tuple[Row, str]]:
        """The same with their rows."""
        columns: list[str] = []
        header, rows = self._open(advance)
        if header:
            columns = self._text_columns(header)
        for row in rows:
            if row.problem:
                raise self.broken(row)
            columns = columns or self._text_columns(row.names, row)
            if text := self._joined(row, columns):
                yield row, text

    def _text_columns(self, names: Sequence[str], row: Row | None = None) -> list[str]:
        where = self.name if row is None else f"{self.name}, line {row.line}"
        usual, advice = TEXT_COLUMNS, self.advice
        wanted = self.config.text_column or (None,)
        return [find_column(names, where, one, usual, "text", advice) for one in wanted]

    def _joined(self, row: Row, columns: Iterable[str]) -> str:
        return "\n".join(text for column in columns if (text := self._text_of(row, column)))

    def _text_of(self, row: Row, column: str) -> str:
        where = f"{self.name}, line {row.line}"
        if column not in row.names:
            find_column(row.names, where, column, (), "text", self.advice)
        value = row.cell(column)
        if not isinstance(value, str):
            raise CorpusError(f"{where}: {column!r} is not text, but {type(value).__name__}")
        # Escapes of JSON can spell what no decoder yields.
        return newlines(clean(value, self.config.errors, lambda _: where))

    def _open(self, advance: Advance | None = None) -> tuple[list[str], Iterator[Row]]:
        """The header, which JSON has not, and the rows."""
        dialect = self.dialect
        header, rows = read_rows(self._pieces(advance), dialect, self.config.quoting == "csv")
        if header is not None and header.problem:
            raise self.broken(header)
        return [] if header is None else list(header.values), rows


def open_table(
    source: Source, config: TableConfig, notes: list[str], max_bytes: int | None = None
) -> Table:
    """The table in a file; one that comes from a pipe is held in memory.

    `notes` gets a sentence about what was read otherwise than asked, once.
    """
    held: list[str] | None = None
    encoding = ""

    def pieces(advance: Advance | None = None) -> Iterator[str]:
        nonlocal held, encoding
        told: list[str] = []
        if held is None:
            encoding = encoding or encoding_of(source, config, told, max_bytes)
            found: Iterable[str] = decoded(source, config, told, advance, max_bytes, encoding)
            if source.stream and source.form != "plain":
                found = held = list(found)
        else:
            found = held
        for piece in found:
            notes.extend(note for note in told if note not in notes)
            yield piece

    return Table(source.name, source.form, config, pieces, source.size, notes)


def find_column(
    columns: Sequence[str],
    name: str,
    wanted: str | None,
    usual: Sequence[str],
    what: str,
    advice: str = "",
) -> str:
    """The column that is `wanted`, or the first with a usual name; else a `CorpusError`.

    So it is where several have this name.
    """
    if not columns and not wanted:
        raise CorpusError(f"{name} is empty: it has no columns")
    there = f"its columns are {_listed(columns)}: choose one with --{what}-column{advice}"
    if wanted is not None:
        if wanted not in columns:
            raise CorpusError(f"{name} has no column {wanted!r}; {there}")
        return _only(wanted, columns, name)
    for one in usual:
        for column in columns:
            if column.strip().casefold() == one:
                return _only(column, columns, name)
    raise CorpusError(f"{name} has no {what} column with a usual name; {there}")


def _only(column: str, columns: Sequence[str], name: str) -> str:
    if list(columns).count(column) > 1:
        raise CorpusError(f"{name} has several columns {column!r}: give each a name of its own")
    return column


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(repr(str(one)) for one in list(columns)[:20]) or "none"
