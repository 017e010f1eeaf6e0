from __future__ import annotations

import warnings
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from chargen.errors import ConfigError
from chargen.lm.config import CELLS
from chargen.sentiment.baselines.config import WordConfig
from chargen.sentiment.baselines.networks import WordClassifier
from chargen.sentiment.baselines.words import PAD

V, E, H, C = 13, 5, 6, 3
LENGTHS = (4, 9, 1, 6)
KINDS = list(product(CELLS, (False, True), (1, 2)))


def make(**options: Any) -> WordClassifier:
    torch.manual_seed(0)
    config = WordConfig(embedding_size=E, hidden_size=H, **options)
    network = WordClassifier(config, V, C)
    with torch.no_grad():  # as if it had been trained: no statistic is where it began
        network.norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
        network.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return network.eval()


def texts() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(2, V, (length, 1), generator=generator) for length in LENGTHS]


def batch(filler: int = PAD, more: int = 0) -> tuple[Tensor, Tensor]:
    """The texts padded with some id, by so many steps more than needed."""
    ids = torch.full((max(LENGTHS) + more, len(LENGTHS)), filler)
    for column, text in enumerate(texts()):
        ids[: len(text), column] = text[:, 0]
    return ids, torch.tensor(LENGTHS)


@pytest.mark.parametrize(("cell", "bidirectional", "layers"), KINDS)
@torch.no_grad()
def test_logits_depend_neither_on_the_batch_nor_on_what_fills_it(
    cell: str, bidirectional: bool, layers: int
) -> None:
    network = make(cell=cell, bidirectional=bidirectional, num_layers=layers)
    alone = torch.cat([network(text, torch.tensor([len(text)])) for text in texts()])
    assert alone.shape == (4, C)
    for filler, more in ((PAD, 0), (7, 0), (7, 5)):
        together = network(*batch(filler, more))
        torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("cell", "bidirectional", "layers"), KINDS)
@torch.no_grad()
def test_the_state_is_that_after_the_last_word_of_each_text(
    cell: str, bidirectional: bool, layers: int
) -> None:
    network = make(cell=cell, bidirectional=bidirectional, num_layers=layers)
    states = network.last_state(*batch())
    assert states.shape == (4, 2 * H if bidirectional else H)
    for text, state in zip(texts(), states, strict=True):
        outputs, _ = network.recurrent(network.embedding(text))  # (T, 1, H or 2 H)
        torch.testing.assert_close(state[:H], outputs[-1, 0, :H])
        # The other direction has read everything when it comes to the first word.
        torch.testing.assert_close(state[H:], outputs[0, 0, H:])


def test_the_order_of_words_counts() -> None:
    network = make()
    text = texts()[1]
    length = torch.tensor([len(text)])
    assert not torch.allclose(network(text, length), network(text.flip(0), length))


def test_the_forget_gate_starts_open_in_every_layer_and_direction() -> None:
    network = make(cell="lstm", bidirectional=True, num_layers=2)
    biases = [p for name, p in network.recurrent.named_parameters() if name.startswith("bias_ih")]
    assert len(biases) == 4
    for bias in biases:
        assert (bias[H : 2 * H] == 1).all()
        assert (bias[:H].abs() < 1).all()


def test_parameters_are_counted() -> None:
    lstm = make(cell="lstm", num_layers=1).num_parameters()
    assert lstm == V * E + 4 * H * (E + H + 2) + 2 * H + C * (H + 1)


def test_dropout_is_only_in_training() -> None:
    network = make(dropout=0.5)
    ids, lengths = batch()
    assert torch.equal(network(ids, lengths), network(ids, lengths))
    network.train()
    assert not torch.equal(network(ids, lengths), network(ids, lengths))


def test_one_layer_comes_without_torchs_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(num_layers=1, dropout=0.3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"cell": "transformer"}, "--cell"),
        ({"hidden_size": 0}, "--hidden-size"),
        ({"dropout": 1.0}, "--dropout"),
        ({"batch_size": 1}, "--batch-size"),
        ({"epochs": 1, "minutes": 1.0}, "--minutes and --epochs"),
        ({"learning_rate": float("nan")}, "--learning-rate"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        WordConfig(**options)
