"""Rows out of decoded text: JSON lines, CSV, TSV, and plain text as one column.

The only place where csv and JSON are parsed. Knows nothing about files.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from chargen.errors import shown

DEFAULT_COLUMN = "text"
DELIMITERS = {"csv": ",", "tsv": "\t"}
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

    def cell(self, column: str) -> Any:
        """What stands in a column of a whole row; None where the row lacks it."""
        return self.values[self.names.index(column)] if column in self.names else None


def read_rows(pieces: Iterable[str], form: str) -> tuple[Row | None, Iterator[Row]]:
    """The header of a table, None where it has none, and its rows, the broken ones among them.

    Parameters
    ----------
    pieces : iterable of str
        The decoded file.
    form : {"csv", "tsv", "jsonl", "plain"}
        Each line of plain text is a row with the one column "text".
    """
    fed = lines(pieces)
    if form == "jsonl":
        return None, _jsonl(fed)
    if form == "plain":
        return None, _plain(fed)
    if csv.field_size_limit() < _LARGEST_FIELD:
        csv.field_size_limit(_LARGEST_FIELD)
    found = _csv(fed, DELIMITERS[form])
    header = next(found, None)
    return header, found if header is None else _counted(found, header.values)


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


def _counted(found: Iterable[Row], header: Sequence[str]) -> Iterator[Row]:
    """Rows with their names; those that have too few or too many fields are broken."""
    for row in found:
        problem = row.problem
        if not problem and len(row.values) != len(header):
            problem = f"has {len(row.values)} fields; the header has {len(header)}"
        yield Row(row.line, header, row.values, row.raw, problem)
