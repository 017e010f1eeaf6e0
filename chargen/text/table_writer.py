"""Rows of a table written in another format, with columns added."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from chargen.errors import ConfigError, shown
from chargen.text.decoding import newlines
from chargen.text.files import COMPRESSIONS, endings
from chargen.text.formats import DELIMITERS, TABLES, Dialect, Row

Added = Sequence[str | float | None]
"""Values of the new columns; None where there is none."""


def form_of(output: str) -> str:
    """The format that the name of an output asks for, as `TABLES` has it, or a `ConfigError`."""
    ending, _ = endings(Path(output))
    if ending not in TABLES:
        raise ConfigError(
            "--output must end in .csv, .tsv, .jsonl or .json, and may go on with "
            f"{', '.join(COMPRESSIONS)}; got {shown(output)}"
        )
    return TABLES[ending]


def free_names(wanted: Iterable[str], taken: Iterable[str]) -> list[str]:
    """The wanted names, with _2, _3, ... where they are taken."""
    used = set(taken)
    names = []
    for name in wanted:
        free = next(
            one for one in chain([name], (f"{name}_{n}" for n in count(2))) if one not in used
        )
        used.add(free)
        names.append(free)
    return names


class TableWriter:
    """Rows of one table as text of another format, with columns added.

    A row stays as it is. One that is broken is made to fit, so that the table can be read: missing
    fields are empty, too many go into the last column, and what is no row at all stands in the
    column of the texts.

    Parameters
    ----------
    columns : sequence of str
    source : Dialect
        How the rows were written that are to be added.
    form : {"csv", "tsv", "jsonl", "json"}
        Format to write. Fields are separated as in the source where that has the same format.
    added : sequence of str
        Names of the new columns, none of them in `columns`.
    text_column : str
    """

    def __init__(
        self,
        columns: Sequence[str],
        source: Dialect,
        form: str,
        added: Sequence[str],
        text_column: str,
    ) -> None:
        self._columns = list(columns)
        self._source = source
        self._of_json = source.form in ("json", "jsonl")
        self._form = form
        self._added = list(added)
        self._text_column = text_column
        self._names = free_names(columns, added)  # an object has no name twice
        self._buffer = io.StringIO()
        self._between = "[\n"  # what stands before the next object of an array
        delimiter = source.delimiter if source.form == form else DELIMITERS.get(form)
        self._csv = csv.writer(self._buffer, delimiter=delimiter or ",", lineterminator="\n")
        if form in DELIMITERS:
            self._csv.writerow(map(newlines, [*self._columns, *self._added]))

    def add(self, row: Row, values: Added) -> None:
        """Append a row and its new values."""
        if self._form == "jsonl":
            self._buffer.write(self._object(row, values) + "\n")
        elif self._form == "json":
            self._buffer.write(self._between + self._object(row, values))
            self._between = ",\n"
        else:
            cells = [_as_text(value) for value in (*self._fields(row), *values)]
            self._csv.writerow(cells)

    def finish(self) -> None:
        """Append what ends the table."""
        if self._form == "json":
            self._buffer.write("\n]\n" if self._between == ",\n" else "[]\n")

    def take(self) -> bytes:
        """What was written since the last call, in UTF-8."""
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        # JSON can spell lone surrogates, which have no UTF-8.
        return text.encode("utf-8", "backslashreplace")

    def _object(self, row: Row, values: Added) -> str:
        more = dict(zip(self._added, values, strict=True))
        if self._of_json and not row.problem:
            # The row's own text, so that its numbers and escapes stay what they are.
            inside = row.raw.strip()[1:-1].strip()
            between = ", " if inside else ""
            return one_line("{" + inside + between + json_line(more)[1:])
        if self._of_json:
            return json_line({self._text_column: row.raw, **more})
        return json_line({**dict(zip(self._names, self._fields(row), strict=True)), **more})

    def _fields(self, row: Row) -> list[Any]:
        if self._of_json and not row.problem:
            cells = dict(zip(row.names, row.values, strict=True))
            return [cells.get(column) for column in self._columns]
        width = len(self._columns)
        if not row.values:
            place = self._columns.index(self._text_column)
            return ["" if i != place else row.raw for i in range(width)]
        values = list(row.values)
        if len(values) > width:
            values[width - 1 :] = [self._source.delimiter.join(values[width - 1 :])]
        return values + [""] * (width - len(values))


def json_line(value: Any) -> str:
    """A value as JSON on one line."""
    return one_line(json.dumps(value, ensure_ascii=False))


def one_line(text: str) -> str:
    """JSON with the characters escaped that some programs take for the end of a line."""
    if text.isascii():
        return text
    return text.replace("\x85", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return newlines(value)
    return json.dumps(value, ensure_ascii=False)
