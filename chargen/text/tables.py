"""Rows of tables, lazily: JSON lines, CSV, TSV, and plain text as a table of one column.

The only place where csv and JSON are parsed. Knows nothing about files: decoded pieces come in.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from chargen.errors import CorpusError, shown
from chargen.text.decoding import clean, newlines

DEFAULT_COLUMN = "text"
# An unclosed quote must not read the rest of the file into memory.
_LARGEST_FIELD = 1 << 28


class Row(NamedTuple):
    """A row of a table.

    Attributes
    ----------
    line : int
        Of the file, where the row starts, counting from 1.
    names, values : sequences of the same length, unless the row is broken
        Columns and what stands in them: text in CSV and TSV, any JSON value in JSON lines.
    raw : str
        The row as it stands in the file, without its last newline.
    problem : str
        What is wrong with a broken row, to be read after its line; "" where nothing is.
    """

    line: int
    names: Sequence[str]
    values: Sequence[Any]
    raw: str
    problem: str = ""


def read_table(
    pieces: Iterable[str], name: str, form: str
) -> tuple[list[str] | None, Iterator[Row]]:
    """The header of a table and its rows, the broken ones among them.

    Parameters
    ----------
    pieces : iterable of str
        The decoded file.
    name : str
        As shown to people.
    form : {"csv", "tsv", "jsonl", "plain"}
        Each line of plain text is a row with the one column "text".

    Returns
    -------
    header : list of str or None
        None for JSON lines, where each row has its own names; empty where the file is.
    rows : iterator of Row

    Raises
    ------
    CorpusError
        Where the header itself is broken.
    """
    fed = lines(pieces)
    if form == "jsonl":
        return None, _jsonl(fed)
    if form == "plain":
        return [DEFAULT_COLUMN], _plain(fed)
    if csv.field_size_limit() < _LARGEST_FIELD:
        csv.field_size_limit(_LARGEST_FIELD)
    found = _csv(fed, "\t" if form == "tsv" else ",")
    first = next(found, None)
    if first is None:
        return [], found
    if first.problem:
        raise broken(first, name)
    header = [str(value) for value in first.values]
    return header, _counted(found, header)


def rows(
    pieces: Iterable[str], name: str, form: str, column: str | None, errors: str
) -> Iterator[str]:
    """The text of every row that has any; `pieces` is the decoded file, `form` its kind.

    Raises
    ------
    CorpusError
        Naming the line of a row that is broken, or the columns there are when `column`
        (or "text", the default) is not among them.
    """
    wanted = DEFAULT_COLUMN if column is None else column
    header, found = read_table(pieces, name, form)
    if header and wanted not in header:
        raise no_column(name, wanted, header)
    for row in found:
        if row.problem:
            raise broken(row, name)
        if text := text_of(row, wanted, name, errors):
            yield text


def text_of(row: Row, column: str, name: str, errors: str) -> str:
    """The text in a column of a whole row.

    Raises
    ------
    CorpusError
        Where the row has no such column, or something else than text stands there.
    """
    where = f"{name}, line {row.line}"
    if column not in row.names:
        raise no_column(where, column, row.names)
    value = row.values[row.names.index(column)]
    if not isinstance(value, str):
        raise CorpusError(f"{where}: {column!r} is not text, but {type(value).__name__}")
    # Escapes of JSON can spell what no decoder yields.
    return newlines(clean(value, errors, lambda _: where))


def broken(row: Row, name: str) -> CorpusError:
    """The sentence for a broken row."""
    return CorpusError(f"{name}, line {row.line} {row.problem}")


def no_column(name: str, wanted: str, there: Iterable[str]) -> CorpusError:
    """The sentence for a column that is not there, with those that are."""
    return CorpusError(
        f"{name} has no column {wanted!r}; its columns are {listed(there)}: choose one with"
        " --text-column (or read the file as plain text from standard input: - < file)"
    )


def listed(columns: Iterable[str]) -> str:
    """The names of the first columns, as a sentence lists them."""
    return ", ".join(repr(str(one)) for one in list(columns)[:20]) or "none"


def lines(pieces: Iterable[str]) -> Iterator[str]:
    """Lines with their ends; only a newline ends one (str.splitlines knows many more)."""
    held: list[str] = []
    for piece in pieces:
        *complete, rest = piece.split("\n")
        for line in complete:
            held.append(line)
            yield "".join(held) + "\n"
            held = []
        if rest:
            held.append(rest)
    if held:
        yield "".join(held)


def _plain(fed: Iterable[str]) -> Iterator[Row]:
    names = (DEFAULT_COLUMN,)
    for number, line in enumerate(fed, 1):
        text = line.removesuffix("\n")
        yield Row(number, names, (text,), text)


def _jsonl(fed: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(fed, 1):
        if not line.strip():
            continue
        names: Sequence[str] = ()
        values: Sequence[Any] = ()
        problem = ""
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            problem = f"is not JSON: {error.msg} at column {error.colno}"
        except (ValueError, RecursionError) as error:
            problem = f"is not JSON that can be read: {error}"
        else:
            if isinstance(row, dict):
                names, values = list(row), list(row.values())
            else:
                problem = f"is not a JSON object, but {type(row).__name__}"
        yield Row(number, names, values, line.removesuffix("\n"), problem)


class _Feed:
    """Lines for `csv.reader`, which remembers those of the row that is being read."""

    def __init__(self, fed: Iterable[str]) -> None:
        self._fed = iter(fed)
        self._again: list[str] = []
        self._done = 0
        self.row: list[str] = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else next(self._fed)
        self.row.append(line)
        return line

    @property
    def line(self) -> int:
        """Where the row starts."""
        return self._done + 1

    def next_row(self) -> None:
        """The row ended with the last line that was given."""
        self._done += len(self.row)
        self.row = []

    def retreat(self) -> None:
        """Only the first line belonged to the row; give the others again."""
        self._again += self.row[:0:-1]
        del self.row[1:]


def _csv(fed: Iterable[str], delimiter: str) -> Iterator[Row]:
    """All rows, the header first.

    A quote that goes wrong breaks the line where the row starts and no other: one that is never
    closed would else swallow all that follows.
    """
    feed = _Feed(fed)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        problem = ""
        values: list[str] = []
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"is broken: {shown(str(error))}"  # it may quote a tab
            feed.retreat()
        raw = "".join(feed.row).removesuffix("\n")
        line = feed.line
        feed.next_row()
        if values or problem:
            yield Row(line, (), values, raw, problem)


def _counted(found: Iterable[Row], header: list[str]) -> Iterator[Row]:
    """Rows with their names; those that have too few or too many fields are broken."""
    for row in found:
        problem = row.problem
        if not problem and len(row.values) != len(header):
            problem = f"has {len(row.values)} fields; the header has {len(header)}"
        yield Row(row.line, header, row.values, row.raw, problem)
