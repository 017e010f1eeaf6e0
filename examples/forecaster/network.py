"""A GRU from chargen's parts that reads a series day by day and forecasts the next K days.

Batches of streams, recurrent layers, optimizer, schedule and clipping are those of the character
model. Numbers take the place of the embedding, and K forecasts that of the logits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from baselines import ahead
from numpy.typing import NDArray
from series import Array, Series
from torch import Tensor, nn

from chargen import TrainConfig
from chargen.lm.batching import Streams
from chargen.lm.config import required
from chargen.lm.recurrent import Dropout, RecurrentLayers, State, detach
from chargen.training.optimizers import clip_gradient, make_optimizers
from chargen.training.schedule import learning_rate_factor

INPUTS = 3  # cosine and sine of the season, distance from the usual value


class Forecaster(nn.Module):
    """Recurrent layers and a linear output.

    Parameters
    ----------
    hidden : int
        H, hidden units.
    horizon : int
        K, days ahead.
    """

    def __init__(self, hidden: int, horizon: int) -> None:
        super().__init__()
        self.layers = RecurrentLayers("gru", INPUTS, hidden, 1)
        self.dropout = Dropout(0.2)
        self.output = nn.Linear(hidden, horizon)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Map inputs (T, B, 3) and a state to forecasts (T, B, K) and the state after them."""
        outputs, state = self.layers(inputs, state)
        return self.output(self.dropout(outputs)), state


def rows(series: Series, distance: Array, horizon: int) -> NDArray[np.float32]:
    """Return what the network reads on each day, then what it should have forecast the day before.

    Parameters
    ----------
    series : Series
    distance : (N,)
        From the usual values, in standard deviations.
    horizon : int
        K, days ahead.

    Returns
    -------
    (N, 2 + K) float32
        Row t: cosine and sine of the season, and `distance` of the days t to t + K - 1, NaN beyond
        the end. So row t + 1 holds the targets of row t, as `Streams` returns them.
    """
    season = [np.cos(series.phases), np.sin(series.phases), distance]
    later = ahead(distance, horizon)[:, : horizon - 1]
    return np.column_stack([*season, later]).astype(np.float32)


def fit(
    model: Forecaster,
    data: NDArray[np.float32],
    config: TrainConfig,
    error: Callable[[], float],
) -> None:
    """Train by truncated BPTT on squared error; keep the weights with the smallest `error`.

    Parameters
    ----------
    model : Forecaster
    data : (N, 2 + K) float32
        See `rows`.
    config : TrainConfig
        With steps, batch_size, window, learning_rate, warmup_steps, weight_decay and eval_every.
    error : callable
        Returns the error of the current model on other days.
    """
    total, batch = required(config.steps), required(config.batch_size)
    streams = Streams(data, batch, required(config.window), config.seed)
    optimizers = make_optimizers(model, config, "float32")
    state = model.layers.initial_state(batch)
    best, kept = float("inf"), model.state_dict()
    for step in range(total):
        window = streams.next()
        if window.starts_epoch:
            state = model.layers.initial_state(batch)
        factor = learning_rate_factor(step / total, step, required(config.warmup_steps))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = required(config.learning_rate) * factor
        outputs, state = model(window.inputs[..., :INPUTS], detach(state))
        model.zero_grad()
        torch.autograd.backward(nn.functional.mse_loss(outputs, window.targets[..., INPUTS - 1 :]))
        clip_gradient(model.parameters(), config.clip)
        for optimizer in optimizers:
            optimizer.step()
        if (step + 1) % required(config.eval_every) == 0 or step + 1 == total:
            current = error()
            if current < best:
                best, kept = current, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(kept)


@torch.no_grad()
def forecast(model: Forecaster, data: NDArray[np.float32]) -> Array:
    """Return forecasts (N, K) from each day, in standard deviations; the state is carried."""
    model.eval()
    inputs = torch.from_numpy(data[:, None, :INPUTS].copy())  # (N, 1, 3)
    outputs, _ = model(inputs, model.layers.initial_state(1))
    model.train()
    forecasts: Array = outputs[:, 0].double().numpy()
    return forecasts
