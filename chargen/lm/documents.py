"""The documents of a text in an order drawn anew for each pass, without moving the text."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_BLOCK = 1 << 24  # ids looked at together


class ShuffledDocuments:
    """Reads ids as if their documents stood in another order.

    Neighbouring documents of a folder or table are often alike; a random order makes each batch a
    sample of the whole. Only the places of the documents are held in memory.

    Parameters
    ----------
    ids : (N,) integers
        May be memory-mapped. A document ends with `separator`; what follows the last separator
        stays at the end, so that no two documents grow together.
    seed : int
        With the number of a pass it decides the order of that pass.
    """

    def __init__(self, ids: NDArray[Any], separator: int, seed: int) -> None:
        self.ids = ids
        self.seed = seed
        ends = np.concatenate(
            [
                begin + 1 + np.flatnonzero(ids[begin : begin + _BLOCK] == separator)
                for begin in range(0, len(ids), _BLOCK)
            ]
        )
        if not ends.size or ends[-1] != len(ids):
            ends = np.append(ends, len(ids))
            self._movable = len(ends) - 1
        else:
            self._movable = len(ends)
        self._starts = np.concatenate([[0], ends[:-1]])
        self._lengths = ends - self._starts
        self._epoch = -1
        self.draw(0)

    def draw(self, epoch: int) -> None:
        """Take the order of this pass; the same pass has the same order each time."""
        if epoch == self._epoch:
            return
        self._epoch = epoch
        # SeedSequence mixes the two numbers well, and torch's generator draws alike everywhere.
        mixed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0])
        generator = torch.Generator().manual_seed(mixed >> 1)
        order = np.arange(len(self._starts))
        order[: self._movable] = torch.randperm(self._movable, generator=generator).numpy()
        lengths = self._lengths[order]
        self._ends = np.cumsum(lengths)
        # What is added to a place in the new order to find it in the text.
        self._shifts = self._starts[order] - (self._ends - lengths)

    def __getitem__(self, places: NDArray[np.integer]) -> NDArray[Any]:
        """The ids at these places of the order, in the shape of `places`."""
        documents = np.searchsorted(self._ends, places, side="right")
        found: NDArray[Any] = self.ids[places + self._shifts[documents]]
        return found
