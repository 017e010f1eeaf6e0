"""No tensor of a step is made on another device than the model's.

A device without memory stands for a GPU: an operation on tensors of two devices fails on it.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chargen.lm.config import ModelConfig, TrainConfig
from chargen.lm.model import CharLM
from chargen.lm.recurrent import detach
from chargen.sampling.decoder import Decoder
from chargen.training.optimizers import clip_gradient, make_optimizers
from chargen.training.weight_average import WeightAverage


def model_on_meta(cell: str, tied: bool) -> CharLM:
    config = ModelConfig(
        vocabulary_size=11,
        cell=cell,
        embedding_size=6,
        hidden_size=8,
        num_layers=2,
        tied=tied,
        dropout=0.2,
        embedding_dropout=0.1,
        weight_dropout=0.1,
        variational=True,
    )
    return CharLM(config).to("meta")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_training_stays_on_the_model_s_device(cell: str, tied: bool) -> None:
    model = model_on_meta(cell, tied).train()
    config = TrainConfig(learning_rate=1e-3, weight_decay=0.01)
    optimizers = make_optimizers(model, config, "float32")
    average = WeightAverage(model, 0.9)
    ids = torch.zeros(7, 3, dtype=torch.int64, device="meta")
    state = model.initial_state(3)
    for step in (1, 2):
        logits, state = model(ids, state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        assert clip_gradient(model.parameters(), 1.0).is_meta
        for optimizer in optimizers:
            optimizer.step()
        average.update(step)
        state = detach(state)
        assert all(part.is_meta for part in (loss, *state))
    average.swap()


@pytest.mark.parametrize("streams", [1, 5])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_stepping_stays_on_the_model_s_device(cell: str, streams: int) -> None:
    decoder = Decoder(model_on_meta(cell, tied=False).eval())
    assert decoder.device.type == "meta"
    ids = torch.zeros(4, streams, dtype=torch.int64, device="meta")
    assert decoder.prefill(ids).is_meta
    assert decoder.step(ids[0]).is_meta
    decoder.select([0] * 3)
    assert decoder.step(ids[0, :1].expand(3)).is_meta
