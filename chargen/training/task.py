"""What a training loop is given: what a step is, what an evaluation is, and what has a state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from chargen.errors import brief
from chargen.runtime.distributed import Ranks

Tensors = dict[str, dict[str, Tensor]]
"""Groups of tensors, each a file of a checkpoint."""


LARGEST = 2.0**63
"""No count, and no number of seconds or nats, is as large."""


@dataclass
class Progress:
    """Where a run stands; all of it goes into the checkpoint. A `Task` may count more.

    It may come from a file: what is no number that it could be is a ValueError.
    """

    step: int = 0  # of the optimizer
    characters: int = 0  # symbols learnt from, repeats included
    seconds: float = 0.0  # time spent in the loop, over all resumptions
    best_step: int = 0  # of the evaluation whose weights are kept; 0 before there is any
    stale: int = 0  # evaluations since the best one
    clipped: int = 0  # steps whose gradient was clipped
    skipped: int = 0  # steps without a finite loss or gradient
    skipped_in_row: int = 0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, default = getattr(self, entry.name), entry.default
            if default is not None and type(default) not in (int, float):
                continue
            allowed = (int,) if type(default) is int else (int, float)
            missing = value is None and default is None
            if not missing and (type(value) not in allowed or not 0 <= value < LARGEST):
                raise ValueError(f"{entry.name} is {brief(value)}")


@dataclass(frozen=True)
class Settings:
    """How long a loop runs, and what it does on the way."""

    budget: tuple[str, float]  # a count of `Progress` and its end: ("step", 60), ("seconds", 300.0)
    # (used share of the budget, steps done) -> share of the highest learning rate
    schedule: Callable[[float, int], float]
    learning_rate: float  # the highest, for the advice to those whose loss is not finite
    clip: float  # largest norm of the gradient; 0 turns clipping off
    ema: float | None  # decay of the average of the weights that is evaluated; 0 or None is off
    patience: int | None  # evaluations without a better one that end the run
    eval_every: int | None  # steps between evaluations; None spreads `evaluations` over the budget
    evaluations: int
    checkpoint_every: int | None  # steps between checkpoints; None is every minute


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    row: dict[str, Any]  # figures for the log
    better: bool  # than all before: patience begins anew
    keep: bool  # whether these weights are the ones of the run until others are
    text: str | None = None  # A sample, for people


class Task(ABC):
    """What a `Loop` trains: a model on its device, in place, with the ranks that share it."""

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    config: Any
    progress: Progress
    ranks: Ranks = Ranks()

    @abstractmethod
    def settings(self) -> Settings:
        """What the loop has to know of `config`."""

    @abstractmethod
    def next_batch(self) -> Any:
        """What the next step learns from."""

    @abstractmethod
    def loss(self, batch: Any, share_done: float, factor: float) -> tuple[Tensor, dict[str, Any]]:
        """Read a batch, with the rates of `optimizers` set and what was read counted.

        Parameters
        ----------
        share_done : float
            Used share of the budget, 0 to 1.
        factor : float
            Share of the highest learning rate that is due.

        Returns
        -------
        loss : (), nats
            Its gradient is the step's.
        row : dict
            What the log tells of the step besides; () tensors are read once the step is done.
        """

    @abstractmethod
    def skipped(self) -> None:
        """Forget what the last batch left: its loss or gradient was not finite."""

    @abstractmethod
    def evaluate(self) -> Evaluation:
        """Measure the model, which is in evaluation mode. On rank 0 only.

        The loop puts the model's buffers back, and has the average of the weights in their place.
        """

    @abstractmethod
    def conclude(self, best: dict[str, Tensor]) -> dict[str, Any]:
        """Say what the run came to; a row for the log, or an empty one. On rank 0 only.

        `best` are the weights of the run, which `model` has too, in evaluation mode; changes to
        them are kept.
        """

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], Tensors]:
        """What going on exactly needs besides model, optimizers and progress, as JSON and tensors.

        It is asked on every rank.
        """

    @abstractmethod
    def restore(self, document: dict[str, Any], tensors: Tensors) -> None:
        """Go on where `state` was taken."""
