"""Choose where the training text ends and the validation text begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from chargen.errors import CorpusError, OneDocumentError
from chargen.text.config import CorpusConfig
from chargen.text.vocabulary import Vocabulary

_BLOCK = 1 << 20  # ids searched at a time


def split_point(ids: npt.NDArray[Any], vocabulary: Vocabulary, config: CorpusConfig) -> int:
    """Return how many of the `ids` are for training; the rest, at the end, is for validation.

    The split falls between documents if they are kept apart, and never inside a UTF-8 character.
    Raises `CorpusError` if a fraction is asked for but the part for training would have fewer than
    two ids, or the other none.
    """
    if config.valid_fraction == 0:
        return len(ids)
    cut = int(len(ids) * (1 - config.valid_fraction))
    if config.documents is not None and vocabulary.separator_id is not None:
        cut = _after_separator(ids, cut, vocabulary.separator_id)
        if not 0 < cut < len(ids):
            raise OneDocumentError(
                "the corpus is one document, which cannot be split; name a validation text with "
                "--valid, or train without validation: --valid-fraction 0"
            )
        return cut
    if vocabulary.level == "byte":
        while 0 < cut < len(ids) and 0x80 <= ids[cut] < 0xC0:  # inside a character
            cut -= 1
    if not 1 < cut < len(ids):  # training needs a symbol and its successor
        raise CorpusError(
            f"--valid-fraction {config.valid_fraction} leaves too little text for training or none"
            f" for validation: the corpus has only {len(ids)} symbols"
        )
    return cut


def _after_separator(ids: npt.NDArray[Any], cut: int, separator: int) -> int:
    """Return the index after the last separator before `cut`, or else after the next separator."""
    for end in range(cut, 0, -_BLOCK):
        begin = max(end - _BLOCK, 0)
        positions = np.flatnonzero(ids[begin:end] == separator)
        if positions.size:
            return begin + int(positions[-1]) + 1
    for begin in range(cut, len(ids), _BLOCK):
        positions = np.flatnonzero(ids[begin : begin + _BLOCK] == separator)
        if positions.size:
            return begin + int(positions[0]) + 1
    return len(ids)
