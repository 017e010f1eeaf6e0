"""Labels of texts: values converted to labels, and labels read from a table with the texts."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from chargen.errors import CorpusError, VocabularyError
from chargen.text.config import normal_label
from chargen.text.decoding import replace_invalid
from chargen.text.files import Advance
from chargen.text.tables import NOT_A_NUMBER, Table, find_column

SymbolOf = Callable[[str], str]
"""Returns a label's symbol in the stream of text; raises `VocabularyError` for an unknown label."""


def label_of(value: Any, position: str, errors: str = "strict") -> str | None:
    """Return a value as a label, or None if it is empty or missing.

    Numbers and booleans are written as in JSON; text is normalized by `normal_label`. Any other
    value raises `CorpusError`; `position` names its position in the message.
    """
    if callable(getattr(value, "item", None)):  # a NumPy scalar
        with contextlib.suppress(ValueError, RuntimeError):  # several values are no label
            value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        empty = not value.strip() or value in NOT_A_NUMBER
        return None if empty else normal_label(replace_invalid(value, errors, lambda _: position))
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise CorpusError(f"{position} is not a label, but {type(value).__name__}")


def labelled_texts(
    table: Table, column: str, symbol_of: SymbolOf, advance: Advance | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the label's symbol ("" without a label) and the text of each row that has a text.

    Raises `CorpusError` as `Table.texts` does, for a label that `symbol_of` refuses, and for a
    label column that is missing or also holds the texts. Rows of JSON may lack the label.
    """
    if table.dialect.form not in ("json", "jsonl"):
        find_column(table.columns, table.name, column, (), "label", table.advice)
    for row, text in table.rows_and_texts(advance, column):
        where = f"{table.name}, line {row.line}"
        label = label_of(row.cell(column), f"{where}: {column!r}", table.config.errors)
        try:
            yield symbol_of(label) if label else "", text
        except VocabularyError as error:
            raise CorpusError(f"{where}: {error}") from error


def _similar_pairs(labels: Iterable[str]) -> list[str]:
    """Return a description of each pair of labels that differ only in case or blanks."""
    first: dict[str, str] = {}
    pairs = []
    for label in labels:
        other = first.setdefault("".join(label.casefold().split()), label)
        if other != label:
            pairs.append(f"{other!r} and {label!r}")
    return pairs


def label_notes(source: str, labels: Collection[str], texts: int, hint: str = "") -> list[str]:
    """Return notes on distinct labels that may be no labels, or one label in two spellings.

    `texts` is the number of labelled texts; `hint` says what to do about two spellings.
    """
    notes = []
    if pairs := _similar_pairs(labels):
        words = "; ".join(pairs)
        notes.append(f"{source}: labels that differ only in case or blanks: {words}{hint}")
    if len(labels) == texts > 2:
        notes.append(f"{source}: each of the {texts:,} labels occurs once: are they labels?")
    return notes
