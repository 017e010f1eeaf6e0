"""Votes are weighed so that their sum is calibrated, and nobody's vote counts negatively."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from chargen.sentiment.voting import SPREAD, vote_weights


def problem(quality: float, seed: int, texts: int = 2000) -> tuple[Tensor, Tensor]:
    """Calibrated logits (N, 2) and classes drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    margin = quality * torch.randn(texts, generator=generator)
    logits = torch.stack([-margin / 2, margin / 2], -1)
    targets = torch.bernoulli(margin.sigmoid(), generator=generator).long()
    return logits, targets


def test_one_member_is_temperature_scaling() -> None:
    logits, targets = problem(3.0, 0)
    (factor,) = vote_weights([5 * logits], targets)
    assert factor == pytest.approx(1 / 5, rel=0.1)
    candidates = [0.01 * 1.05**i for i in range(100)]
    losses = [float(nn.functional.cross_entropy(5 * c * logits, targets)) for c in candidates]
    best = candidates[losses.index(min(losses))]
    assert factor == pytest.approx(best, rel=0.06)


def test_a_member_that_knows_nothing_is_hardly_heard() -> None:
    logits, targets = problem(3.0, 0, texts=20_000)
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    telling, empty = vote_weights([logits, noise], targets)
    assert telling == pytest.approx(1, rel=0.15)
    assert 0 <= empty < telling / 4


def test_a_member_that_is_always_wrong_is_not_turned_around() -> None:
    logits, targets = problem(3.0, 0)
    good, bad = vote_weights([logits, -logits], targets)
    assert bad >= 0
    assert good > bad


def test_without_targets_each_counts_alike() -> None:
    logits, _ = problem(3.0, 0)
    other, _ = problem(0.01, 1)
    factors = vote_weights([logits, other], None)
    spreads = [f * float(x.std()) for f, x in zip(factors, (logits, other), strict=True)]
    assert spreads == pytest.approx([SPREAD / 2] * 2)


def test_without_texts_too() -> None:
    assert vote_weights([torch.empty(0, 2)] * 3, None) == pytest.approx([1 / 3] * 3)


def test_finite_where_all_are_right() -> None:
    logits = torch.tensor([[1.0, -1.0], [-1.0, 1.0]] * 60)
    (factor,) = vote_weights([logits], torch.tensor([0, 1] * 60))
    assert 1 < factor < 20


def test_trust_divides_the_spread() -> None:
    logits, _ = problem(3.0, 0)
    other, _ = problem(0.01, 1)
    factors = vote_weights([logits, other], None, [1, 3])
    spreads = [f * float(x.std()) for f, x in zip(factors, (logits, other), strict=True)]
    assert spreads == pytest.approx([SPREAD / 4, SPREAD * 3 / 4])
