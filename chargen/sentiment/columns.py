"""Tables of texts on disk: the file, its columns by their usual names, what a cell says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from chargen.errors import CorpusError
from chargen.sentiment.config import ExamplesConfig
from chargen.text.decoding import clean, decode
from chargen.text.files import Advance, Source, byte_blocks, from_path
from chargen.text.tables import Row, listed, read_table, text_of

# Usual names, the likeliest first.
TEXT_COLUMNS = (
    *("text", "review", "sentence", "content", "comment", "body", "document", "message", "tweet"),
)
LABEL_COLUMNS = (
    *("label", "sentiment", "class", "category", "target", "polarity", "y", "stars", "rating"),
)
# What pandas and numpy write for a missing value where they are made to write text.
_NOT_A_NUMBER = ("nan", "NaN")


class TableFile:
    """A table (or text, one a line) in a file, to be read from its beginning as often as needed.

    Parameters
    ----------
    path : str
    config : ExamplesConfig
        `encoding` and `errors` matter here.

    Attributes
    ----------
    source : Source
        `form` is "csv", "tsv", "jsonl" or "plain".
    columns : list of str
        The header; of JSON lines, all names in the order in which they appear first.
    notes : list of str
        Sentences about what was read otherwise than asked.

    Raises
    ------
    CorpusError
        Where the file is missing, a pipe, damaged, or not text.
    """

    def __init__(self, path: str, config: ExamplesConfig) -> None:
        self.source: Source = from_path(Path(path))
        self.config = config
        self.notes: list[str] = []
        if self.source.stream and self.source.form != "plain":
            raise CorpusError(
                f"{self.name} is a pipe; a table is read more than once: write it to a file first"
            )
        self.columns = self._find_columns()

    @property
    def name(self) -> str:
        """The file as shown to people."""
        return self.source.name

    def rows(self, advance: Advance | None = None) -> Iterator[Row]:
        """All rows, the broken ones among them; `advance` hears of the bytes read on disk."""
        return self._open(advance)[1]

    def _find_columns(self) -> list[str]:
        if self.source.form == "plain":
            return ["text"]
        header, rows = self._open()
        if header is not None:
            return header
        return list(dict.fromkeys(name for row in rows for name in row.names))

    def _open(self, advance: Advance | None = None) -> tuple[list[str] | None, Iterator[Row]]:
        notes: list[str] = []
        blocks = byte_blocks(self.source, advance)
        pieces = decode(blocks, self.name, self.config.encoding, self.config.errors, notes)
        opened = read_table(pieces, self.name, self.source.form)
        self.notes = notes
        return opened

    def text_column(self) -> str:
        """The column of the texts: the one that was asked for, or the first usual name.

        Raises
        ------
        CorpusError
            Which lists the columns there are.
        """
        return _column(self.columns, self.name, self.config.text_column, TEXT_COLUMNS, "text")


def text_and_label(columns: Sequence[str], name: str, config: ExamplesConfig) -> tuple[str, str]:
    """The columns of the texts and of the labels, as `TableFile.text_column` finds them."""
    text = _column(columns, name, config.text_column, TEXT_COLUMNS, "text")
    label = _column(columns, name, config.label_column, LABEL_COLUMNS, "label")
    if text == label:
        raise CorpusError(
            f"{name}: text and label would both be read from {text!r}: choose with "
            "--text-column and --label-column"
        )
    return text, label


def _column(
    columns: Sequence[str], name: str, wanted: str | None, usual: Sequence[str], what: str
) -> str:
    if not columns:
        raise CorpusError(f"{name} is empty: it has no columns")
    there = f"its columns are {listed(columns)}: choose one with --{what}-column"
    if wanted is not None:
        if wanted not in columns:
            raise CorpusError(f"{name} has no column {wanted!r}; {there}")
        return wanted
    for one in usual:
        for column in columns:
            if column.strip().casefold() == one:
                return column
    raise CorpusError(f"{name} has no {what} column with a usual name; {there}")


def cell(row: Row, column: str) -> Any:
    """What stands in a column of a whole row; None where the row lacks it."""
    return row.values[row.names.index(column)] if column in row.names else None


def text_in(row: Row, column: str, table: TableFile) -> str:
    """The text in a cell; "" where the cell says that there is none.

    Raises
    ------
    CorpusError
        Where something else than text stands there.
    """
    value = cell(row, column)
    if value is None or (value in _NOT_A_NUMBER and table.source.form != "plain"):
        return ""
    return text_of(row, column, table.name, table.config.errors)


def label_in(row: Row, column: str, table: TableFile) -> str | None:
    """The label in a cell, numbers and booleans of JSON as JSON writes them; None without one.

    Raises
    ------
    CorpusError
        Where something else than a label stands there.
    """
    where = f"{table.name}, line {row.line}"
    return label_of(cell(row, column), f"{where}: {column!r}", where, table.config.errors)


def label_of(value: Any, name: str, where: str, errors: str) -> str | None:
    """A value as a label, as `label_in` reads it; `name` and `where` are for the errors."""
    if callable(getattr(value, "item", None)):  # a number of numpy's
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        empty = not value.strip() or value in _NOT_A_NUMBER
        return None if empty else clean(value, errors, lambda _: where)
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise CorpusError(f"{name} is not a label, but {type(value).__name__}")
