"""The interface between the loop and what it trains: steps, evaluations, and state to be saved."""

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
"""Groups of tensors; each group is one file of a checkpoint."""


MAX_NUMBER = 2.0**63
"""Upper limit of every count, and of every number of seconds or nats."""


@dataclass
class Progress:
    """How far a run has got; all fields go into the checkpoint. A `Task` may add fields.

    A checkpoint is an untrusted file, so impossible values raise ValueError.
    """

    step: int = 0  # optimizer steps
    characters: int = 0  # symbols trained on, repeats included
    seconds: float = 0.0  # time spent in the loop, including earlier parts of a resumed run
    best_step: int = 0  # step of the evaluation whose weights are kept; 0 before there is one
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
            if not missing and (type(value) not in allowed or not 0 <= value < MAX_NUMBER):
                raise ValueError(f"{entry.name} is {brief(value)}")


@dataclass(frozen=True)
class Settings:
    """How long a loop runs, and what it does on the way."""

    budget: tuple[str, float]  # a count of `Progress` and its end: ("step", 60), ("seconds", 300.0)
    # (used share of the budget, steps done) -> share of the highest learning rate
    schedule: Callable[[float, int], float]
    learning_rate: float  # the highest; named in the message about a loss that is not finite
    clip: float  # largest norm of the gradient; 0 turns clipping off
    ema: float | None  # decay of the weight average that is evaluated; 0 or None turns it off
    patience: int | None  # evaluations without an improvement that end the run
    eval_every: int | None  # steps between evaluations; None spreads `evaluations` over the budget
    evaluations: int
    checkpoint_every: int | None  # steps between checkpoints; None means every minute


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation."""

    row: dict[str, Any]  # figures for the log
    better: bool  # better than all before: resets patience
    keep: bool  # whether the run keeps these weights as its best so far
    text: str | None = None  # a sample, for people to read


class Task(ABC):
    """What a `Loop` trains: a model, updated in place on its device, with its ranks."""

    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    config: Any
    progress: Progress
    ranks: Ranks = Ranks()

    @abstractmethod
    def settings(self) -> Settings:
        """Return the part of `config` that the loop needs."""

    @abstractmethod
    def next_batch(self) -> Any:
        """Return the batch of the next step."""

    @abstractmethod
    def loss(self, batch: Any, factor: float) -> tuple[Tensor, dict[str, Any]]:
        """Return the loss of a batch; set the optimizers' learning rates and count what was read.

        Parameters
        ----------
        factor : float
            Share of the highest learning rate for this step.

        Returns
        -------
        loss : (), nats
            The step follows its gradient.
        row : dict
            Further entries of the step's row in the log; () tensors are read after the step.
        """

    @abstractmethod
    def skipped(self) -> None:
        """Discard any state left by the last batch, whose loss or gradient was not finite."""

    @abstractmethod
    def evaluate(self) -> Evaluation:
        """Measure the model, which is in evaluation mode; called on rank 0 only.

        The loop supplies the averaged weights and restores the model's buffers afterwards.
        """

    @abstractmethod
    def conclude(self, best: dict[str, Tensor]) -> dict[str, Any]:
        """Return a row for the log about the whole run, or an empty one; called on rank 0 only.

        `best` are the best weights of the run. They are loaded in `model`, which is in evaluation
        mode; changes to `best` are kept.
        """

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return what an exact continuation needs besides model, optimizers and progress.

        The result is JSON and tensors; called on every rank.
        """

    @abstractmethod
    def restore(self, document: dict[str, Any], tensors: Tensors) -> None:
        """Continue from what `state` returned."""
