"""The labels of a table's rows, beside their texts. Knows nothing about files or vocabularies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from chargen.errors import CorpusError, VocabularyError
from chargen.text.config import CorpusConfig
from chargen.text.decoding import clean
from chargen.text.tables import DEFAULT_COLUMN, Row, broken, listed, read_table, text_of

SymbolOf = Callable[[str], str]
"""What stands for a label in the stream of text; a `VocabularyError` where there is no such one."""


def labelled_rows(
    pieces: Iterable[str], name: str, form: str, config: CorpusConfig, symbol_of: SymbolOf
) -> Iterator[tuple[str, str]]:
    """The symbol of its label ("" without one) and the text of every row that has any.

    Arguments and errors are those of `chargen.text.tables.rows`; and an unknown label, or a column
    of labels that is not there, is a `CorpusError`. A row of JSON lines may lack its label.
    """
    column = str(config.label_column)
    text_column = DEFAULT_COLUMN if config.text_column is None else config.text_column
    header, found = read_table(pieces, name, form)
    if header and column not in header:
        raise CorpusError(
            f"{name} has no column {column!r}; its columns are {listed(header)}: choose one with "
            "--label-column"
        )
    for row in found:
        if row.problem:
            raise broken(row, name)
        if not (text := text_of(row, text_column, name, config.errors)):
            continue
        where = f"{name}, line {row.line}"
        label = _label(row, column, where, config.errors)
        try:
            yield symbol_of(label) if label else "", text
        except VocabularyError as error:
            raise CorpusError(f"{where}: {error}") from error


def _label(row: Row, column: str, where: str, errors: str) -> str:
    """Numbers and booleans of JSON are labels as JSON writes them; "" is none."""
    value: Any = row.values[row.names.index(column)] if column in row.names else None
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        raise CorpusError(f"{where}: {column!r} is not a label, but {type(value).__name__}")
    return clean(value, errors, lambda _: where).strip()
