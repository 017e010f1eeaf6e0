"""The text column of tables: JSON lines, CSV and TSV, row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator

from chargen.errors import CorpusError
from chargen.text.decoding import clean

DEFAULT_COLUMN = "text"
# An unclosed quote must not read the rest of the file into memory.
_LARGEST_FIELD = 1 << 28


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
    lines = _lines(pieces)
    values = _jsonl(lines, name, column, errors) if form == "jsonl" else None
    if values is None:
        values = _csv(lines, name, column, "\t" if form == "tsv" else ",")
    return (value for value in values if value)


def _lines(pieces: Iterable[str]) -> Iterator[str]:
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


def _no_column(name: str, column: str | None, there: Iterable[str]) -> CorpusError:
    listed = ", ".join(repr(str(one)) for one in list(there)[:20]) or "none"
    wanted = DEFAULT_COLUMN if column is None else column
    return CorpusError(
        f"{name} has no column {wanted!r}; its columns are {listed}: choose one with"
        " --text-column (or read the file as plain text from standard input: - < file)"
    )


def _jsonl(lines: Iterable[str], name: str, column: str | None, errors: str) -> Iterator[str]:
    wanted = DEFAULT_COLUMN if column is None else column
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise CorpusError(
                f"{where} is not JSON: {error.msg} at column {error.colno}"
            ) from error
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where} is not JSON that can be read: {error}") from error
        if not isinstance(row, dict):
            raise CorpusError(f"{where} is not a JSON object, but {type(row).__name__}")
        if wanted not in row:
            raise _no_column(where, column, row)
        value = row[wanted]
        if not isinstance(value, str):
            raise CorpusError(f"{where}: {wanted!r} is not text, but {type(value).__name__}")
        # Escapes can spell what no decoder yields.
        value = clean(value, errors, lambda _, where=where: where)  # type: ignore[misc]
        yield value.replace("\r\n", "\n").replace("\r", "\n")


def _csv(lines: Iterable[str], name: str, column: str | None, delimiter: str) -> Iterator[str]:
    wanted = DEFAULT_COLUMN if column is None else column
    if csv.field_size_limit() < _LARGEST_FIELD:
        csv.field_size_limit(_LARGEST_FIELD)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    place = 0
    try:
        for row in reader:
            if not row:
                continue
            if header is None:
                header = row
                if wanted not in header:
                    raise _no_column(name, column, header)
                place = header.index(wanted)
                continue
            if len(row) != len(header):
                raise CorpusError(
                    f"{name}, line {reader.line_num} has {len(row)} fields;"
                    f" the header has {len(header)}"
                )
            yield row[place]
    except csv.Error as error:
        raise CorpusError(f"{name}, line {reader.line_num} is broken: {error}") from error
