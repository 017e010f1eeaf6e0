"""Concat pooling over the time steps of texts, without their padding, one window at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.lm.model import Network, evaluation_mode

WINDOW = 1024
"""Time steps per call of the model; limits the memory."""


class Pooling:
    """Mean and maximum over time of values that arrive in windows.

    Padding is ignored, so a text's pooled values are the same alone and in any batch.

    Parameters
    ----------
    lengths : (B,) int64
        Time steps of each text without padding, at least 1.
    """

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths
        self._shortest = int(lengths.min())
        self._total: Tensor | None = None
        self._largest: Tensor | None = None

    def add(self, values: Tensor, first: int) -> None:
        """Add values (T, B, K) of time steps `first`, `first` + 1, ..."""
        values = counted = candidates = values.float()
        # Masking takes several times as long as summing, and only the last windows have padding.
        if first + len(values) > self._shortest:
            steps = torch.arange(first, first + len(values), device=values.device)[:, None]
            inside = (steps < self.lengths)[..., None]  # (T, B, 1)
            counted = values * inside
            candidates = values.masked_fill(~inside, -torch.inf)
        total, largest = counted.sum(0), candidates.amax(0)
        self._total = total if self._total is None else self._total + total
        self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)

    def result(self) -> tuple[Tensor, Tensor]:
        """Return mean and maximum, each (B, K) float32."""
        assert self._total is not None
        assert self._largest is not None
        return self._total / self.lengths[:, None], self._largest


class LastState:
    """Output at the last time step of each text; see `Pooling` for the arguments."""

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths
        self._last: Tensor | None = None

    def add(self, outputs: Tensor, first: int) -> None:
        """Add outputs (T, B, H) of time steps `first`, `first` + 1, ..."""
        steps = self.lengths - 1 - first  # (B,)
        inside = (steps >= 0) & (steps < len(outputs))
        columns = torch.arange(len(self.lengths), device=outputs.device)
        current = outputs[steps.clamp(0, len(outputs) - 1), columns].float()
        previous = torch.zeros_like(current) if self._last is None else self._last
        self._last = torch.where(inside[:, None], current, previous)

    def result(self) -> Tensor:
        """Return the outputs, (B, H) float32."""
        assert self._last is not None
        return self._last


@torch.no_grad()
def pooled_outputs(model: Network, ids: NDArray[np.integer], start_id: int) -> NDArray[np.float32]:
    """Return the last, mean and maximum output of the last layer over ids (N,), as (3 H,)."""
    device = model.device
    sequence = np.concatenate([[start_id], ids]).astype(np.int64)
    lengths = torch.tensor([len(sequence)], device=device)
    pooling, last = Pooling(lengths), LastState(lengths)
    state = model.initial_state(1)
    with evaluation_mode(model):
        for first in range(0, len(sequence), WINDOW):
            window = torch.from_numpy(sequence[first : first + WINDOW]).to(device)[:, None]
            outputs, state = model.features(window, state)  # (T, 1, H)
            pooling.add(outputs, first)
            last.add(outputs, first)
    pooled: NDArray[np.float32]
    pooled = torch.cat([last.result(), *pooling.result()], -1)[0].cpu().numpy()
    return pooled


def running_mean_and_max(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the running mean and maximum over time of values (T, K), each (T, K) float32."""
    values = values.float()
    counts = torch.arange(1, len(values) + 1, device=values.device)[:, None]
    return values.double().cumsum(0).div(counts).float(), values.cummax(0).values
