"""The processes that train one model together: one alone, or the ranks that torchrun started.

Each rank runs the same program and asks this module what is its own, what is shared and who tells.
It knows neither models nor checkpoints, and imports no torch: the command line asks `rank` and
`is_main` before anything else. What torchrun started talks through `process_group.py`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from chargen.errors import ConfigError, FollowerError

if TYPE_CHECKING:
    from torch import Tensor, nn

Value = TypeVar("Value")


def rank() -> int:
    """The number of this process among those that torchrun started; 0 without it."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def world_size() -> int:
    """How many processes torchrun started, on all machines together; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def is_main() -> bool:
    """Whether this is the main process, which writes and tells."""
    return rank() == 0


def one_process_only(what: str) -> None:
    """Refuse to run under torchrun: a `ConfigError` on rank 0, a `FollowerError` on the others."""
    if world_size() > 1:
        if is_main():
            raise ConfigError(f"{what} runs in one process: start it without torchrun")
        raise FollowerError


class Ranks:
    """One process alone; every exchange with the others gives back what it was given."""

    rank = 0
    size = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes, evaluates and tells."""
        return self.rank == 0

    def columns(self, streams: int) -> range:
        """Which of B streams are this rank's: a contiguous part, as equal as can be.

        Fewer streams than ranks are a `ConfigError`.
        """
        if streams < self.size:
            raise ConfigError(
                f"--batch-size {streams} is fewer streams of text than there are ranks "
                f"({self.size}): start fewer, or give a larger --batch-size"
            )
        return range(self.rank * streams // self.size, (self.rank + 1) * streams // self.size)

    def device_name(self, asked: str) -> str:
        """The device to use where the user asked for `asked`."""
        return asked

    def seed_own(self, seed: int) -> None:
        """Give every rank but the first random numbers of its own, for dropout."""

    def wrapped(self, model: nn.Module, *example: Any) -> nn.Module:
        """The model to learn with, whose gradients are the mean over the ranks.

        `example` are arguments of a call that gives (tensor, anything).
        """
        return model

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values`, of any shape, over the ranks: the same bits on each."""
        return values

    def agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """Rank 0's clock, and whether any rank was asked to stop."""
        return seconds, stop

    def shared(self, make: Callable[[], Value]) -> Value:
        """What `make` gives on rank 0, on all ranks; it is called there only.

        What it raises is raised on rank 0, and a `FollowerError` on the others.
        """
        return make()

    def together(self, make: Callable[[], Value]) -> Value:
        """What `make` gives on this rank, unless it fails on any of them.

        Where it failed elsewhere, rank 0 names that rank and the others raise `FollowerError`.
        """
        return make()

    def in_turn(self, make: Callable[[], Value]) -> Value:
        """Like `together`, but the first rank of each machine goes before its others."""
        return make()

    def gathered(self, value: Value) -> list[Value]:
        """The values of all ranks in order, on rank 0; on the others only their own."""
        return [value]

    @contextlib.contextmanager
    def watching(self, kept: Callable[[], str] = str) -> Iterator[None]:
        """Turn a connection that breaks into a `TrainingError` that names the rank.

        `kept` gives a clause on what is left of the run.
        """
        yield
