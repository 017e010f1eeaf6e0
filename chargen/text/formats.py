"""File formats of corpora, chosen by file extension, and the rows of tables.

Tables are CSV of any dialect, JSON, or plain text as a single column. Only this module parses CSV
and JSON; it works on strings and opens no files.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from chargen.errors import printable

TABLES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
"""Formats of tables by file extension; all other files are plain text."""

DEFAULT_COLUMN = "text"
DELIMITERS = {"csv": ",", "tsv": "\t"}
"""The usual field separator of each format; a file may use another."""

# Keeps an unclosed quote from reading the rest of the file into memory.
_LARGEST_FIELD = 1 << 28
# After this many fields with line breaks a table counts as CSV, whatever the next field looks like.
_TRUSTED_AFTER_FIELDS = 10
_QUOTING_NONE_ADVICE = "--quoting none reads quotes as part of the text"
_QUOTES = "\"'\u2019\u201d\u00bb"  # may directly follow a comma in prose
_BLANKS = re.compile(r"[ \t\n]*")


class Row(NamedTuple):
    """A row of a table.

    Attributes
    ----------
    line : int
        Line of the file where the row starts, counting from 1.
    names, values : sequences of the same length, unless the row is broken
        Column names and the values of the cells: text in CSV and TSV, any value in JSON.
    raw : str
        The row as it stands in the file, without its last newline.
    problem : str
        What is wrong with a broken row, worded to follow its line number; "" if nothing is.
    """

    line: int
    names: Sequence[str]
    values: Sequence[Any]
    raw: str
    problem: str = ""

    def cell(self, column: str) -> Any:
        """Return the value in a column of an unbroken row, or None if the row lacks the column."""
        return self.values[self.names.index(column)] if column in self.names else None


class Dialect(NamedTuple):
    """The format, delimiter, quoting and header of a table.

    Attributes
    ----------
    form : {"csv", "tsv", "jsonl", "json", "plain"}
        "json" is one array of objects, "jsonl" one object per line, whatever the file's name.
    delimiter : str
        Field separator of CSV and TSV.
    quoted : bool
        Whether quotes enclose fields; otherwise they are part of the text.
    header : bool
        Whether the first row names the columns; otherwise they are called 1, 2, 3, ...
    skipped : int
        Number of lines before the table.
    problem : str
        Why the table cannot be read, worded as `Row.problem`; `skipped` is then the faulty line.
    """

    form: str
    delimiter: str = ""
    quoted: bool = True
    header: bool = False
    skipped: int = 0
    problem: str = ""


def read_rows(
    pieces: Iterable[str], dialect: Dialect, trust_quotes: bool = False
) -> tuple[Row | None, Iterator[Row]]:
    """Return the header of a table and an iterator over its rows, including broken ones.

    The header is None for JSON, plain text and empty tables; otherwise its values are the column
    names. For `trust_quotes` see `separated`.
    """
    form = dialect.form
    if form == "json":
        return None, _json_array("".join(pieces))
    all_lines = lines(pieces)
    if form == "jsonl":
        return None, _jsonl(all_lines)
    if form == "plain":
        return None, _plain(all_lines)
    for _ in islice(all_lines, dialect.skipped):
        pass
    if dialect.quoted:
        rows = separated(all_lines, dialect.delimiter, dialect.skipped, trust_quotes)
    else:
        rows = _unquoted(all_lines, dialect.delimiter, dialect.skipped)
    first = next(rows, None)
    if first is None:
        return None, rows
    if dialect.header:
        return first, _with_names(rows, first.values, dialect, "the header")
    names = [str(number) for number in range(1, len(first.values) + 1)]
    header = Row(first.line, (), names, "", first.problem)
    return header, _with_names(chain([first], rows), names, dialect, "the first row")


def lines(pieces: Iterable[str]) -> Iterator[str]:
    """Yield lines with their newlines; unlike `str.splitlines`, split only at newlines."""
    line_parts: list[str] = []
    for piece in pieces:
        *complete, rest = piece.split("\n")
        for line in complete:
            line_parts.append(line)
            yield "".join(line_parts) + "\n"
            line_parts = []
        if rest:
            line_parts.append(rest)
    if line_parts:
        yield "".join(line_parts)


def _plain(table_lines: Iterable[str]) -> Iterator[Row]:
    names = (DEFAULT_COLUMN,)
    for number, line in enumerate(table_lines, 1):
        text = line.removesuffix("\n")
        yield Row(number, names, (text,), text)


def _jsonl(table_lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(table_lines, 1):
        if line.strip():
            yield json_row(number, line.removesuffix("\n"), json.loads)


def _json_array(text: str) -> Iterator[Row]:
    """Yield the elements of the array that begins the text; a syntax error gives a broken row."""
    decoder = json.JSONDecoder()
    at = counted = 0
    end = text.index("[") + 1

    def element(_: str) -> Any:
        nonlocal end
        value, end = decoder.raw_decode(text, at)
        return value

    line, closed = 1, False
    while True:
        at = _after_blanks(text, end)
        line += text.count("\n", counted, at)
        counted = at
        if closed or at == len(text):
            break
        if text[at] == "]":
            closed, end = True, at + 1
            continue
        row = json_row(line, "", element)
        yield row._replace(raw=text[at:end].replace("\n", " "))
        comma = _after_blanks(text, end)
        if text[comma : comma + 1] not in (",", "]"):
            if not row.problem.startswith("is not JSON"):
                yield Row(line, (), (), "", "is not JSON: no , or ] follows the object")
            return
        end = comma + (text[comma] == ",")
    if not closed or at < len(text):
        words = "something follows the ]" if closed else "the ] of the array is missing"
        yield Row(line, (), (), text[at:], f"is not JSON: {words}")


def _after_blanks(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    assert blanks is not None
    return blanks.end()


def json_row(line: int, raw: str, parse: Callable[[str], Any]) -> Row:
    """Parse `raw` as a JSON object and return it as a row; any error makes the row broken."""
    names: Sequence[str] = ()
    values: Sequence[Any] = ()
    problem = ""
    try:
        value = parse(raw)
    except json.JSONDecodeError as error:
        later_line = f" of line {error.lineno}" if error.lineno > line else ""
        problem = f"is not JSON: {error.msg} at column {error.colno}{later_line}"
    except (ValueError, RecursionError) as error:
        problem = f"is not JSON that can be read: {error}"
    else:
        if isinstance(value, dict):
            names, values = list(value), list(value.values())
        else:
            problem = f"is not a JSON object, but {type(value).__name__}"
    return Row(line, names, values, raw, problem)


def _unquoted(table_lines: Iterable[str], delimiter: str, lines_before: int) -> Iterator[Row]:
    """Yield all rows, the header first, of a table in which quotes are ordinary characters."""
    for number, line in enumerate(table_lines, lines_before + 1):
        if raw := line.removesuffix("\n"):
            yield Row(number, (), raw.split(delimiter), raw)


def separated(
    table_lines: Iterable[str], delimiter: str, lines_before: int = 0, trust_quotes: bool = False
) -> Iterator[Row]:
    """Yield all rows of a table, the header first; `lines_before` it are already skipped.

    A misplaced quote breaks only the line where its row starts; otherwise an unclosed quote would
    swallow the rest of the table. A quote that a later quote closes by chance (see
    `_swallows_rows`) breaks its line too, unless `trust_quotes` is set or enough earlier fields
    had line breaks.
    """
    if csv.field_size_limit() < _LARGEST_FIELD:
        csv.field_size_limit(_LARGEST_FIELD)
    source = iter(table_lines)
    pushed_back: list[str] = []  # lines to read again, in reverse order
    row_lines: list[str] = []  # lines of the current row

    def feed() -> Iterator[str]:
        while line := pushed_back.pop() if pushed_back else next(source, ""):
            row_lines.append(line)
            yield line

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    first: list[str] = []
    accepted = 0
    while True:
        problem = ""
        values: list[str] = []
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = _quote_problem(str(error))
        first = first or values
        multiline = (
            len(row_lines) > 1
            and not problem
            and not trust_quotes
            and accepted < _TRUSTED_AFTER_FIELDS
        )
        if multiline and _swallows_rows(row_lines, first, delimiter):
            problem = (
                f"has a quoted field that ends in line {lines_before + len(row_lines)}, but "
                f"these lines are rows by themselves: {_QUOTING_NONE_ADVICE}, --quoting csv reads "
                "one field"
            )
        else:
            accepted += multiline
        if problem:
            values = []
            pushed_back += row_lines[:0:-1]
            del row_lines[1:]
            reader = csv.reader(feed(), delimiter=delimiter, strict=True)
        if values or problem:
            raw = "".join(row_lines).removesuffix("\n")
            yield Row(lines_before + 1, (), values, raw, problem)
        lines_before += len(row_lines)
        row_lines.clear()


def _quote_problem(error: str) -> str:
    """Return the `Row.problem` for an error message of the csv module about a quote."""
    if "expected after" in error:
        return (
            "has a quoted field that continues after its closing quote: write a quote inside a "
            f'quoted field as "" ({_QUOTING_NONE_ADVICE})'
        )
    if "unexpected end" in error:
        return f"has a quote that is never closed ({_QUOTING_NONE_ADVICE})"
    return f"is broken: {printable(error)}"


def _swallows_rows(row_lines: Sequence[str], first_row: Sequence[str], delimiter: str) -> bool:
    """Return whether the lines of a row look like separate rows that one quoted field swallowed.

    They do if the first line, the last line and half of the others are not prose and have as many
    fields as the first row of the table, with quotes read as text. In prose a comma precedes a
    quote, a blank or the end of the line; the last two do not count if the first row has them too.
    """
    blank = "" if any(field.startswith(" ") for field in first_row[1:]) else " "
    end = "|$" if first_row[-1] else ""
    comma = re.escape(delimiter)
    prose = re.compile(f"{comma}(?:[{_QUOTES}{blank}]{end})")
    # The field opens in the first line, perhaps after other quoted fields.
    closed = re.sub(f'(^|{comma})"(?:[^"]|"")*"(?={comma})', r"\1x", row_lines[0])
    opened = re.sub(f'{comma}"+', lambda _: delimiter, closed, count=1)

    def alone(line: str) -> bool:
        return line.count(delimiter) == len(first_row) - 1 and not prose.search(line)

    between = [line for line in row_lines[1:-1] if line.strip()]
    ends = len(first_row) > 1 and alone(opened) and alone(row_lines[-1])
    return ends and 2 * sum(map(alone, between)) >= len(between)


def _with_names(
    rows: Iterable[Row], names: Sequence[str], dialect: Dialect, names_source: str
) -> Iterator[Row]:
    """Yield rows with their column names; rows with too few or too many fields are broken."""
    late_quote = re.compile(re.escape(dialect.delimiter) + ' +"')
    for row in rows:
        problem = row.problem
        if not problem and len(row.values) != len(names):
            count = len(row.values)
            problem = f"has {count} field{'s' * (count != 1)}; {names_source} has {len(names)}"
            if dialect.quoted and late_quote.search(row.raw):
                problem += " (a quote after a blank does not begin a quoted field)"
        yield Row(row.line, names, row.values, row.raw, problem)
