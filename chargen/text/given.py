"""Texts that come from Python: each is looked at, and its newlines are read as those of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chargen.errors import CorpusError, brief
from chargen.text.decoding import newlines


def given_text(text: Any, name: str = "text") -> str:
    """The text, its newlines as those of a file; a `CorpusError` where it is no str."""
    if not isinstance(text, str):
        raise CorpusError(f"{name} must be a text (str), got {brief(text)}")
    return newlines(text)


def given_texts(texts: Any) -> Iterator[str]:
    """The texts as they are asked for, each as `given_text` gives it.

    Raises `CorpusError` as `given_list`, at once; for what is no text, with its position.
    """
    found = given_list(texts, "texts")
    return (given_text(text, f"texts[{place}]") for place, text in enumerate(found))


def given_list(values: Any, name: str) -> Iterator[Any]:
    """The values; a `CorpusError` where a single text or a table is in the place of several."""
    if isinstance(values, str | bytes):
        raise CorpusError(f"{name} must be a list, got a single text: put it into a list")
    if is_table(values):
        raise CorpusError(f"{name} must be a list, got a table: give one of its columns")
    try:
        return iter(values)
    except TypeError:
        raise CorpusError(f"{name} must be a list, got {brief(values)}") from None


def is_table(value: Any) -> bool:
    """Whether this is several columns by their names: a mapping or a data frame."""
    return isinstance(value, Mapping) or hasattr(value, "columns")
