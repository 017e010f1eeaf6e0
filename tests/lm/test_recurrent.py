"""Recurrent layers on their own, and what else of the character model takes numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chargen.lm.batching import Streams
from chargen.lm.config import TrainConfig
from chargen.lm.recurrent import RecurrentLayers, State
from chargen.training.optimizers import make_optimizers


class Numbers(nn.Module):
    """Forecasts the next row of (T, B, 2)."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.layers = RecurrentLayers(cell, 2, 8, 2)
        self.output = nn.Linear(8, 2)

    def forward(self, inputs: Tensor, state: State) -> Tensor:
        found: Tensor = self.output(self.layers(inputs, state)[0])
        return found


@pytest.mark.parametrize(
    ("cell", "reference"), [("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn", nn.RNN)]
)
def test_layers_are_those_of_torch(cell: str, reference: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    layers = RecurrentLayers(cell, 3, 5, 2)
    inputs = torch.randn(7, 4, 3)
    outputs, state = layers(inputs, layers.initial_state(4))
    stacked = reference(3, 5, 2)  # type: ignore[call-arg]
    stacked.load_state_dict(
        {
            name: layers[int(name[-1])].get_parameter(name[:-1] + "0")
            for name in stacked.state_dict()
        }
    )
    expected, after = stacked(inputs)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(state, after if cell == "lstm" else (after,))


def test_streams_of_numbers_keep_their_fractions_and_columns() -> None:
    rows = np.arange(120, dtype=np.float64).reshape(60, 2) / 4
    window = Streams(rows, 3, 5, 0).next()
    assert window.inputs.shape == window.targets.shape == (5, 3, 2)
    assert window.inputs.dtype == torch.float32
    assert torch.equal(window.targets - window.inputs, torch.full((5, 3, 2), 0.5))


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_optimizers_train_a_model_of_numbers(cell: str, optimizer: str) -> None:
    torch.manual_seed(0)
    model = Numbers(cell)
    config = TrainConfig(optimizer=optimizer, learning_rate=0.01, weight_decay=0.0)
    optimizers = make_optimizers(model, config, "float32")
    held = [p for one in optimizers for group in one.param_groups for p in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))
    angles = np.arange(400) * 0.3
    streams = Streams(np.column_stack([np.cos(angles), np.sin(angles)]), 4, 16, 0)
    losses = []
    for _ in range(60):
        window = streams.next()
        found = model(window.inputs, model.layers.initial_state(4))
        loss = nn.functional.mse_loss(found, window.targets)
        model.zero_grad()
        torch.autograd.backward(loss)
        for one in optimizers:
            one.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
