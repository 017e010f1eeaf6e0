"""Detect how a table is written from its content: delimiter, quotes, JSON array or JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from chargen.text.formats import DELIMITERS, Dialect, json_row, lines, separated

_CANDIDATE_DELIMITERS = (",", ";", "\t", "|")
_FIRST_LINES = 50
"""Number of lines at the beginning of a file from which the delimiter is inferred."""

_SEPARATOR_LINE = re.compile(r"sep=(.)\n?", re.IGNORECASE)  # written by Excel before the header
_CLOSED_FIELD = re.compile(r'"(?:[^"]|"")*"')


def find_dialect(
    read: Callable[[], Iterable[str]],
    form: str,
    delimiter: str | None = None,
    header: bool = True,
    quoting: str | None = None,
) -> Dialect:
    """Return how a table is written, judging by its content.

    Parameters
    ----------
    read : callable
        Returns the decoded file from its beginning; tab-separated files are read to their end.
    form : {"csv", "tsv", "jsonl", "json", "plain"}
        Format according to the file's name.
    delimiter : str, optional
        Character that separates the fields, if known. By default it is the one of , ; tab and |
        that gives all the first rows the same number of fields, two or more.
    header : bool
        Whether the first row names the columns.
    quoting : {"csv", "none"}, optional
        Whether quotes hold fields together, if known.
    """
    if form == "plain":
        return Dialect(form)
    if form in ("json", "jsonl"):
        return _json_dialect(lines(read()), form)
    first_lines = list(islice(lines(read()), _FIRST_LINES))
    declaration = _SEPARATOR_LINE.fullmatch(first_lines[0]) if first_lines else None
    skipped = 1 if declaration else 0
    if delimiter is None:
        candidates = (
            [declaration[1]] if declaration else _delimiters(first_lines, DELIMITERS[form], quoting)
        )
        delimiter = candidates[0]
        if len(candidates) > 1 and not header and form == "csv":
            words = " or ".join("a tab" if each == "\t" else repr(each) for each in candidates)
            problem = f"may be separated by {words}: choose with --delimiter"
            return Dialect(form, delimiter, skipped=1, problem=problem)
    if quoting is not None or delimiter != "\t":
        return Dialect(form, delimiter, quoting != "none", header, skipped)
    quoted, mixed = _tab_separated_quoting(lambda: islice(lines(read()), skipped, None))
    problem = (
        "has a quoted field with tabs and line breaks in it, or quotes that are part of the text: "
        "--quoting csv reads the former, --quoting none the latter"
    )
    if mixed:
        return Dialect(form, delimiter, skipped=mixed + skipped, problem=problem)
    return Dialect(form, delimiter, quoted, header, skipped)


def named_columns(first_lines: Iterable[str]) -> list[str]:
    """Return the first row of plain text that looks like a table; [] if it does not.

    It looks like one if half of the first rows have as many fields as the very first, two or more.
    """
    sample = list(islice(first_lines, _FIRST_LINES))
    delimiter = _delimiters(sample, "", None)[0] if sample else ""
    if not delimiter:
        return []
    rows = [row.values for row in separated(sample, delimiter)]
    alike = sum(len(row) == len(rows[0]) for row in rows)
    return list(rows[0]) if len(rows) > 1 and 2 * alike >= len(rows) else []


def _json_dialect(table_lines: Iterator[str], form: str) -> Dialect:
    number, first = next(
        ((n, line) for n, line in enumerate(table_lines, 1) if line.strip()), (0, "")
    )
    if first.lstrip().startswith("["):
        return Dialect("json")
    row = json_row(number, first, json.loads)
    if form == "json" and number and row.problem:
        words = f"{row.problem}; a .json file holds an array of objects, or one object per line"
        return Dialect(form, skipped=number, problem=words)
    return Dialect("jsonl")


def _delimiters(first_lines: Sequence[str], usual: str, quoting: str | None) -> list[str]:
    """Return the delimiters that give the largest share of rows as many fields as the first row.

    The usual one comes first; if no candidate gives two fields or more, it is the only one. Tabs
    are counted line by line, unless `quoting` says that quotes hold fields together.
    """
    shares = {}
    trusted = quoting == "csv"
    for delimiter in sorted(_CANDIDATE_DELIMITERS, key=lambda each: each != usual):
        if quoting == "none" or (delimiter == "\t" and quoting is None):
            counts = [line.count(delimiter) + 1 for line in first_lines if line.strip()]
        else:
            counts = [
                len(row.values) for row in separated(first_lines, delimiter, trust_quotes=trusted)
            ]
            if len(first_lines) == _FIRST_LINES:
                counts.pop()  # the last row may be incomplete
        if counts and counts[0] > 1:
            shares[delimiter] = counts.count(counts[0]) / len(counts)
    best = max(shares.values(), default=0)
    return [delimiter for delimiter, share in shares.items() if share == best] or [usual]


def _tab_separated_quoting(read: Callable[[], Iterable[str]]) -> tuple[bool, int]:
    """Return whether the quotes of a tab-separated table hold fields together.

    They do if each field that begins with a quote ends with one. A field may end on a later line,
    unless each line is a row by itself: a stray quote must not merge several rows into one.

    Returns
    -------
    quoted : bool
    mixed : int
        Line of the first row that would be whole only with both tabs and line breaks in one field;
        0 if there is none.
    """
    width = 0
    lines_are_rows = closed = True
    for line in read():
        fields = line.removesuffix("\n").split("\t")
        if fields == [""]:
            continue
        width = width or len(fields)
        lines_are_rows = lines_are_rows and len(fields) == width
        if '"' in line:
            quoted = (field for field in fields if field.startswith('"'))
            closed = closed and all(_CLOSED_FIELD.fullmatch(field) for field in quoted)
    if closed or lines_are_rows:
        return closed, 0
    mixed = 0
    width = 0
    for row in separated(read(), "\t", trust_quotes=True):
        width = width or len(row.values)
        if row.problem or len(row.values) != width:
            return False, 0
        if not mixed and any("\t" in field and "\n" in field for field in row.values):
            mixed = row.line
    return True, mixed
