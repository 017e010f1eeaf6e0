"""How fast each part of a network learns."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from chargen.sentiment.config import FinetuneConfig
from chargen.sentiment.network import ClassifierNetwork
from chargen.sentiment.text_classification import RISE, make_optimizer, slanted_triangle

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


def entries(network: ClassifierNetwork, name: str, **changes: Any) -> dict[str, Any]:
    """By the name of each parameter, what the optimizer's group of it says."""
    groups = make_optimizer(network, config(**changes)).param_groups
    found = {id(p): group[name] for group in groups for p in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in groups)
    return {each: found[id(parameter)] for each, parameter in network.named_parameters()}


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_parameter_learns_at_the_rate_of_its_part(kind: str) -> None:
    network = NETWORKS[kind]()
    for name, rate in entries(network, "max_lr", encoder_rate=0.5).items():
        assert rate == (0.005 if name.startswith("encoders.") else 0.01), name
    assert set(entries(network, "max_lr", from_scratch=True).values()) == {0.01}


@pytest.mark.parametrize("kind", NETWORKS)
def test_only_matrices_decay_and_embeddings_do_not(kind: str) -> None:
    network = NETWORKS[kind]()
    embeddings = {id(encoder.embedding.weight) for encoder in network.lm_encoders()}
    parameters: dict[str, nn.Parameter] = dict(network.named_parameters())
    for name, decay in entries(network, "weight_decay", weight_decay=0.1).items():
        matrix = parameters[name].ndim > 1 and id(parameters[name]) not in embeddings
        assert decay == (0.1 if matrix else 0.0), name


def test_the_triangle() -> None:
    assert slanted_triangle(0.0) > 0  # the first step is not wasted
    assert slanted_triangle(RISE) == pytest.approx(1)
    assert slanted_triangle(1.0) == slanted_triangle(1.2) == 0
    rise = [slanted_triangle(RISE * i / 20) for i in range(21)]
    fall = [slanted_triangle(RISE + (1 - RISE) * i / 20) for i in range(21)]
    assert rise == sorted(rise)
    assert fall == sorted(fall, reverse=True)
    assert slanted_triangle(0.55) == pytest.approx(0.5)
