"""Small models and vocabularies for these tests."""

from __future__ import annotations

import torch

from chargen.lm.config import ModelConfig
from chargen.lm.model import Network, create_network
from chargen.text.vocabulary import Vocabulary

CELLS = ("lstm", "gru", "rnn")


def small_model(
    size: int,
    *,
    cell: str = "lstm",
    layers: int = 1,
    tied: bool = False,
    seed: int = 0,
    direction: str = "forward",
    ensemble: int = 1,
) -> Network:
    """A model with weights large enough that what it read matters."""
    torch.manual_seed(seed)
    config = ModelConfig(
        vocabulary_size=size,
        cell=cell,
        embedding_size=12,
        hidden_size=20,
        num_layers=layers,
        tied=tied,
        direction=direction,
        ensemble=ensemble,
        dropout=0.3,
        embedding_dropout=0.2,
        weight_dropout=0.1,
    )
    model = create_network(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Recurrent weights much larger than this make the network chaotic, and rounding grows.
            scale = 0.2 if "weight_hh" in name else 0.4
            parameter.copy_(torch.randn(parameter.shape) * scale)
    return model.eval()


class Scripted:
    """Stands in for a decoder whose model is certain of one sequence of ids."""

    def __init__(self, vocabulary: Vocabulary, ids: list[int]) -> None:
        self._size = vocabulary.size
        self._ids = ids
        self._at = 0
        self._batch = 1

    def clone(self) -> Scripted:
        other = object.__new__(Scripted)
        other.__dict__.update(self.__dict__)
        return other

    def select(self, rows: list[int]) -> None:
        self._batch = len(rows)

    def prefill(self, ids: torch.Tensor) -> torch.Tensor:
        return self.step(ids)

    def step(self, _: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(self._batch, self._size)
        logits[:, self._ids[self._at]] = 40.0
        self._at += 1
        return logits
