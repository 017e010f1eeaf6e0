"""What every vocabulary is: symbols as ids and back, and a description in JSON."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from chargen.errors import VocabularyError, brief, did_you_mean

Ids = npt.NDArray[Any]  # unsigned integers, 1-D

FORMAT = 1
_BLOCK = 1 << 20  # ids looked at together

SEPARATOR = "\ud800"
"""Stands for "a document ends" in the stream of text; no decoder yields it from real text."""

MOST_LABELS = 1000
_FIRST_LABEL = 0xD801  # the lone surrogates after the separator stand for labels


def plain_text(text: str, labels: int = MOST_LABELS) -> str:
    """A stream of text as people read it: a newline where a document ends, and no labels.

    So many labels there are; what would be another one is a character that is not known.
    """
    if labels:
        text = re.sub(f"[{chr(_FIRST_LABEL)}-{chr(_FIRST_LABEL + labels - 1)}]", "", text)
    return text.replace(SEPARATOR, "\n")


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
    labels : tuple of str
        What a document may begin with to say of which kind it is: symbols that are read, and never
        predicted or drawn. Their ids are the last ones.
    """

    level: str
    size: int
    unknown_id: int | None
    separator_id: int | None
    start_id: int
    labels: tuple[str, ...] = ()

    @property
    def first_label_id(self) -> int:
        """The first id that is a label's; `size` where there are no labels."""
        return self.size - len(self.labels)

    def label_symbol(self, label: str) -> str:
        """What stands for a label in the stream of text; an unknown one is a `VocabularyError`."""
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
        """How many of `ids` are predicted: all but labels."""
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
        """Ids of `text`, 1-D of `self.dtype`, of `SEPARATOR` and symbols of labels if it has them.

        At byte level lone surrogates are a `VocabularyError`: they have no bytes.
        """

    @abstractmethod
    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of 1-D `ids`: a separator reads as a newline, an unknown as U+FFFD, no label.

        Ids that are not whole numbers from 0 to ``size - 1`` are a `VocabularyError`.
        """

    @abstractmethod
    def encode_prompt(self, text: str, unknown: str = "replace") -> tuple[Ids, str]:
        """Ids of what a person typed, and the distinct characters in it that are unknown.

        `unknown` says what becomes of those: "replace" or "skip". Nothing in a prompt is taken for
        a separator or a label.
        """

    def character_starts(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Where in 1-D `ids` each character begins: everywhere, but for bytes that go on one."""
        return np.arange(len(np.asarray(ids)))

    def count_characters(self, ids: npt.ArrayLike) -> int:
        """Characters in 1-D `ids`; at least 1, for dividing by."""
        return max(1, self.count_predicted(np.asarray(ids)))

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

    def _text_ids(self, ids: npt.ArrayLike) -> npt.NDArray[Any]:
        """The same without labels, checked."""
        array = self._checked(ids)
        return array[array < self.first_label_id] if self.labels else array

    def _take_labels(self, labels: Any, documents: bool) -> None:
        names = tuple(labels) if isinstance(labels, tuple | list) else (None,)
        sound = all(isinstance(one, str) and one for one in names)
        if not sound or len(set(names)) < len(names) or len(names) > MOST_LABELS:
            raise VocabularyError(
                f"vocabulary: 'labels' must be at most {MOST_LABELS:,} different names, got "
                f"{brief(labels)}"
            )
        if names and not documents:
            raise VocabularyError("vocabulary: 'labels' need documents that are kept apart")
        self.labels = names
