"""The formats of corpora by the endings of files, and the rows of those that are tables.

CSV of any dialect, JSON, and plain text as a table of one column: the only place where csv and JSON
are parsed. Knows nothing about files.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from chargen.errors import shown

TABLES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
"""The formats that `read_rows` reads, by the endings of files; all other files are plain text."""

DEFAULT_COLUMN = "text"
DELIMITERS = {"csv": ",", "tsv": "\t"}
"""What separates fields unless the file shows another."""

# An unclosed quote must not read the rest of the file into memory.
_LARGEST_FIELD = 1 << 28
# Fields with line breaks after which a table is CSV, whatever the next one looks like.
_ENOUGH = 10
_AS_TEXT = "--quoting none reads quotes as part of the text"
_QUOTES = "\"'\u2019\u201d\u00bb"  # that may follow a comma
_BLANKS = re.compile(r"[ \t\n]*")


class Row(NamedTuple):
    """A row of a table.

    Attributes
    ----------
    line : int
        Of the file, where the row starts, counting from 1.
    names, values : sequences of the same length, unless the row is broken
        Columns and what stands in them: text in CSV and TSV, any value in JSON.
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


class Dialect(NamedTuple):
    """How a table is written.

    Attributes
    ----------
    form : {"csv", "tsv", "jsonl", "json", "plain"}
        "json" is one array of objects, "jsonl" an object a line, whatever the file's name.
    delimiter : str
        Of CSV and TSV.
    quoted : bool
        Whether quotes hold fields together, or are part of the text.
    header : bool
        Whether the first row names the columns; else they are called 1, 2, 3, ...
    skipped : int
        Lines before the table.
    problem : str
        Why it cannot be read, as `Row.problem`; `skipped` is then the line.
    """

    form: str
    delimiter: str = ""
    quoted: bool = True
    header: bool = False
    skipped: int = 0
    problem: str = ""


def read_rows(
    pieces: Iterable[str], dialect: Dialect, trusted: bool = False
) -> tuple[Row | None, Iterator[Row]]:
    """The header of a table, None where it has none, and its rows, the broken ones among them.

    `trusted` as `separated` has it.
    """
    form = dialect.form
    if form == "json":
        return None, _json_array("".join(pieces))
    fed = lines(pieces)
    if form == "jsonl":
        return None, _jsonl(fed)
    if form == "plain":
        return None, _plain(fed)
    for _ in islice(fed, dialect.skipped):
        pass
    if dialect.quoted:
        found = separated(fed, dialect.delimiter, dialect.skipped, trusted)
    else:
        found = _unquoted(fed, dialect.delimiter, dialect.skipped)
    first = next(found, None)
    if first is None:
        return None, found
    if dialect.header:
        return first, _counted(found, first.values, dialect, "the header")
    names = [str(number) for number in range(1, len(first.values) + 1)]
    header = Row(first.line, (), names, "", first.problem)
    return header, _counted(chain([first], found), names, dialect, "the first row")


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
        if line.strip():
            yield json_row(number, line.removesuffix("\n"), json.loads)


def _json_array(text: str) -> Iterator[Row]:
    """The elements of an array, which begins the text; what is wrong with it is a broken row."""
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


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    assert found is not None
    return found.end()


def json_row(line: int, raw: str, parse: Callable[[str], Any]) -> Row:
    """A row of what `parse` gives."""
    names: Sequence[str] = ()
    values: Sequence[Any] = ()
    problem = ""
    try:
        value = parse(raw)
    except json.JSONDecodeError as error:
        there = f" of line {error.lineno}" if error.lineno > line else ""
        problem = f"is not JSON: {error.msg} at column {error.colno}{there}"
    except (ValueError, RecursionError) as error:
        problem = f"is not JSON that can be read: {error}"
    else:
        if isinstance(value, dict):
            names, values = list(value), list(value.values())
        else:
            problem = f"is not a JSON object, but {type(value).__name__}"
    return Row(line, names, values, raw, problem)


