"""Who learns when, and how fast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from chargen.sentiment.config import FinetuneConfig
from chargen.sentiment.network import ClassifierNetwork
from chargen.sentiment.text_classification import (
    RISE,
    layer_groups,
    make_optimizer,
    set_rates,
    slanted_triangle,
)

from .making import BYTES, make_lm, make_network


def config(**changes: Any) -> FinetuneConfig:
    return FinetuneConfig(**({"epochs": 1.0, "learning_rate": 0.01} | changes))


def two() -> ClassifierNetwork:
    return make_network(make_lm(num_layers=3), make_lm(BYTES, num_layers=2, direction="backward"))


NETWORKS = {
    "plain": make_network,
    "tied": lambda: make_network(make_lm(num_layers=2, tied=True)),
    "two": two,
    "no detectors": lambda: make_network(detectors=0, head_size=0),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_parameter_is_in_one_group(kind: str) -> None:
    network = NETWORKS[kind]()
    found = [p for group in layer_groups(network, config()) for p in group.parameters]
    assert len(found) == len({id(p) for p in found})
    assert {id(p) for p in found} == {id(p) for p in network.parameters()}


def test_from_the_head_down_to_the_embedding() -> None:
    network = two()
    groups = layer_groups(network, config(encoder_rate=0.5, layer_decay=2.0, unfreeze=0.1))
    names = ["head", "layer -1", "layer -2", "layer -3", "embedding"]
    assert [group.name for group in groups] == names
    rates = [group.learning_rate for group in groups]
    assert rates == pytest.approx([0.01, 0.005, 0.0025, 0.00125, 0.000625])
    assert [group.starts for group in groups] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    first, second = network.lm_encoders()

    def inside(parameter: nn.Parameter) -> str:
        return next(g.name for g in groups if any(p is parameter for p in g.parameters))

    assert inside(first.layers[2].get_parameter("weight_hh_l0")) == "layer -1"
    assert inside(second.layers[1].get_parameter("weight_hh_l0")) == "layer -1"
    assert inside(first.layers[0].get_parameter("weight_hh_l0")) == "layer -3"
    assert inside(second.layers[0].get_parameter("weight_hh_l0")) == "layer -2"
    assert inside(first.output.weight) == "layer -1"
    assert inside(second.embedding.weight) == "embedding"
    detector = network.detectors[0]
    assert isinstance(detector, nn.Linear)
    assert inside(detector.weight) == "head"


def test_tied_weights_are_the_embeddings() -> None:
    network = make_network(make_lm(tied=True))
    groups = {group.name: group for group in layer_groups(network, config())}
    encoder = network.lm_encoders()[0]
    assert [id(p) for p in groups["embedding"].parameters] == [id(encoder.embedding.weight)]
    assert any(p is encoder.output.bias for p in groups["layer -1"].parameters)


def test_from_scratch_all_learn_at_once_at_one_rate() -> None:
    groups = layer_groups(two(), config(from_scratch=True))
    assert {group.learning_rate for group in groups} == {0.01}
    assert {group.starts for group in groups} == {0.0}


def test_without_unfreezing_all_learn_at_once_at_their_own_rates() -> None:
    groups = layer_groups(two(), config(unfreeze=0.0))
    assert {group.starts for group in groups} == {0.0}
    assert len({group.learning_rate for group in groups}) == len(groups)


@pytest.mark.parametrize("kind", NETWORKS)
def test_only_matrices_decay_and_embeddings_do_not(kind: str) -> None:
    network = NETWORKS[kind]()
    optimizer = make_optimizer(layer_groups(network, config()), 0.1)
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    embeddings = {id(encoder.embedding.weight) for encoder in network.lm_encoders()}
    for name, parameter in network.named_parameters():
        expected = parameter.ndim > 1 and id(parameter) not in embeddings
        assert (id(parameter) in decayed) is expected, name


@pytest.mark.parametrize(
    ("share", "learning"),
    [
        (0.0, ["head"]),
        (0.09, ["head"]),
        (0.1, ["head", "layer -1"]),
        (0.25, ["head", "layer -1", "layer -2"]),
        (0.31, ["head", "layer -1", "layer -2", "embedding"]),
        (1.0, ["head", "layer -1", "layer -2", "embedding"]),
    ],
)
def test_rates_and_freezing(share: float, learning: list[str]) -> None:
    network = make_network(make_lm(num_layers=2))
    groups = layer_groups(network, config(unfreeze=0.1))
    optimizer = make_optimizer(groups, 0.01)
    set_rates(groups, optimizer, share, 0.4)
    for group in groups:
        assert {p.requires_grad for p in group.parameters} == {group.name in learning}
    for entry in optimizer.param_groups:
        highest = groups[entry["layer"]].learning_rate
        assert entry["lr"] == pytest.approx(highest * 0.4)


def test_what_is_frozen_neither_moves_nor_decays() -> None:
    network = make_network(make_lm(num_layers=2))
    groups = layer_groups(network, config(unfreeze=0.1))
    optimizer = make_optimizer(groups, 0.5)
    set_rates(groups, optimizer, 0.05, 0.5)
    before = [p.detach().clone() for p in groups[1].parameters]
    (encoder,) = network.lm_encoders()
    for _ in range(3):
        optimizer.zero_grad()
        ids = torch.randint(1, 20, (5, 4))
        states, _ = encoder.features(ids, encoder.initial_state(4))
        head = network.head(torch.cat([states[-1]] * 3 + [torch.zeros(4, 10)], -1))
        torch.autograd.backward(head.square().sum())
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, groups[1].parameters, strict=True))


def test_the_triangle() -> None:
    assert slanted_triangle(0.0) > 0  # the first step is not wasted
    assert slanted_triangle(RISE) == pytest.approx(1)
    assert slanted_triangle(1.0) == slanted_triangle(1.2) == 0
    rise = [slanted_triangle(RISE * i / 20) for i in range(21)]
    fall = [slanted_triangle(RISE + (1 - RISE) * i / 20) for i in range(21)]
    assert rise == sorted(rise)
    assert fall == sorted(fall, reverse=True)
    assert slanted_triangle(0.55) == pytest.approx(0.5)
