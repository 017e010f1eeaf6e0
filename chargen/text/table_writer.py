"""Write the rows of a table in another format, with added columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from chargen.errors import ConfigError, printable
from chargen.text.decoding import normalize_newlines
from chargen.text.files import COMPRESSIONS, endings
from chargen.text.formats import DELIMITERS, TABLES, Dialect, Row

Added = Sequence[str | float | None]
"""Values of the new columns; None for a missing value."""


def output_format(output: str) -> str:
    """Return the format in `TABLES` for the name of an output file, or raise `ConfigError`."""
    ending, _ = endings(Path(output))
    if ending not in TABLES:
        raise ConfigError(
            "--output must end in .csv, .tsv, .jsonl or .json, optionally followed by "
            f"{', '.join(COMPRESSIONS)}; got {printable(output)}"
        )
    return TABLES[ending]


def free_names(wanted: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return the wanted names, with _2, _3, ... appended to those that are taken."""
    used = set(taken)
    names = []
    for name in wanted:
        free = next(
            new for new in chain([name], (f"{name}_{n}" for n in count(2))) if new not in used
        )
        used.add(free)
        names.append(free)
    return names


class TableWriter:
    """Writer of the rows of one table in another format, with added columns.

    Rows keep their values. Broken rows are made to fit, so that the output can be read: missing
    fields are left empty, surplus fields are joined in the last column, and a row that could not
    be parsed is written to the text column.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns of the source.
    source : Dialect
        Dialect of the source.
    form : {"csv", "tsv", "jsonl", "json"}
        Format to write. If the source has the same format, its delimiter is used.
    added : sequence of str
        Names of the new columns, none of them in `columns`.
    text_column : str
        Name of the column that holds the texts.
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
        self._source_is_json = source.form in ("json", "jsonl")
        self._form = form
        self._added = list(added)
        self._text_column = text_column
        self._names = free_names(columns, added)  # names in a JSON object must be unique
        self._buffer = io.StringIO()
        self._object_prefix = "[\n"  # text before the next object of an array
        delimiter = source.delimiter if source.form == form else DELIMITERS.get(form)
        self._csv = csv.writer(self._buffer, delimiter=delimiter or ",", lineterminator="\n")
        if form in DELIMITERS:
            self._csv.writerow(map(normalize_newlines, [*self._columns, *self._added]))

    def add(self, row: Row, values: Added) -> None:
        """Append a row and its new values."""
        if self._form == "jsonl":
            self._buffer.write(self._object(row, values) + "\n")
        elif self._form == "json":
            self._buffer.write(self._object_prefix + self._object(row, values))
            self._object_prefix = ",\n"
        else:
            cells = [_cell_text(value) for value in (*self._fields(row), *values)]
            self._csv.writerow(cells)

    def finish(self) -> None:
        """Append the end of the table."""
        if self._form == "json":
            self._buffer.write("\n]\n" if self._object_prefix == ",\n" else "[]\n")

    def take_bytes(self) -> bytes:
        """Return the text written since the last call, as UTF-8."""
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        # JSON escapes can spell lone surrogates, which UTF-8 cannot encode.
        return text.encode("utf-8", "backslashreplace")

    def _object(self, row: Row, values: Added) -> str:
        new_fields = dict(zip(self._added, values, strict=True))
        if self._source_is_json and not row.problem:
            # The raw text of the row keeps its numbers and escapes unchanged.
            inside = row.raw.strip()[1:-1].strip()
            comma = ", " if inside else ""
            return escape_line_breaks("{" + inside + comma + json_line(new_fields)[1:])
        if self._source_is_json:
            return json_line({self._text_column: row.raw, **new_fields})
        return json_line({**dict(zip(self._names, self._fields(row), strict=True)), **new_fields})

    def _fields(self, row: Row) -> list[Any]:
        if self._source_is_json and not row.problem:
            cells = dict(zip(row.names, row.values, strict=True))
            return [cells.get(column) for column in self._columns]
        width = len(self._columns)
        if not row.values:
            index = self._columns.index(self._text_column)
            return ["" if i != index else row.raw for i in range(width)]
        values = list(row.values)
        if len(values) > width:
            values[width - 1 :] = [self._source.delimiter.join(values[width - 1 :])]
        return values + [""] * (width - len(values))


def json_line(value: Any) -> str:
    """Return a value as JSON on one line."""
    return escape_line_breaks(json.dumps(value, ensure_ascii=False))


def escape_line_breaks(text: str) -> str:
    """Return JSON with those characters escaped that some programs read as the end of a line."""
    if text.isascii():
        return text
    return text.replace("\x85", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _cell_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return normalize_newlines(value)
    return json.dumps(value, ensure_ascii=False)
