"""Concat pooling over the true steps of padded texts, a window at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.lm.model import Network

WINDOW = 1024
"""Time steps a call; bounds the memory."""


class Pooling:
    """Mean and maximum over time of values that come in windows.

    Padding never counts: a text's pooled values are the same alone and in any batch.

    Parameters
    ----------
    lengths : (B,) int64
        True steps of each text, at least 1.
    """

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths
        self._shortest = int(lengths.min())
        self._total: Tensor | None = None
        self._largest: Tensor | None = None

    def add(self, values: Tensor, first: int) -> None:
        """Take in values (T, B, K) of the steps `first`, `first` + 1, ..."""
        values = counted = candidates = values.float()
        # Masks cost several times the sums, and only the last windows have padding.
        if first + len(values) > self._shortest:
            steps = torch.arange(first, first + len(values), device=values.device)[:, None]
            inside = (steps < self.lengths)[..., None]  # (T, B, 1)
            counted = values * inside
            candidates = values.masked_fill(~inside, -torch.inf)
        total, largest = counted.sum(0), candidates.amax(0)
        self._total = total if self._total is None else self._total + total
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and maximum, each (B, K) float32."""
        assert self._total is not None
        assert self._largest is not None
        return self._total / self.lengths[:, None], self._largest


class LastState:
    """The output at each text's own last step; see `Pooling` for the arguments."""

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths
        self._last: Tensor | None = None

    def add(self, outputs: Tensor, first: int) -> None:
        """Take in outputs (T, B, H) of the steps `first`, `first` + 1, ..."""
        steps = self.lengths - 1 - first  # (B,)
        here = (steps >= 0) & (steps < len(outputs))
        columns = torch.arange(len(self.lengths), device=outputs.device)
        found = outputs[steps.clamp(0, len(outputs) - 1), columns].float()
        before = torch.zeros_like(found) if self._last is None else self._last
        self._last = torch.where(here[:, None], found, before)

    def result(self) -> Tensor:
        """(B, H) float32."""
        assert self._last is not None
        return self._last


@torch.no_grad()
def pooled_outputs(model: Network, ids: NDArray[np.integer], start_id: int) -> NDArray[np.float32]:
    """Last, mean and largest output of the last layer over a text: (3 H,), of ids (N,)."""
    device = model.device
    order = np.concatenate([[start_id], ids]).astype(np.int64)
    lengths = torch.tensor([len(order)], device=device)
    pooling, last = Pooling(lengths), LastState(lengths)
    state = model.initial_state(1)
    for first in range(0, len(order), WINDOW):
        window = torch.from_numpy(order[first : first + WINDOW]).to(device)[:, None]
        outputs, state = model.features(window, state)  # (T, 1, H)
        pooling.add(outputs, first)
        last.add(outputs, first)
    pooled: NDArray[np.float32]
    pooled = torch.cat([last.result(), *pooling.result()], -1)[0].cpu().numpy()
    return pooled


def running(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and maximum over the steps up to each one: of (T, K), each (T, K) float32."""
    values = values.float()
    counts = torch.arange(1, len(values) + 1, device=values.device)[:, None]
    return values.double().cumsum(0).div(counts).float(), values.cummax(0).values
