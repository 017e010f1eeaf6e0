"""Check texts that come from Python, and convert their newlines as when reading files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chargen.errors import CorpusError, brief
from chargen.text.decoding import normalize_newlines


def given_text(text: Any, name: str = "text") -> str:
    """Return a text with newlines converted as for a file; `CorpusError` if it is not a str."""
    if not isinstance(text, str):
        raise CorpusError(f"{name} must be a text (str), got {brief(text)}")
    return normalize_newlines(text)


def given_texts(texts: Any) -> Iterator[str]:
    """Return an iterator over the texts, each checked and converted by `given_text`.

    Raises `CorpusError` at once as `given_list` does, and later for an item that is not a str,
    with its index.
    """
    items = given_list(texts, "texts")
    return (given_text(text, f"texts[{index}]") for index, text in enumerate(items))


def given_list(values: Any, name: str) -> Iterator[Any]:
    """Return an iterator over a list; `CorpusError` for a text, table, set or non-iterable."""
    if isinstance(values, str | bytes):
        raise CorpusError(f"{name} must be a list, got a single text: put it into a list")
    if is_table(values):
        raise CorpusError(f"{name} must be a list, got a table: give one of its columns")
    if isinstance(values, set | frozenset):
        raise CorpusError(
            f"{name} must be a list, got a set, whose order changes from run to run: sort it"
        )
    try:
        return iter(values)
    except TypeError:
        raise CorpusError(f"{name} must be a list, got {brief(values)}") from None


def is_table(value: Any) -> bool:
    """Return whether a value holds columns by name, as a mapping or a data frame does."""
    return isinstance(value, Mapping) or hasattr(value, "columns")
