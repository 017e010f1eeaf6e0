"""How a table is written, found in what stands in it: delimiter, quotes, array or lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from chargen.text.formats import DELIMITERS, Dialect, json_row, lines, separated

_CANDIDATES = (",", ";", "\t", "|")
_FIRST_LINES = 50
"""Lines in which a file shows what separates its fields."""

_SEPARATOR_LINE = re.compile(r"sep=(.)\n?", re.IGNORECASE)  # Excel's, before the header
_CLOSED = re.compile(r'"(?:[^"]|"")*"')


def find_dialect(
    read: Callable[[], Iterable[str]],
    form: str,
    delimiter: str | None = None,
    header: bool = True,
    quoting: str | None = None,
) -> Dialect:
    """How a table is written, by what stands in it.

    Parameters
    ----------
    read : callable
        Gives the decoded file from its beginning; tab-separated files are read to their end.
    form : {"csv", "tsv", "jsonl", "json", "plain"}
        By the file's name.
    delimiter : str, optional
        What separates the fields, where that is known. Otherwise it is the one of , ; tab and |
        that gives all the first rows the same number of fields, two or more.
    header : bool
        Whether there is one.
    quoting : {"csv", "none"}, optional
        Whether quotes hold fields together, where that is known.
    """
    if form == "plain":
        return Dialect(form)
    if form in ("json", "jsonl"):
        return _json_dialect(lines(read()), form)
    first_lines = list(islice(lines(read()), _FIRST_LINES))
    told = _SEPARATOR_LINE.fullmatch(first_lines[0]) if first_lines else None
    skipped = 1 if told else 0
    if delimiter is None:
        found = [told[1]] if told else _delimiters(first_lines, DELIMITERS[form], quoting)
        delimiter = found[0]
        if len(found) > 1 and not header and form == "csv":
            words = " or ".join("a tab" if one == "\t" else repr(one) for one in found)
            problem = f"may be separated by {words}: choose with --delimiter"
            return Dialect(form, delimiter, skipped=1, problem=problem)
    if quoting is not None or delimiter != "\t":
        return Dialect(form, delimiter, quoting != "none", header, skipped)
    quoted, mixed = _tabs_and_quotes(lambda: islice(lines(read()), skipped, None))
    problem = (
        "has a quoted field with tabs and line breaks in it, or quotes that are part of the text: "
        "--quoting csv reads the one, --quoting none the other"
    )
    if mixed:
        return Dialect(form, delimiter, skipped=mixed + skipped, problem=problem)
    return Dialect(form, delimiter, quoted, header, skipped)


def named_columns(first_lines: Iterable[str]) -> list[str]:
    """The first row of plain text that looks like a table; nothing where it does not.

    It does where half of the first lines have as many fields as the very first, two or more.
    """
    some = list(islice(first_lines, _FIRST_LINES))
    delimiter = _delimiters(some, "", None)[0] if some else ""
    if not delimiter:
        return []
    found = [row.values for row in separated(some, delimiter)]
    alike = sum(len(row) == len(found[0]) for row in found)
    return list(found[0]) if len(found) > 1 and 2 * alike >= len(found) else []


def _json_dialect(fed: Iterator[str], form: str) -> Dialect:
    number, first = next(((n, line) for n, line in enumerate(fed, 1) if line.strip()), (0, ""))
    if first.lstrip().startswith("["):
        return Dialect("json")
    row = json_row(number, first, json.loads)
    if form == "json" and number and row.problem:
        words = f"{row.problem}; a .json file holds an array of objects, or an object a line"
        return Dialect(form, skipped=number, problem=words)
    return Dialect("jsonl")


def _delimiters(first_lines: Sequence[str], usual: str, quoting: str | None) -> list[str]:
    """What may separate fields, the likeliest first: that of which all rows have as many.

    Where none is so, that of which most rows have as many as the header. Tabs are counted line by
    line, unless `quoting` says that quotes hold fields together.
    """
    shares = {}
    trusted = quoting == "csv"
    for one in sorted(_CANDIDATES, key=lambda each: each != usual):
        if quoting == "none" or (one == "\t" and quoting is None):
            counts = [line.count(one) + 1 for line in first_lines if line.strip()]
        else:
            counts = [len(row.values) for row in separated(first_lines, one, trusted=trusted)]
            if len(first_lines) == _FIRST_LINES:
                counts.pop()  # it may go on in lines that were not looked at
        if counts and counts[0] > 1:
            shares[one] = counts.count(counts[0]) / len(counts)
    best = max(shares.values(), default=0)
    return [one for one, share in shares.items() if share == best] or [usual]


def _tabs_and_quotes(read: Callable[[], Iterable[str]]) -> tuple[bool, int]:
    """Whether the quotes of a tab-separated table hold fields together.

    They do where each field that begins with one ends with one. A field may end some lines on, but
    only where the lines by themselves are no rows: a stray quote must not make one row of several.

    Returns
    -------
    quoted : bool
    mixed : int
        The row, by its line, that would be whole only with both tabs and line breaks in one field;
        0 where there is none.
    """
    width = 0
    alone = closed = True
    for line in read():
        fields = line.removesuffix("\n").split("\t")
        if fields == [""]:
            continue
        width = width or len(fields)
        alone = alone and len(fields) == width
        if '"' in line:
            opened = (each for each in fields if each.startswith('"'))
            closed = closed and all(_CLOSED.fullmatch(each) for each in opened)
    if closed or alone:
        return closed, 0
    mixed = 0
    width = 0
    for row in separated(read(), "\t", trusted=True):
        width = width or len(row.values)
        if row.problem or len(row.values) != width:
            return False, 0
        if not mixed and any("\t" in each and "\n" in each for each in row.values):
            mixed = row.line
    return True, mixed
