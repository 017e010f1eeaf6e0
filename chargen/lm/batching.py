"""B parallel streams of ids, read in windows of T time steps.

    ids      a b c d e f g h i j k l        B = 3 streams, T = 2 time steps
    streams  a b c d                        first window   a e i     its targets   b f j
             e f g h                                       b f j                   c g k
             i j k l

The windows of a stream are contiguous: the state after one window is the state before the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = 1 << 24  # ids that are searched at a time


@dataclass(frozen=True)
class Window:
    """Inputs and targets of one training step."""

    inputs: Tensor  # (T, B) int64, or (T, B, ...) float32 for numbers; B counts the own streams
    targets: Tensor  # the successor of each input, in the same shape
    starts_epoch: bool  # the streams start anew, so the carried state no longer applies


class Streams:
    """Endless sequence of windows over a text, which can resume at any position.

    Each epoch starts at a random offset below T, so that epochs differ in how the text is divided
    into windows and in which symbols are left out at the ends.

    Parameters
    ----------
    ids : (N,) integers, or numbers (N, ...)
        May be memory-mapped; only the windows are read. Floating-point numbers, such as the rows of
        a time series, are read as float32.
    batch_size, window : int
        Number of streams (B) and of time steps in a window (T).
    seed : int
        Seed of the offsets, of the lengths of windows and of the order of documents.
    jitter : bool
        Draw each window's length around T (or, one time in twenty, T / 2), as AWD-LSTM does
        (Merity et al. 2018, https://arxiv.org/abs/1708.02182).
    own_streams : range, optional
        The streams to return, of all B; other processes read the rest. Positions and random numbers
        do not depend on `own_streams`.
    separator : int, optional
        Id of the symbol that ends a document; each epoch then reads the documents in a new order.
    """

    def __init__(
        self,
        ids: NDArray[np.integer] | NDArray[np.floating],
        batch_size: int,
        window: int,
        seed: int,
        jitter: bool = False,
        own_streams: range | None = None,
        separator: int | None = None,
    ) -> None:
        if len(ids) < 2 * batch_size:
            raise ValueError(f"{len(ids)} ids cannot make {batch_size} streams")
        self.ids: NDArray[Any] = ids
        self.documents = None if separator is None else ShuffledDocuments(ids, separator, seed)
        self.dtype = np.float32 if np.issubdtype(ids.dtype, np.floating) else np.int64
        self.batch_size = batch_size
        self.window = min(window, (len(ids) - 1) // batch_size)
        self.jitter = jitter
        self.own_streams = range(batch_size) if own_streams is None else own_streams
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch = -1
        self._start_epoch()

    @property
    def windows_per_epoch(self) -> int:
        """Average number of windows in an epoch (exact without jitter and offset)."""
        return max(1, (len(self.ids) - 1) // self.batch_size // self.window)

    @property
    def passes(self) -> float:
        """Number of passes over the text so far, with the share of the present one."""
        return self.epoch + self.position / self._stream_length

    def _start_epoch(self) -> None:
        self.epoch += 1
        self._order_documents()
        spare = len(self.ids) - 1 - self.batch_size * self.window
        # A short text may have fewer than T symbols to spare.
        limit = min(self.window, spare + 1)
        self.offset = int(torch.randint(limit, (), generator=self.generator))
        self.position = 0

    def _order_documents(self) -> None:
        if self.documents is not None:
            self.documents.draw(self.epoch)

    @property
    def _stream_length(self) -> int:
        return (len(self.ids) - 1 - self.offset) // self.batch_size

    def _next_length(self) -> int:
        if not self.jitter:
            return self.window
        coin = float(torch.rand((), generator=self.generator))
        normal = float(torch.randn((), generator=self.generator))
        base = self.window if coin < 0.95 else self.window / 2
        length = round(base + normal * self.window / 16)
        return max(2, min(length, self.window + self.window // 4, self._stream_length))

    def next(self) -> Window:
        """Return the next window; after the last window of an epoch, start the next epoch."""
        length = self._next_length()
        if self.position + length > self._stream_length:
            self._start_epoch()
            length = min(length, self._stream_length)
        steps = self.offset + self.position + np.arange(length + 1)[:, None]
        starts = np.array(self.own_streams)[None, :] * self._stream_length
        source = self.ids if self.documents is None else self.documents
        block = torch.from_numpy(source[steps + starts].astype(self.dtype))  # (T + 1, B)
        window = Window(block[:-1], block[1:], starts_epoch=self.position == 0)
        self.position += length
        return window

    def state(self) -> dict[str, int]:
        """Return the position for a checkpoint; the state of `generator` is stored separately."""
        return {"epoch": self.epoch, "offset": self.offset, "position": self.position}

    def restore(self, state: dict[str, int], generator_state: Tensor) -> None:
        """Resume exactly where `state` was taken; a position outside the text is a `ValueError`."""
        limits = {"epoch": math.inf, "offset": self.window, "position": len(self.ids)}
        for name, limit in limits.items():
            if type(state[name]) is not int or not 0 <= state[name] <= limit:
                raise ValueError(f"{name} of the streams is {state[name]!r}")
            setattr(self, name, state[name])
        self.generator.set_state(generator_state)
        self._order_documents()


class ShuffledDocuments:
    """View of ids in which the documents stand in a random order.

    Neighbouring documents of a folder or table are often similar; a random order makes each batch a
    sample of the whole text. Only the positions of the documents are held in memory. A document
    ends with `separator`; symbols after the last separator stay at the end, so that no two
    documents are joined. `seed` and the number of the epoch determine the order.
    """

    def __init__(self, ids: NDArray[Any], separator: int, seed: int) -> None:
        self.ids = ids
        self.seed = seed
        ends = np.concatenate(
            [
                first + 1 + np.flatnonzero(ids[first : first + _BLOCK] == separator)
                for first in range(0, len(ids), _BLOCK)
            ]
        )
        self._movable = len(ends)
        if not ends.size or ends[-1] != len(ids):
            ends = np.append(ends, len(ids))
        self._starts = np.concatenate([[0], ends[:-1]])
        self._lengths = ends - self._starts
        self._epoch = -1
        self.draw(0)

    def draw(self, epoch: int) -> None:
        """Put the documents in the order of an epoch, which depends only on `seed` and `epoch`."""
        if epoch == self._epoch:
            return
        self._epoch = epoch
        # SeedSequence mixes the two numbers well; torch's generator draws the same everywhere.
        mixed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0])
        generator = torch.Generator().manual_seed(mixed >> 1)
        order = np.arange(len(self._starts))
        order[: self._movable] = torch.randperm(self._movable, generator=generator).numpy()
        lengths = self._lengths[order]
        self._ends = np.cumsum(lengths)
        # For each document: its position in the text minus its position in the new order.
        self._shifts = self._starts[order] - (self._ends - lengths)

    def __getitem__(self, positions: NDArray[np.integer]) -> NDArray[Any]:
        """Return the ids at `positions` of the new order, in the shape of `positions`."""
        documents = np.searchsorted(self._ends, positions, side="right")
        ids: NDArray[Any] = self.ids[positions + self._shifts[documents]]
        return ids
