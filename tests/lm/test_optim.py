"""The optimizer's parts against their definitions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from chargen.lm.config import SCHEDULES, ModelConfig, TrainConfig
from chargen.lm.model import CharLM
from chargen.training.optimizers import (
    Muon,
    clip_gradient,
    load_optimizer_tensors,
    make_optimizers,
    optimizer_tensors,
    orthogonalize,
)
from chargen.training.schedule import learning_rate_factor
from chargen.training.weight_average import WeightAverage


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


def optimizers_of(
    model: CharLM, rate: float, decay: float, optimizer: str = "muon"
) -> list[torch.optim.Optimizer]:
    config = TrainConfig(learning_rate=rate, weight_decay=decay, optimizer=optimizer)
    return make_optimizers(model, config, "float32")


def step(optimizers: list[torch.optim.Optimizer]) -> None:
    for optimizer in optimizers:
        optimizer.step()


both = pytest.mark.parametrize("optimizer", ["muon", "adamw"])

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


def test_constant_cooldown_is_constant_and_then_a_line_to_zero() -> None:
    shares = [0.0, 0.5, 0.75, 0.875, 1.0, 1.3]
    factors = [learning_rate_factor(share, 100, 50, "constant-cooldown", 0.25) for share in shares]
    assert factors == pytest.approx([1, 1, 1, 0.5, 0, 0])
    assert learning_rate_factor(0.0, 1, 4, "constant-cooldown", 0.25) == pytest.approx(0.5)
    assert learning_rate_factor(0.25, 100, 0, "constant-cooldown", 1) == pytest.approx(0.75)


@settings(derandomize=True, deadline=None)
@given(
    *(st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6), st.integers(0, 1000)),
    *(st.sampled_from(SCHEDULES), st.floats(0.01, 1)),
)
def test_schedule_is_a_share_and_falls(
    a: float, b: float, step: int, warmup: int, schedule: str, cooldown: float
) -> None:
    early, late = sorted((a, b))
    first = learning_rate_factor(early, step, warmup, schedule, cooldown)
    assert 0 <= first <= 1
    assert learning_rate_factor(late, step, warmup, schedule, cooldown) <= first + 1e-12


# ---------------------------------------------------------------- AdamW and Muon


@both
@pytest.mark.parametrize("tied", [False, True])
def test_biases_and_embeddings_do_not_decay(tied: bool, optimizer: str) -> None:
    model = make(tied=tied)
    decay = {
        id(p): group["weight_decay"]
        for part in optimizers_of(model, 1e-3, 0.1, optimizer)
        for group in part.param_groups
        for p in group["params"]
    }
    names = dict(model.named_parameters())
    assert len(decay) == len(names)  # each parameter once, tied ones too
    for name, parameter in names.items():
        exempt = "bias" in name or name == "embedding.weight"
        assert decay[id(parameter)] == (0 if exempt else 0.1), name


@both
def test_decay_is_decoupled_and_shrinks_only_matrices(optimizer: str) -> None:
    model = make()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizers = optimizers_of(model, 0.5, 0.1, optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step(optimizers)
    for name, parameter in model.named_parameters():
        exempt = "bias" in name or name == "embedding.weight"
        wanted = before[name] * (1 if exempt else 1 - 0.5 * 0.1)
        torch.testing.assert_close(parameter.detach(), wanted)


def test_first_step_is_the_learning_rate_in_the_gradients_direction() -> None:
    model = make()
    before = model.output.bias.detach().clone()
    optimizers = optimizers_of(model, 0.01, 0.0)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, -3.0)
    step(optimizers)
    torch.testing.assert_close(model.output.bias.detach(), before + 0.01, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_muon_has_the_matrices_of_the_layers(cell: str) -> None:
    model = make(cell=cell)
    _, muon = optimizers_of(model, 1e-3, 0.0)
    chosen = {id(p) for p in muon.param_groups[0]["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in chosen) == ("layers" in name and "weight" in name), name
    assert len(optimizers_of(model, 1e-3, 0.0, "adamw")) == 1


@pytest.mark.parametrize("shape", [(1, 30, 30), (3, 40, 10), (2, 10, 40)])
def test_orthogonalized_keeps_directions_and_evens_out_their_sizes(
    shape: tuple[int, int, int],
) -> None:
    torch.manual_seed(1)
    matrices = torch.randn(shape)
    result = orthogonalize(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    in_its_directions = u.mT @ result @ v.mT
    sizes = in_its_directions.diagonal(dim1=-2, dim2=-1)
    others = in_its_directions - torch.diag_embed(sizes)
    assert others.abs().max() < 1e-3
    assert 0.5 < sizes.median() < 1.3
    assert sizes.max() < 1.3


def test_orthogonalized_leaves_zeros() -> None:
    assert not orthogonalize(torch.zeros(2, 3, 4)).any()


def test_muon_takes_each_gate_by_itself_at_the_size_of_adamw() -> None:
    torch.manual_seed(2)
    stacked = nn.Parameter(torch.zeros(4 * 32, 32))
    gradient = torch.randn(4, 32, 32) * torch.tensor([1e-4, 1.0, 1e4, 0.0]).view(4, 1, 1)
    stacked.grad = gradient.flatten(0, 1)
    Muon([stacked], 4, 0.01, 0.0).step()
    for gate in range(3):
        alone = nn.Parameter(torch.zeros(32, 32))
        alone.grad = gradient[gate]
        Muon([alone], 1, 0.01, 0.0).step()
        rows = stacked.detach()[32 * gate : 32 * (gate + 1)]
        torch.testing.assert_close(rows, alone.detach(), rtol=1e-4, atol=1e-6)
        assert 0.2 * 0.01 < rows.square().mean().sqrt() < 0.5 * 0.01
    assert not stacked.detach()[3 * 32 :].any()


@both
def test_optimizers_go_on_from_their_tensors(optimizer: str) -> None:
    def learn(model: CharLM, optimizers: list[torch.optim.Optimizer], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        step(optimizers)

    model = make()
    optimizers = optimizers_of(model, 0.01, 0.1, optimizer)
    learn(model, optimizers, 1)
    other = make()
    other.load_state_dict(model.state_dict())
    others = optimizers_of(other, 0.01, 0.1, optimizer)
    kept = {name: value.clone() for name, value in optimizer_tensors(*optimizers).items()}
    load_optimizer_tensors(kept, *others)
    learn(model, optimizers, 2)
    learn(other, others, 2)
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)


@both
def test_what_another_optimizer_remembers_is_refused(optimizer: str) -> None:
    model = make()
    optimizers = optimizers_of(model, 0.01, 0.1, optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    step(optimizers)
    kept = optimizer_tensors(*optimizers)
    for name, value in kept.items():
        # A fused kernel would write past the end of a tensor that is too small.
        wrong = [torch.zeros(3, 2, 1), value.double(), value.to(torch.int64)]
        if value.dim():
            wrong.append(torch.zeros(()))
        for other in wrong:
            with pytest.raises(ValueError, match="does not fit its parameter"):
                load_optimizer_tensors(kept | {name: other}, *optimizers)
        without = {key: tensor for key, tensor in kept.items() if key != name}
        extra = {name.split(".")[0] + ".extra": value}
        for changed in (kept | extra, without | extra):
            with pytest.raises(ValueError, match="the optimizer state of a parameter has"):
                load_optimizer_tensors(changed, *optimizers)


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
