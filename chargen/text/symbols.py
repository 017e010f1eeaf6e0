"""The base class of vocabularies, which map symbols to ids and back and can be saved as JSON."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from chargen.errors import VocabularyError, brief, did_you_mean

Ids = npt.NDArray[Any]  # unsigned integers, 1-D

FORMAT = 1
_BLOCK = 1 << 20  # ids processed at a time

SEPARATOR = "\ud800"
"""Ends a document in the stream of text; no decoder yields it from real text."""

MOST_LABELS = 1000
_FIRST_LABEL = 0xD801  # the lone surrogates after the separator stand for labels


def plain_text(text: str, labels: int = MOST_LABELS) -> str:
    """Return a stream of text in readable form: newlines for separators, symbols of labels removed.

    `labels` is the number of labels; further label symbols are unknown characters and are kept.
    """
    if labels:
        text = re.sub(f"[{chr(_FIRST_LABEL)}-{chr(_FIRST_LABEL + labels - 1)}]", "", text)
    return text.replace(SEPARATOR, "\n")


class Vocabulary(ABC):
    """The symbols of a model and their ids.

    Attributes
    ----------
    level : str
        "char", "byte" (of UTF-8) or "raw" (any bytes).
    size : int
        Number of ids.
    dtype : numpy.dtype
        The smallest unsigned type that holds every id.
    unknown_id, separator_id : int or None
        Ids of characters outside the vocabulary and of the end of a document; None if absent.
    start_id : int
        Id of the start symbol, which precedes a text if nothing else does: the separator, or else
        the newline, or else the most frequent character.
    labels : tuple of str
        Names of the kinds of documents. The symbol of a label may begin a document; it is read but
        never predicted or drawn. The ids of labels are the last ones.
    """

    level: str
    size: int
    unknown_id: int | None
    separator_id: int | None
    start_id: int
    labels: tuple[str, ...] = ()

    @property
    def first_label_id(self) -> int:
        """Id of the first label; `size` if there are no labels."""
        return self.size - len(self.labels)

    def label_symbol(self, label: str) -> str:
        """Return a label's symbol in the stream of text; `VocabularyError` for an unknown label."""
        if label in self.labels:
            return chr(_FIRST_LABEL + self.labels.index(label))
        if not self.labels:
            raise VocabularyError("the model was trained without labels (--label-column)")
        known = ", ".join(map(repr, self.labels[:20])) + (", ..." if len(self.labels) > 20 else "")
        raise VocabularyError(
            f"the model has no label {brief(label)}{did_you_mean(str(label), self.labels)}; its "
            f"labels are {known}"
        )

    def count_predicted(self, ids: npt.NDArray[Any]) -> int:
        """Return how many of `ids` are predicted: all except labels."""
        if not self.labels:
            return len(ids)
        pieces = (ids[first : first + _BLOCK] for first in range(0, len(ids), _BLOCK))
        return sum(int((piece < self.first_label_id).sum()) for piece in pieces)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.min_scalar_type(self.size - 1))

    @property
    def never_sampled(self) -> npt.NDArray[np.int64]:
        """Ids that a sampler must not draw."""
        unknown = [] if self.unknown_id is None else [self.unknown_id]
        return np.array([*unknown, *range(self.first_label_id, self.size)], dtype=np.int64)

    @abstractmethod
    def encode(self, text: str) -> Ids:
        """Return 1-D ids of `self.dtype` for `text`, which may hold separators and label symbols.

        At byte level any other lone surrogate raises `VocabularyError`: UTF-8 has no bytes for it.
        """

    @abstractmethod
    def decode(self, ids: npt.ArrayLike) -> str:
        """Return the text of 1-D `ids`: newlines for separators, U+FFFD for unknowns, no labels.

        Raises `VocabularyError` for ids that are not whole numbers from 0 to ``size - 1``.
        """

    @abstractmethod
    def encode_prompt(self, text: str, unknown: str = "replace") -> tuple[Ids, str]:
        """Return the ids of a prompt, and the distinct unknown characters in it.

        `unknown` is what to do with unknown characters: "replace" or "skip". No character of a
        prompt is read as a separator or a label.
        """

    def character_starts(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the indices in 1-D `ids` where characters begin: all but continuation bytes."""
        return np.arange(len(np.asarray(ids)))

    def count_characters(self, ids: npt.ArrayLike) -> int:
        """Return the number of characters in 1-D `ids`, at least 1 so that it can be a divisor."""
        return max(1, self.count_predicted(np.asarray(ids)))

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return a complete description in the types of JSON, for `vocabulary_from_json`."""

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

    def _text_ids(self, ids: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the ids without labels, after checking them."""
        array = self._checked(ids)
        return array[array < self.first_label_id] if self.labels else array

    def _set_labels(self, labels: Any, documents: bool) -> None:
        names = tuple(labels) if isinstance(labels, tuple | list) else (None,)
        valid = all(isinstance(name, str) and name for name in names)
        if not valid or len(set(names)) < len(names) or len(names) > MOST_LABELS:
            raise VocabularyError(
                f"vocabulary: 'labels' must be at most {MOST_LABELS:,} different names, got "
                f"{brief(labels)}"
            )
        if names and not documents:
            raise VocabularyError("vocabulary: 'labels' need documents that are kept apart")
        self.labels = names
