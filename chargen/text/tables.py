"""Read tables of texts: find their text columns and return the text of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

from chargen.errors import ConfigError, CorpusError
from chargen.text.config import TableConfig
from chargen.text.decoding import (
    decode_source,
    normalize_newlines,
    replace_invalid,
    source_encoding,
)
from chargen.text.dialects import find_dialect, named_columns
from chargen.text.files import Advance, Source
from chargen.text.formats import DEFAULT_COLUMN, DELIMITERS, Dialect, Row, lines, read_rows

TEXT_COLUMNS = (
    *("text", "review", "sentence", "content", "comment", "body", "document", "message", "tweet"),
)
"""Usual names of text columns, the likeliest first."""

NOT_A_NUMBER = ("nan", "NaN")
"""Missing values as pandas and numpy write them when they convert values to text."""

Pieces = Callable[[Advance | None], Iterable[str]]
"""Returns the decoded text of a file from its beginning; `Advance` receives the bytes read."""


class Table:
    """A table, or plain text with one text per line, that can be read any number of times.

    Parameters
    ----------
    name : str
        Name shown in messages.
    form : {"csv", "tsv", "jsonl", "json", "plain"}
        Format by the file's name; plain text is read as a table if `config` has a delimiter.
    config : TableConfig
        Options for reading the table.
    pieces : Pieces
        Function that returns the text of the file.
    size : int
        Bytes on disk, 0 if unknown.
    notes : list of str, optional
        Receives a sentence about anything that is not read as the user may expect.

    Every method raises `CorpusError` if the file is missing, damaged or not text, or its header is
    broken, and `ConfigError` if options for separated fields were given for JSON.
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
        self.form = "csv" if form == "plain" and config.delimiter else form
        self._pieces = pieces
        self._notes = [] if notes is None else notes

    @cached_property
    def dialect(self) -> Dialect:
        """Dialect of the file, detected from its content and the options."""
        config = self.config
        dialect = find_dialect(
            lambda: self._pieces(None),
            self.form,
            config.delimiter,
            config.header,
            config.quoting,
        )
        if dialect.problem:
            raise self.broken_row_error(Row(dialect.skipped, (), (), "", dialect.problem))
        if dialect.form == "plain" and self.size:  # a pipe, of size 0, cannot be read twice
            names = named_columns(lines(self._pieces(None)))
            if any(name.strip().casefold() in TEXT_COLUMNS for name in names):
                raise CorpusError(
                    f"{self.name} looks like a table with the columns {_listed(names)}, but by "
                    "its name it is plain text: rename it to .csv or .tsv, or give --delimiter "
                    "to chargen sentiment predict"
                )
        if dialect.delimiter != DELIMITERS.get(self.form, "") and not config.delimiter:
            words = "tabs" if dialect.delimiter == "\t" else repr(dialect.delimiter)
            self._note(f"{self.name}: its fields are separated by {words}")
        if dialect.form in ("json", "jsonl") and (options := config.separated_options):
            raise ConfigError(f"{options[0]} is for .csv and .tsv tables; {self.name} holds JSON")
        if not dialect.quoted and not config.quoting:
            self._note(f"{self.name}: quotes are read as part of the text")
        return dialect

    def _note(self, note: str) -> None:
        if note not in self._notes:
            self._notes.append(note)

    @property
    def advice(self) -> str:
        """Further advice for the message about a missing column."""
        named = self.dialect.header and self.config.header
        hint = " (with --no-header if the first row names no columns)" if named else ""
        return hint + self.config.advice

    @cached_property
    def columns(self) -> list[str]:
        """Column names from the header; for JSON, all names in order of first appearance."""
        header, rows = self._open()
        if self.dialect.form not in ("json", "jsonl"):
            return [DEFAULT_COLUMN] if self.dialect.form == "plain" else header
        names: dict[str, None] = {}
        problem = None
        for row in rows:
            names |= dict.fromkeys(row.names)
            problem = problem or (row if row.problem else None)
        if problem and not names:
            raise self.broken_row_error(problem)
        return list(names)

    def rows(self, advance: Advance | None = None) -> Iterator[Row]:
        """Return an iterator over all rows, including broken ones."""
        return self._open(advance)[1]

    def unbroken_rows(self) -> Iterator[Row]:
        """Yield all rows; raise `CorpusError` at the first broken row."""
        for row in self.rows():
            if row.problem:
                raise self.broken_row_error(row)
            yield row

    def broken_row_error(self, row: Row) -> CorpusError:
        """Return the error for a broken row."""
        return CorpusError(f"{self.name}, line {row.line} {row.problem}")

    @cached_property
    def text_columns(self) -> list[str]:
        """Columns of the texts: those in the options, or else the first with a usual name."""
        return self._text_columns(self.columns)

    def text(self, row: Row, columns: Sequence[str] | None = None) -> str:
        """Return the text of an unbroken row in `columns` (default: `text_columns`).

        The texts of several columns are joined by newlines. Missing values are left out, so the
        text can be "". Raises `CorpusError` for any other value that is not text.
        """
        missing = () if self.dialect.form == "plain" else NOT_A_NUMBER
        present = [
            column
            for column in (self.text_columns if columns is None else columns)
            if (value := row.cell(column)) is not None and value not in missing
        ]
        return self._joined(row, present)

    def texts(self, advance: Advance | None = None) -> Iterator[str]:
        """Return an iterator over the nonempty texts; see `rows_and_texts`."""
        return (text for _, text in self.rows_and_texts(advance))

    def rows_and_texts(
        self, advance: Advance | None = None, label_column: str | None = None
    ) -> Iterator[tuple[Row, str]]:
        """Yield each row whose text is not empty, with that text.

        Raises `CorpusError` for a row that is broken, lacks a text column, or has a value there
        that is not text, and if the texts are in `label_column`.
        """
        header, rows = self._open(advance)
        columns = self._text_columns(header) if header else []
        for row in rows:
            if row.problem:
                raise self.broken_row_error(row)
            columns = columns or self._text_columns(row.names, row)
            if label_column in columns:
                raise same_column_error(self.name, label_column)
            if text := self._joined(row, columns):
                yield row, text

    def _text_columns(self, names: Sequence[str], row: Row | None = None) -> list[str]:
        where = self.name if row is None else f"{self.name}, line {row.line}"
        usual, advice = TEXT_COLUMNS, self.advice
        wanted = self.config.text_column or (None,)
        return [find_column(names, where, column, usual, "text", advice) for column in wanted]

    def _joined(self, row: Row, columns: Iterable[str]) -> str:
        return "\n".join(text for column in columns if (text := self._text_of(row, column)))

    def _text_of(self, row: Row, column: str) -> str:
        where = f"{self.name}, line {row.line}"
        if column not in row.names:
            find_column(row.names, where, column, (), "text", self.advice)
        value = row.cell(column)
        if not isinstance(value, str):
            raise CorpusError(f"{where}: {column!r} is not text, but {type(value).__name__}")
        # JSON escapes can spell NUL and lone surrogates, which no decoder yields.
        return normalize_newlines(replace_invalid(value, self.config.errors, lambda _: where))

    def _open(self, advance: Advance | None = None) -> tuple[list[str], Iterator[Row]]:
        """Return the column names in the header (none for JSON and plain text) and the rows."""
        dialect = self.dialect
        header, rows = read_rows(self._pieces(advance), dialect, self.config.quoting == "csv")
        if header is not None and header.problem:
            raise self.broken_row_error(header)
        return [] if header is None else list(header.values), rows


