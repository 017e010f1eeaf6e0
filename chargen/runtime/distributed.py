"""The processes that train one model: a single process, or the ranks that torchrun started.

Each rank runs the same program and asks this module which streams are its own, what the ranks share
and which rank prints. The module is independent of models and checkpoints, and does not import
torch, because the command line calls `rank` and `is_main` before anything else. Ranks that torchrun
started communicate through `process_group.py`.
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
    """Return the rank of this process under torchrun, or 0 without torchrun."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def world_size() -> int:
    """Return the number of processes that torchrun started on all machines, or 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def is_main() -> bool:
    """Return whether this is the main process, which alone writes and prints."""
    return rank() == 0


def refuse_torchrun(activity: str) -> None:
    """Raise an error under torchrun: `ConfigError` on rank 0, `FollowerError` on the others."""
    if world_size() > 1:
        if is_main():
            raise ConfigError(f"{activity} runs in one process: start it without torchrun")
        raise FollowerError


class Ranks:
    """A single process: every exchange between ranks returns this process's own values."""

    rank = 0
    size = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes, evaluates and prints."""
        return self.rank == 0

    def own_streams(self, streams: int) -> range:
        """Return which of B streams this rank reads: a contiguous part, equal up to one stream.

        Raises `ConfigError` if there are fewer streams than ranks.
        """
        if streams < self.size:
            raise ConfigError(
                f"--batch-size {streams} gives fewer streams of text than there are ranks "
                f"({self.size}): start fewer ranks, or give a larger --batch-size"
            )
        return range(self.rank * streams // self.size, (self.rank + 1) * streams // self.size)

    def device_name(self, requested: str) -> str:
        """Return the name of this rank's device, given the one that the user asked for."""
        return requested

    def seed_rank(self, seed: int) -> None:
        """Seed each rank except rank 0 with a seed of its own, so that dropout masks differ."""

    def data_parallel(self, model: nn.Module, *example: Any) -> nn.Module:
        """Return the model to train, whose gradients are averaged over the ranks.

        `example` holds arguments with which the model returns a tensor and anything else.
        """
        return model

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of `values` (any shape) over the ranks, bit-identical on all of them."""
        return values

    def agree_on_time_and_stop(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """Return the `seconds` of rank 0, and whether any rank was asked to stop."""
        return seconds, stop

    def broadcast(self, make: Callable[[], Value]) -> Value:
        """Call `make` on rank 0 only, and return its result on all ranks.

        An error in `make` is raised on rank 0; the other ranks raise `FollowerError`.
        """
        return make()

    def on_all_ranks(self, make: Callable[[], Value]) -> Value:
        """Call `make` on every rank, and return this rank's result if all ranks succeed.

        If any rank fails, rank 0 raises its own error or a `TrainingError` that names a failed
        rank, and the other ranks raise `FollowerError`.
        """
        return make()

    def local_main_first(self, make: Callable[[], Value]) -> Value:
        """Like `on_all_ranks`, but the first rank of each machine calls `make` before the rest."""
        return make()

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all ranks in order on rank 0, and on other ranks only their own."""
        return [value]

    @contextlib.contextmanager
    def name_lost_ranks(self, saved_clause: Callable[[], str] = str) -> Iterator[None]:
        """Raise a `TrainingError` that names the lost rank if a connection breaks.

        `saved_clause` returns a clause for the message on what is left of the run.
        """
        yield
