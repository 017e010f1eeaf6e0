"""The log of a run as arrays to plot. Independent of drawing."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CheckpointError, ConfigError
from chargen.storage.shipped import METRICS, checkpoint_suggestion, resolve

Array = NDArray[np.float64]

_AXIS_KEYS = {"characters": "characters", "seconds": "seconds", "steps": "step", "epochs": "epoch"}


@dataclass(frozen=True)
class Curves:
    """The curves of a run, from its N rows of training and its M evaluations."""

    name: str
    steps: Array  # (N,)
    # "loss" in nats, "learning_rate", "gradient_norm", "clipped_share", "characters", "seconds" and
    # "epoch", each (N,); NaN where a row has none
    rows: dict[str, Array] = field(repr=False)
    valid_steps: Array = field(repr=False)  # (M,)
    valid: Array = field(repr=False)  # (M,), nats
    last_step: float  # also if that step has no row of training
    clip: float | None = None  # norm at which gradients are clipped
    symbol: str | None = "character"  # what the loss is per: also "byte", None for a classifier

    def axis_positions(self, axis: str, steps: Array) -> Array:
        """Convert steps to positions on an axis: characters, seconds, steps or epochs."""
        if axis == "steps" or not len(self.steps):
            return steps
        values = self.rows[_AXIS_KEYS[axis]]
        mask = np.isfinite(values)
        if not mask.any():
            return np.full(len(steps), np.nan)
        # All axes begin at 0, and an evaluation may come before the first row.
        positions = np.interp(steps, np.r_[0.0, self.steps[mask]], np.r_[0.0, values[mask]])
        # Extrapolate, since an evaluation may come after the last row.
        last, per_step = self.steps[mask][-1], values[mask][-1] / max(1.0, self.steps[mask][-1])
        beyond = steps > last
        positions[beyond] += (steps[beyond] - last) * per_step
        return positions


def read(directory: str | os.PathLike[str]) -> Curves:
    """Read the log of a checkpoint, whose run may still be in progress, or a ``metrics.jsonl``.

    Raises `CheckpointError` if there is no log, it has nothing to draw, or a line is invalid.
    """
    path = Path(directory)
    if not path.is_file():
        path = resolve(path) / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        if not path.parent.exists():
            hint = checkpoint_suggestion(path.parent)
            raise CheckpointError(f"there is no run {directory}{hint}") from error
        raise CheckpointError(
            f"{directory} has no {METRICS}: name the folder of a run (--out of chargen train)"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise CheckpointError(f"{path} cannot be read: {reason}") from error
    rows = [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    loss_rows = [row for row in rows if "loss" in row]
    if not loss_rows:
        raise CheckpointError(
            f"{path} has no row of training, of which there is one every ten steps: nothing to draw"
        )
    keys = ("loss", "learning_rate", "gradient_norm", "clipped_share", *_AXIS_KEYS.values())
    evaluated = [row for row in rows if not math.isnan(_validation_loss(row))]
    return Curves(
        name=_name(path),
        steps=_column(loss_rows, "step"),
        rows={key: _column(loss_rows, key) for key in keys},
        valid_steps=_column(evaluated, "step"),
        valid=np.array([_validation_loss(row) for row in evaluated]),
        last_step=max(_number(row, "step") for row in rows),
        clip=_clip(path.parent),
        symbol=None
        if any("train_accuracy" in row or "valid_log_loss" in row for row in rows)
        else _symbol(path.parent),
    )


def symbol_name(runs: Sequence[Curves]) -> str:
    """Return what runs that are drawn together read: "character", "byte", or "symbol" for both."""
    names = {run.symbol or "character" for run in runs}
    return names.pop() if len(names) == 1 else "symbol"


def loss_unit(runs: Sequence[Curves], nats: bool = False) -> tuple[float, str]:
    """Return the size in nats and the name of the loss unit for runs that are drawn together."""
    if nats or any(run.symbol is None for run in runs):
        return 1.0, "nats"
    return math.log(2), f"bits per {symbol_name(runs)}"


def smoothed(values: Array, strength: float | None = None) -> Array:
    """Return an exponential moving average with decay `strength` per row and bias correction.

    NaN stays NaN and does not affect later values. Without `strength`, the average covers about a
    thirtieth of the rows. Raises `ConfigError` if `strength` is not from 0 to below 1.
    """
    if strength is None:
        strength = 1 - 1 / max(2.0, len(values) / 30)
    if not 0 <= strength < 1:
        raise ConfigError(f"--smooth must be at least 0 and below 1, got {strength}")
    total = weight = 0.0
    averages = np.full(len(values), np.nan)
    for index, value in enumerate(values.tolist()):
        if math.isfinite(value):
            total = strength * total + (1 - strength) * value
            weight = strength * weight + (1 - strength)
            averages[index] = total / weight
    return averages


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line, parse_int=float)  # an int may be too large for an array
        if isinstance(row, dict) and not math.isnan(_number(row, "step")):
            return row
    except (ValueError, RecursionError):
        pass
    raise CheckpointError(f"{path}, line {number}, is not a row of a log: {line[:60]!r}")


def _number(row: dict[str, Any], key: str) -> float:
    """Return the value of a row; NaN if there is none or it is not a finite number."""
    value = row.get(key)
    return value if isinstance(value, float) and math.isfinite(value) else math.nan


def _column(rows: list[dict[str, Any]], key: str) -> Array:
    return np.array([_number(row, key) for row in rows])


def _validation_loss(row: dict[str, Any]) -> float:
    return _number(row, "valid_nats" if "valid_nats" in row else "valid_log_loss")


def _name(path: Path) -> str:
    folder = Path(os.path.abspath(path)).parent.name  # noqa: PTH100
    return folder if path.name == METRICS else f"{folder}/{path.name}"


def _symbol(directory: Path) -> str:
    try:
        level = json.loads((directory / "vocabulary.json").read_text("utf-8"))["level"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "character"
    return "character" if level == "char" else "byte"


def _clip(directory: Path) -> float | None:
    try:
        config = json.loads((directory / "config.json").read_text("utf-8"), parse_int=float)
        for part in ("train", "finetune"):
            if (value := _number(config.get(part, {}), "clip")) > 0:
                return value
    except (OSError, ValueError, AttributeError, RecursionError):
        pass
    return None
