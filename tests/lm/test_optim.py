"""The optimizer's parts against their definitions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from chargen.lm.config import ModelConfig
from chargen.lm.model import CharLM
from chargen.lm.optim import WeightAverage, clip_gradient, learning_rate_factor, make_optimizer


def make(**changes: Any) -> CharLM:
    sizes: dict[str, Any] = {
        "vocabulary_size": 9,
        "embedding_size": 4,
        "hidden_size": 6,
        "num_layers": 2,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "weight_dropout": 0.0,
    }
    torch.manual_seed(0)
    return CharLM(ModelConfig(**(sizes | changes)))


# ---------------------------------------------------------------- schedule


@pytest.mark.parametrize("warmup", [0, 1, 50])
def test_schedule_ends_at_zero(warmup: int) -> None:
    assert learning_rate_factor(1.0, 10_000, warmup) == pytest.approx(0, abs=1e-12)
    assert learning_rate_factor(1.7, 10_000, warmup) == pytest.approx(0, abs=1e-12)


def test_schedule_rises_over_its_steps_and_is_a_cosine_after() -> None:
    rise = [learning_rate_factor(0.0, step, 4) for step in range(6)]
    assert rise == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert learning_rate_factor(0.0, 0, 0) == 1
    assert learning_rate_factor(0.5, 100, 50) == pytest.approx(0.5)
    assert learning_rate_factor(0.25, 100, 50) == pytest.approx((1 + math.sqrt(0.5)) / 2)


@settings(derandomize=True, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6), st.integers(0, 1000))
def test_schedule_is_a_share_and_falls(a: float, b: float, step: int, warmup: int) -> None:
    early, late = sorted((a, b))
    first = learning_rate_factor(early, step, warmup)
    assert 0 <= first <= 1
    assert learning_rate_factor(late, step, warmup) <= first + 1e-12


# ---------------------------------------------------------------- AdamW


@pytest.mark.parametrize("tied", [False, True])
def test_biases_and_embeddings_do_not_decay(tied: bool) -> None:
    model = make(tied=tied)
    optimizer = make_optimizer(model, 1e-3, 0.1)
    decay = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    names = dict(model.named_parameters())
    assert len(decay) == len(names)  # each parameter once, tied ones too
    for name, parameter in names.items():
        exempt = "bias" in name or name == "embedding.weight"
        assert decay[id(parameter)] == (0 if exempt else 0.1), name


def test_decay_is_decoupled_and_shrinks_only_matrices() -> None:
    model = make()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, 0.5, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        exempt = "bias" in name or name == "embedding.weight"
        wanted = before[name] * (1 if exempt else 1 - 0.5 * 0.1)
        torch.testing.assert_close(parameter.detach(), wanted)


def test_first_step_is_the_learning_rate_in_the_gradients_direction() -> None:
    model = make()
    before = model.output.bias.detach().clone()
    optimizer = make_optimizer(model, 0.01, 0.0)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, -3.0)
    optimizer.step()
    torch.testing.assert_close(model.output.bias.detach(), before + 0.01, rtol=0, atol=1e-6)


# ---------------------------------------------------------------- clipping


def with_gradient(*values: float) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(len(values)))
    parameter.grad = torch.tensor(values)
    return parameter


def test_long_gradients_are_scaled_to_the_limit() -> None:
    first, second = with_gradient(3.0, 0.0), with_gradient(4.0)
    norm = clip_gradient([first, second], 1.0)
    assert float(norm) == pytest.approx(5)
    assert first.grad is not None
    assert second.grad is not None
    torch.testing.assert_close(first.grad, torch.tensor([0.6, 0.0]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(second.grad, torch.tensor([0.8]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("limit", [0.0, 5.1])
def test_other_gradients_are_only_measured(limit: float) -> None:
    parameter = with_gradient(3.0, 4.0)
    assert float(clip_gradient([parameter], limit)) == pytest.approx(5)
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [3, 4]


def test_a_gradient_that_is_no_number_shows_in_the_norm() -> None:
    assert not math.isfinite(float(clip_gradient([with_gradient(1.0, math.nan)], 1.0)))
    assert not math.isfinite(float(clip_gradient([with_gradient(1.0, math.inf)], 0.0)))


# ---------------------------------------------------------------- average of weights


@pytest.mark.parametrize("tied", [False, True])
def test_average_follows_its_equation(tied: bool) -> None:
    model = make(tied=tied)
    average = WeightAverage(model, 0.9)
    wanted = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    for step in (1, 2, 50, 200):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            wanted[name] = decay * wanted[name] + (1 - decay) * parameter.detach().double()
            torch.testing.assert_close(
                average.average[name].double(), wanted[name], rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("tied", [False, True])
def test_swap_exchanges_and_swapped_twice_nothing_has_changed(tied: bool) -> None:
    model = make(tied=tied)
    average = WeightAverage(model, 0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-2)
    average.update(100)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    means = {name: value.clone() for name, value in average.average.items()}
    objects = [id(p) for p in model.parameters()]
    average.swap()
    assert all(torch.equal(p, means[name]) for name, p in model.named_parameters())
    assert all(torch.equal(average.average[name], weights[name]) for name in weights)
    average.swap()
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert all(torch.equal(average.average[name], means[name]) for name in means)
    assert [id(p) for p in model.parameters()] == objects  # the optimizer still holds them
    assert all(p.requires_grad for p in model.parameters())
