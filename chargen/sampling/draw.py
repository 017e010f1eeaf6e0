"""Drawing ids from filtered logits with numbers that belong to each stream alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.sampling.filters import Ids, Logits

_BLOCK = 256
# The largest number drawn lies this far below 1, so that a rounding never reaches past the end.
_BELOW_ONE = 1 - 2.0**-50


class Uniforms:
    """Uniform numbers in [0, 1) for several streams, each from its own seeded generator.

    What a stream gets depends on its seed and on how many numbers it has had, never on the other
    streams. They are drawn in blocks: one number at a time costs more than the draw.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._block: NDArray[np.float64] = np.empty((0, len(seeds), 1))
        self._next = 0

    def __next__(self) -> NDArray[np.float64]:
        """Return the next number of each stream, (B, 1)."""
        if self._next == len(self._block):
            columns = [
                torch.rand(_BLOCK, dtype=torch.float64, generator=g) for g in self._generators
            ]
            block = torch.stack(columns, dim=1).clamp_(max=_BELOW_ONE)
            self._block = block.unsqueeze(-1).numpy()  # (_BLOCK, B, 1)
            self._next = 0
        row: NDArray[np.float64] = self._block[self._next]
        self._next += 1
        return row

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these streams only."""
        self._generators = [self._generators[row] for row in rows]
        self._block = self._block[:, list(rows)]


def draw(logits: Logits, uniforms: NDArray[np.float64]) -> Ids:
    """Draw one id a row, (B,), by inverting the cumulative distribution.

    `logits` (B, V) are as filters return them: the largest of each row 0, ``-inf`` never drawn;
    `uniforms` is (B, 1).
    """
    cumulative = np.add.accumulate(np.exp(logits), axis=-1)
    # The first id whose cumulative weight exceeds u: an id of weight 0 adds nothing to the one
    # before it and cannot be the first.
    ids: Ids = np.add.reduce(cumulative <= uniforms * cumulative[:, -1:], axis=-1)
    return ids


def log_probability(logits: Logits, ids: Ids) -> Logits:
    """Natural log-probabilities (B,) of `ids` (B,) under unfiltered `logits` (B, V)."""
    shifted = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
    chosen = shifted[np.arange(len(ids)), ids]
    log_probs: Logits = chosen - np.log(np.exp(shifted).sum(axis=-1))
    return log_probs
