"""From logits to a drawn id: filters, the one order in which they are applied, and the draw.

Every filter takes logits (B, V), an array of floats, and returns logits (B, V) in which ``-inf``
means "never". At least one candidate always remains. `build_filter` applies them in this order:

1. `exclude`: symbols that may not be drawn here (the unknown symbol; bytes that break UTF-8)
2. `require_finite`: the only place where logits that are not numbers are refused
3. `penalize_repetition`
4. `scale_temperature` (temperature 0 keeps only the likeliest, and later filters have no effect)
5. `keep_top_k`
6. `keep_top_p`
7. `keep_min_p`

The filters use NumPy, not torch: on the 65 or so logits of a step, a call into torch takes several
times as long, and filters in torch took as long as the model. Every call matters: between two steps
of a model whose weights fill the caches, a call takes three times as long as when it is timed
alone. That is why the `reduce` methods of ufuncs are called directly here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.errors import ChargenError
from chargen.sampling.config import SamplingConfig

Logits = NDArray[np.floating[Any]]
Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]

REPETITION_WINDOW = 64
"""Number of last ids to which the repetition penalty applies."""

LogitsFilter = Callable[[Logits, "Mask | None", "Ids | None"], Logits]
"""Function of logits (B, V), excluded ids (V,), (B, V) or None, and recent ids (B, W) or None."""


_BLOCK = 256
# The largest uniform number is below 1, so that rounding never gives an index past the last id.
_BELOW_ONE = 1 - 2.0**-50


def _largest(logits: Logits) -> Logits:
    """Return the largest logit of each row, (B, 1)."""
    largest: Logits = np.maximum.reduce(logits, axis=-1, keepdims=True)
    return largest


def exclude(logits: Logits, excluded: Mask) -> Logits:
    """Exclude the ids marked in `excluded` ((V,) or (B, V))."""
    result = logits.copy()
    np.copyto(result, -math.inf, where=excluded)
    return result


def require_finite(logits: Logits) -> Logits:
    """Refuse logits from which nothing can be drawn; ``+inf`` excludes every finite logit.

    Raises `ChargenError` if a row has a NaN, or no candidate is left in it.
    """
    largest = _largest(logits)  # NaN if the row has a NaN
    if np.logical_and.reduce(np.isfinite(largest), axis=None):
        return logits
    if np.isnan(largest).any():
        raise ChargenError("the model's predictions are not numbers (NaN): its training diverged")
    if (largest == -math.inf).any():
        raise ChargenError("every character that can be drawn has a probability of zero")
    certain = np.where(logits == math.inf, 0.0, -math.inf)
    return np.where(largest == math.inf, certain, logits)


def penalize_repetition(logits: Logits, recent: Ids, penalty: float) -> Logits:
    """Make the ids of `recent` (B, W) less likely (Keskar et al. 2019, CTRL, section 4.1).

    Positive logits are divided by `penalty`, negative ones multiplied by it.
    """
    seen = np.take_along_axis(logits, recent, axis=-1)  # (B, W)
    limit = np.finfo(logits.dtype).max
    lower = np.where(seen > 0, seen / penalty, seen * penalty)
    # An overflow to -inf must not exclude the last candidate.
    lower = np.where(seen == -math.inf, seen, np.clip(lower, -limit, limit))
    penalized = logits.copy()
    np.put_along_axis(penalized, recent, lower, axis=-1)
    return penalized


def scale_temperature(logits: Logits, temperature: float) -> Logits:
    """Divide by `temperature`; 0 keeps only the likeliest id (the lowest of equally likely ids).

    The largest logit becomes 0, so that no temperature, however small, overflows upwards.
    """
    shifted = logits - _largest(logits)
    if temperature == 0:
        return keep_top_k(shifted, 1)
    shifted /= temperature  # an id that overflows to -inf is too unlikely to be drawn
    return shifted


def keep_top_k(logits: Logits, k: int) -> Logits:
    """Keep exactly the `k` likeliest ids (Fan et al. 2018); ties go to the lowest id."""
    size = logits.shape[-1]
    if k >= size:
        return logits
    threshold = np.partition(logits, size - k, axis=-1)[:, size - k, None]  # (B, 1)
    return _keep_largest(logits, threshold, k)


def keep_top_p(logits: Logits, p: float) -> Logits:
    """Keep the fewest likeliest ids that reach probability `p` (nucleus; Holtzman et al. 2020)."""
    if p >= 1:
        return logits
    size = logits.shape[-1]
    weights = np.exp(logits - _largest(logits))
    needed = p * weights.sum(axis=-1, keepdims=True)  # (B, 1)
    # The nucleus is almost always among the 64 likeliest: a large vocabulary is rarely sorted.
    for count in (min(64, size), size):
        start = size - count
        likeliest = np.partition(logits, start, axis=-1)[:, start:] if start else logits
        likeliest = np.sort(likeliest, axis=-1)[:, ::-1]  # (B, count), descending
        reached = np.exp(likeliest - likeliest[:, :1]).cumsum(axis=-1)
        if (reached[:, -1:] >= needed).all():
            break
    last = (reached < needed).sum(axis=-1, keepdims=True).clip(max=count - 1)
    return _keep_largest(logits, np.take_along_axis(likeliest, last, axis=-1), last + 1)


def keep_min_p(logits: Logits, p: float) -> Logits:
    """Keep ids at least `p` times as likely as the likeliest (Nguyen et al. 2024)."""
    if p <= 0:
        return logits
    return np.where(logits < _largest(logits) + math.log(p), -math.inf, logits)


def _keep_largest(logits: Logits, threshold: Logits, count: Ids | int) -> Logits:
    """Keep the `count` largest logits of each row, of which `threshold` (B, 1) is the smallest.

    `count` is one number for all rows, or one per row, (B, 1). Ties go to the lowest id.
    """
    kept = logits >= threshold
    if (kept.sum(axis=-1, keepdims=True) > count).any():
        tied = logits == threshold
        free = count - (kept & ~tied).sum(axis=-1, keepdims=True)
        kept &= ~tied | (tied.cumsum(axis=-1) <= free)
    return np.where(kept, logits, -math.inf)


def build_filter(config: SamplingConfig) -> LogitsFilter:
    """Compose the filters that `config` asks for, in the order of this module's docstring.

    The result, ``apply(logits, excluded, recent)``, takes logits (B, V) of any float type, a mask
    of ids that may not be drawn ((V,), (B, V) or None) and the last ids (B, W) for the repetition
    penalty (or None). It returns float64 logits (B, V), of which the largest in each row is 0.
    """

    def apply(logits: Logits, excluded: Mask | None, recent: Ids | None) -> Logits:
        logits = logits.astype(np.float64, copy=False)
        if excluded is not None:
            logits = exclude(logits, excluded)
        logits = require_finite(logits)
        if config.repetition_penalty != 1 and recent is not None:
            logits = penalize_repetition(logits, recent, config.repetition_penalty)
        logits = scale_temperature(logits, config.temperature)
        if config.temperature == 0:
            return logits
        if config.top_k is not None:
            logits = keep_top_k(logits, config.top_k)
        if config.top_p is not None:
            logits = keep_top_p(logits, config.top_p)
        if config.min_p is not None:
            logits = keep_min_p(logits, config.min_p)
        return logits

    # Only extreme options can overflow, and entering errstate takes as long as a filter.
    extreme = config.repetition_penalty != 1 or config.temperature < 1e-6
    return np.errstate(over="ignore")(apply) if extreme else apply


class Uniforms:
    """Uniform numbers in [0, 1) for several streams, each from its own seeded generator.

    A stream's numbers depend on its seed and on how many it has used, never on the other streams.
    Numbers are generated in blocks: generating a single number takes longer than drawing an id.
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
        """Keep only these streams."""
        self._generators = [self._generators[row] for row in rows]
        self._block = self._block[:, list(rows)]


def draw(logits: Logits, uniforms: NDArray[np.float64]) -> Ids:
    """Draw one id per row, (B,), by inverting the cumulative distribution.

    `logits` (B, V) come from the filters: the largest of each row is 0, and ``-inf`` is never
    drawn. `uniforms` is (B, 1).
    """
    cumulative = np.add.accumulate(np.exp(logits), axis=-1)
    # The first id whose cumulative weight exceeds `uniforms` times the total. An id of weight 0
    # does not increase the cumulative weight, so it is never the first.
    ids: Ids = np.add.reduce(cumulative <= uniforms * cumulative[:, -1:], axis=-1)
    return ids


def log_probability(logits: Logits, ids: Ids) -> Logits:
    """Return the natural log-probabilities (B,) of `ids` (B,) under unfiltered `logits` (B, V)."""
    logits = require_finite(logits)
    shifted = logits - _largest(logits)
    chosen = shifted[np.arange(len(ids)), ids]
    log_probs: Logits = chosen - np.log(np.exp(shifted).sum(axis=-1))
    return log_probs
