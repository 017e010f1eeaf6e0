"""Texts that come from Python: each is looked at, and its newlines are read as those of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chargen.errors import CorpusError, brief
from chargen.text.decoding import newlines


def given_text(text: Any, name: str = "text") -> str:
    """The text, in which newlines of any convention are ``"\\n"``.

    Raises
    ------
    CorpusError
        Where it is no str; `name` says which one.
    """
    if not isinstance(text, str):
        raise CorpusError(f"{name} must be a text (str), got {brief(text)}")
    return newlines(text)


def given_texts(texts: Any, name: str = "texts") -> Iterator[str]:
    """The texts, one after another as they are asked for, each as `given_text` gives it.

    Raises
    ------
    CorpusError
        At once for a text, a table or anything else in the place of several texts; when it comes
        up for what is no text among them, with its position.
    """
    found = given_list(texts, name)
    return (given_text(text, f"{name}[{place}]") for place, text in enumerate(found))


def given_list(values: Any, name: str) -> Iterator[Any]:
    """The values, one after another.

    Raises
    ------
    CorpusError
        Where there is a single one, a table or anything else in the place of several.
    """
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
