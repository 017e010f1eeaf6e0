"""Baselines of a forecaster: (N, K) forecasts of days t + 1 to t + K from day t."""

from __future__ import annotations

import numpy as np
from series import Array, Series


def climatology(series: Series, train: int) -> Array:
    """Return the usual value of each day, (N,): two annual harmonics of the first `train` days."""
    angles = series.phases[:, None] * np.array([1, 2])  # (N, 2)
    design = np.column_stack([np.ones(len(angles)), np.cos(angles), np.sin(angles)])
    weights, *_ = np.linalg.lstsq(design[:train], series.values[:train], rcond=None)
    usual: Array = design @ weights
    return usual


def ahead(values: Array, horizon: int) -> Array:
    """Return the values of the `horizon` days after each day, (N, K); NaN beyond the end."""
    padded = np.concatenate([values, np.full(horizon, np.nan)])
    return np.lib.stride_tricks.sliding_window_view(padded[1:], horizon)


def persistence(series: Series, horizon: int) -> Array:
    """Forecast that the next days are like today."""
    return np.repeat(series.values[:, None], horizon, axis=1)


def damped(series: Series, usual: Array, train: int, horizon: int) -> Array:
    """Forecast that today's distance from the usual value decays as in an AR(1) process.

    The rate of decay is the correlation of neighbouring days among the first `train`.
    """
    distance = series.values - usual
    before, after = distance[: train - 1], distance[1:train]
    rate = float(before @ after / (before @ before))
    fading = rate ** np.arange(1, horizon + 1)
    forecasts: Array = ahead(usual, horizon) + distance[:, None] * fading
    return forecasts
