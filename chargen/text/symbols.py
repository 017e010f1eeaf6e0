"""What every vocabulary is: symbols as ids and back, and a description in JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from chargen.errors import VocabularyError

Ids = npt.NDArray[Any]  # unsigned integers, 1-D

FORMAT = 1

SEPARATOR = "\ud800"
"""Stands for "a document ends" in the stream of text; no decoder yields it from real text."""


class Vocabulary(ABC):
    """The symbols that a model knows.

    Attributes
    ----------
    level : str
        "char", "byte" (of UTF-8) or "raw" (any bytes).
    size : int
        Number of ids.
    dtype : numpy.dtype
        The smallest unsigned type that holds every id.
    unknown_id, separator_id : int or None
        For characters that are not in the vocabulary, and for the end of a document.
    start_id : int
        What a text starts after when nothing precedes it: the separator, else the newline,
        else the most frequent character.
    """

    level: str
    size: int
    unknown_id: int | None
    separator_id: int | None
    start_id: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.min_scalar_type(self.size - 1))

    @property
    def never_sampled(self) -> npt.NDArray[np.int64]:
        """Ids that a sampler must not draw."""
        return np.array([i for i in (self.unknown_id,) if i is not None], dtype=np.int64)

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """Ids of `text`, 1-D of `self.dtype`; `SEPARATOR` becomes `separator_id` if there is one.

        At byte level lone surrogates are a `VocabularyError`: they have no bytes.
        """

    @abstractmethod
    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of 1-D `ids`: a separator reads as a newline, an unknown as U+FFFD.

        Ids that are not whole numbers from 0 to ``size - 1`` are a `VocabularyError`.
        """

    @abstractmethod
    def encode_prompt(self, text: str, unknown: str = "replace") -> tuple[Ids, str]:
        """Ids of what a person typed, and the distinct characters in it that are unknown.

        `unknown` says what becomes of those: "replace", "skip", or "error" (`VocabularyError`).
        Nothing in a prompt is taken for a separator.
        """

    def character_starts(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Where in 1-D `ids` each character begins: everywhere, but for bytes that go on one."""
        return np.arange(len(np.asarray(ids)))

    def count_characters(self, ids: npt.ArrayLike) -> int:
        """Characters in 1-D `ids`; at least 1, for dividing by."""
        return max(1, len(np.asarray(ids)))

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All there is to know, in the types of JSON."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(repr(self.to_json()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size})"

    def _checked(self, ids: npt.ArrayLike) -> npt.NDArray[Any]:
        array = np.asarray(ids)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise VocabularyError("ids must be a 1-D array of whole numbers")
        if not array.size:
            return array.astype(np.int64)
        if array.min() < 0 or array.max() >= self.size:
            raise VocabularyError(f"ids must lie between 0 and {self.size - 1}")
        return array


def refuse_unknown(unknown: str, characters: str) -> None:
    """Raise `VocabularyError` where `unknown` asks for it, or is no such choice."""
    if unknown not in ("replace", "skip", "error"):
        raise VocabularyError(f"unknown must be 'replace', 'skip' or 'error', got {unknown!r}")
    if characters and unknown == "error":
        listed = ", ".join(ascii(c) if not c.isprintable() else repr(c) for c in characters[:20])
        raise VocabularyError(f"the model does not know these characters: {listed}")