def open_table(source: Source, config: TableConfig, notes: list[str]) -> Table:
    """Return the table in a file; a table from a pipe is held in memory.

    `notes` receives a sentence, once, about anything that is not read as asked.
    """
    held: list[str] | None = None
    encoding = ""

    def pieces(advance: Advance | None = None) -> Iterator[str]:
        nonlocal held, encoding
        new_notes: list[str] = []
        if held is None:
            encoding = encoding or source_encoding(source, config, new_notes)
            text: Iterable[str] = decode_source(source, config, new_notes, advance, encoding)
            if source.stream and table.form != "plain":
                text = held = list(text)
        else:
            text = held
        for piece in text:
            notes.extend(note for note in new_notes if note not in notes)
            yield piece

    table = Table(source.name, source.form, config, pieces, source.size, notes)
    return table


def find_column(
    columns: Sequence[str],
    name: str,
    requested: str | None,
    usual_names: Sequence[str],
    column_role: str,
    advice: str = "",
) -> str:
    """Return the column `requested`, or if that is None, the first column with a usual name.

    Raises `CorpusError` if there is no such column, or if several columns have its name.
    """
    if not columns and not requested:
        raise CorpusError(f"{name} is empty: it has no columns")
    hint = f"its columns are {_listed(columns)}: choose one with --{column_role}-column{advice}"
    if requested is not None:
        if requested not in columns:
            raise CorpusError(f"{name} has no column {requested!r}; {hint}")
        return _unique_column(requested, columns, name)
    for usual_name in usual_names:
        for column in columns:
            if column.strip().casefold() == usual_name:
                return _unique_column(column, columns, name)
    raise CorpusError(f"{name} has no {column_role} column with a usual name; {hint}")


def _unique_column(column: str, columns: Sequence[str], name: str) -> str:
    if list(columns).count(column) > 1:
        raise CorpusError(f"{name} has several columns {column!r}: give each a name of its own")
    return column


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(repr(str(column)) for column in list(columns)[:20]) or "none"


def same_column_error(name: str, column: str) -> CorpusError:
    """Return the error for a table whose text and label columns are the same."""
    return CorpusError(
        f"{name}: text and label would both be read from {column!r}: choose with --text-column and "
        "--label-column"
    )
