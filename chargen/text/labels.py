"""The labels of texts: what a value says, and those of a table's rows beside their texts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from chargen.errors import CorpusError, VocabularyError
from chargen.text.config import normal_label
from chargen.text.decoding import clean
from chargen.text.files import Advance
from chargen.text.tables import NOT_A_NUMBER, Table, find_column

SymbolOf = Callable[[str], str]
"""What stands for a label in the stream of text; a `VocabularyError` where there is no such one."""


def label_of(value: Any, where: str, errors: str = "strict") -> str | None:
    """A value as a label; None where there is none.

    Numbers and booleans are as JSON writes them, text as `normal_label` has it. Something else is a
    `CorpusError` that says `where` it was found.
    """
    if callable(getattr(value, "item", None)):  # a number of numpy's
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        empty = not value.strip() or value in NOT_A_NUMBER
        return None if empty else normal_label(clean(value, errors, lambda _: where))
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise CorpusError(f"{where} is not a label, but {type(value).__name__}")


def labelled_texts(
    table: Table, column: str, symbol_of: SymbolOf, advance: Advance | None = None
) -> Iterator[tuple[str, str]]:
    """The symbol of its label ("" without one) and the text of every row that has a text.

    Raises `CorpusError` as `Table.texts`; and for a label that `symbol_of` does not know, or a
    column of labels that is not there or holds the texts. A row of JSON may lack its label.
    """
    if table.dialect.form not in ("json", "jsonl"):
        find_column(table.columns, table.name, column, (), "label", table.advice)
        if column in table.text_columns:
            raise same_column(table.name, column)
    for row, text in table.rows_and_texts(advance):
        where = f"{table.name}, line {row.line}"
        label = label_of(row.cell(column), f"{where}: {column!r}", table.config.errors)
        try:
            yield symbol_of(label) if label else "", text
        except VocabularyError as error:
            raise CorpusError(f"{where}: {error}") from error


def _alike(labels: Iterable[str]) -> list[str]:
    """Labels that differ only in case or in blanks, each pair as a sentence names it."""
    first: dict[str, str] = {}
    pairs = []
    for label in labels:
        other = first.setdefault("".join(label.casefold().split()), label)
        if other != label:
            pairs.append(f"{other!r} and {label!r}")
    return pairs


def odd_labels(source: str, labels: Collection[str], texts: int, hint: str = "") -> list[str]:
    """Notes on the distinct labels of so many texts that may be none, or one that is written twice.

    `hint` says what can be done about the second.
    """
    notes = []
    if pairs := _alike(labels):
        words = "; ".join(pairs)
        notes.append(f"{source}: labels that differ only in case or blanks: {words}{hint}")
    if len(labels) == texts > 2:
        notes.append(f"{source}: each of the {texts:,} labels occurs once: are they labels?")
    return notes


def same_column(name: str, column: str) -> CorpusError:
    """The sentence for a table whose texts would be its labels."""
    return CorpusError(
        f"{name}: text and label would both be read from {column!r}: choose with --text-column and "
        "--label-column"
    )
