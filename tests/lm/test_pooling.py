"""Pooling sees the true steps of a text and nothing else, in however many windows they come."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chargen.lm.pooling import LastState, Pooling, running_mean_and_max

LENGTHS = st.lists(st.integers(1, 13), min_size=1, max_size=5)
WINDOWS = st.integers(1, 14)


def padded(lengths: list[int], seed: int, filler: float = 1e30) -> Tensor:
    """Random values (T, B, 3); what lies behind the end of a text is enormous."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(max(lengths), len(lengths), 3, generator=generator)
    for column, length in enumerate(lengths):
        values[length:, column] = filler
    return values


def pooled(values: Tensor, lengths: list[int], window: int) -> tuple[Tensor, Tensor, Tensor]:
    pooling, last = Pooling(torch.tensor(lengths)), LastState(torch.tensor(lengths))
    for first in range(0, len(values), window):
        pooling.add(values[first : first + window], first)
        last.add(values[first : first + window], first)
    return (*pooling.result(), last.result())


@settings(max_examples=40, deadline=None)
@given(LENGTHS, WINDOWS, st.integers(0, 99))
def test_against_numpy(lengths: list[int], window: int, seed: int) -> None:
    values = padded(lengths, seed)
    mean, largest, last = (part.numpy() for part in pooled(values, lengths, window))
    for column, length in enumerate(lengths):
        true = values.numpy()[:length, column]
        np.testing.assert_allclose(mean[column], true.mean(0), atol=1e-5)
        np.testing.assert_array_equal(largest[column], true.max(0))
        np.testing.assert_array_equal(last[column], true[-1])


@settings(max_examples=40, deadline=None)
@given(LENGTHS, WINDOWS, WINDOWS, st.integers(0, 99))
def test_a_text_alone_equals_it_in_a_batch(
    lengths: list[int], window: int, other: int, seed: int
) -> None:
    values = padded(lengths, seed)
    together = pooled(values, lengths, window)
    for column, length in enumerate(lengths):
        alone = pooled(values[:length, column : column + 1], [length], other)
        for found, wanted in zip(together, alone, strict=True):
            torch.testing.assert_close(found[column], wanted[0], atol=1e-5, rtol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(0, 99))
def test_running_equals_pooling_of_prefixes(length: int, seed: int) -> None:
    values = padded([length], seed)
    means, maxima = running_mean_and_max(values[:, 0])
    assert means.shape == maxima.shape == (length, 3)
    for end in range(1, length + 1):
        mean, largest, _ = pooled(values[:end], [end], 4)
        torch.testing.assert_close(means[end - 1], mean[0], atol=1e-5, rtol=0)
        assert torch.equal(maxima[end - 1], largest[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_sums_are_kept_in_float32(dtype: torch.dtype) -> None:
    # A thousand values of 1.0 add up to 256 in bfloat16.
    values = torch.ones(1000, 1, 2, dtype=dtype)
    for part in pooled(values, [1000], 64):
        assert part.dtype == torch.float32
        assert torch.equal(part, torch.ones(1, 2))
    for part in running_mean_and_max(values[:, 0]):
        assert part.dtype == torch.float32
        assert torch.equal(part, torch.ones(1000, 2))


def test_negative_values_have_a_negative_maximum() -> None:
    values = -torch.ones(6, 2, 1)
    values[3:, 0] = 0.0  # behind the end of the first
    _, largest, _ = pooled(values, [3, 6], 2)
    assert largest.flatten().tolist() == [-1, -1]


def test_gradients_reach_true_steps_alone() -> None:
    values = padded([2, 4], 0, filler=7.0).requires_grad_()
    mean, largest, last = pooled(values, [2, 4], 3)
    torch.autograd.backward((mean + largest + last).sum())
    assert values.grad is not None
    assert (values.grad[2:, 0] == 0).all()
    assert (values.grad[:2, 0] != 0).all()
    assert (values.grad[:, 1] != 0).all()