class _Feed:
    """Lines for `csv.reader`, which remembers those of the row that is being read."""

    def __init__(self, fed: Iterable[str], done: int) -> None:
        self._fed = iter(fed)
        self._again: list[str] = []
        self._done = done
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


def _unquoted(fed: Iterable[str], delimiter: str, done: int) -> Iterator[Row]:
    """All rows of a table in which a quote is a character like others, the header first."""
    for number, line in enumerate(fed, done + 1):
        if raw := line.removesuffix("\n"):
            yield Row(number, (), raw.split(delimiter), raw)


def separated(
    fed: Iterable[str], delimiter: str, done: int = 0, trusted: bool = False
) -> Iterator[Row]:
    """All rows, the header first, after `done` lines that are none.

    A quote that goes wrong breaks the line where the row starts and no other: one that is never
    closed would else swallow all that follows. So does one that a later quote closes by chance
    (see `_swallowed`), unless the quotes are `trusted`: told to be, or because enough fields before
    held line breaks as CSV has them.
    """
    if csv.field_size_limit() < _LARGEST_FIELD:
        csv.field_size_limit(_LARGEST_FIELD)
    feed = _Feed(fed, done)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    first: list[str] = []
    sound = 0
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
        several = len(feed.row) > 1 and not problem and not trusted and sound < _ENOUGH
        if several and _swallowed(feed.row, first, delimiter):
            problem = (
                f"has a quoted field that ends in line {feed.line + len(feed.row) - 1}, but these "
                f"lines are rows by themselves: {_AS_TEXT}, --quoting csv reads one field"
            )
        else:
            sound += several
        if problem:
            values = []
            feed.retreat()
        raw = "".join(feed.row).removesuffix("\n")
        line = feed.line
        feed.next_row()
        if values or problem:
            yield Row(line, (), values, raw, problem)


def _quote_problem(error: str) -> str:
    """What the csv module says of a quote, as `Row.problem`."""
    if "expected after" in error:
        return (
            "has a quoted field that goes on after its closing quote: write a quote inside a "
            f'quoted field as "" ({_AS_TEXT})'
        )
    if "unexpected end" in error:
        return f"has a quote that is never closed ({_AS_TEXT})"
    return f"is broken: {shown(error)}"


def _swallowed(row: Sequence[str], first: Sequence[str], delimiter: str) -> bool:
    """Whether the lines of a row look like rows: one field may have swallowed them.

    They do where the first, the last and half of the others have as many fields as the first row
    of the table, quotes being text. After a comma prose has a blank, a quote or the end of the
    line: then they do not, unless the first row of the table has blanks or the end there too.
    """
    blank = "" if any(field.startswith(" ") for field in first[1:]) else " "
    end = "|$" if first[-1] else ""
    after = re.escape(delimiter)
    prose = re.compile(f"{after}(?:[{_QUOTES}{blank}]{end})")
    # The field opens in the first line, perhaps after others in quotes.
    closed = re.sub(f'(^|{after})"(?:[^"]|"")*"(?={after})', r"\1x", row[0])
    opened = re.sub(f'{after}"+', lambda _: delimiter, closed, count=1)

    def alone(line: str) -> bool:
        return line.count(delimiter) == len(first) - 1 and not prose.search(line)

    between = [line for line in row[1:-1] if line.strip()]
    ends = len(first) > 1 and alone(opened) and alone(row[-1])
    return ends and 2 * sum(map(alone, between)) >= len(between)


def _counted(
    found: Iterable[Row], names: Sequence[str], dialect: Dialect, of: str
) -> Iterator[Row]:
    """Rows with their names; those that have too few or too many fields are broken."""
    late = re.compile(re.escape(dialect.delimiter) + ' +"')
    for row in found:
        problem = row.problem
        if not problem and len(row.values) != len(names):
            count = len(row.values)
            problem = f"has {count} field{'s' * (count != 1)}; {of} has {len(names)}"
            if dialect.quoted and late.search(row.raw):
                problem += " (a quote after a blank does not begin a quoted field)"
        yield Row(row.line, names, row.values, row.raw, problem)
