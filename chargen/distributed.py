"""The processes that train one model together: one alone, or the ranks that torchrun started.

Each rank runs the same program and asks this module what is its own, what is shared and who tells.
It knows process groups and Python values, neither models nor checkpoints. torch is imported where
it is used: the command line asks `rank` and `leads` before anything else.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ChargenError, ConfigError, FollowerError, TrainingError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

STEP_TIMEOUT = timedelta(minutes=10)
"""Ranks reach the sums of a step together; one that is this late counts as dead."""

LEADER_TIMEOUT = timedelta(hours=2)
"""How long the others wait while rank 0 encodes a corpus, evaluates or writes."""

ROLL_CALL_SECONDS = 3.0
"""Once a connection broke: time for the living to say that they are there."""

Value = TypeVar("Value")

_numbers = itertools.count()


def rank() -> int:
    """The number of this process among those that torchrun started; 0 without it."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def world_size() -> int:
    """How many processes torchrun started, on all machines together; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def leads() -> bool:
    """Whether this process is the one that writes and tells."""
    return rank() == 0


def one_process_only(what: str) -> None:
    """Refuse to run under torchrun.

    Raises
    ------
    ConfigError
        On rank 0; `FollowerError` on the others.
    """
    if world_size() > 1:
        if leads():
            raise ConfigError(f"{what} runs in one process: start it without torchrun")
        raise FollowerError


class Ranks:
    """One process alone; every exchange with the others gives back what it was given.

    Attributes
    ----------
    rank, size : int
    """

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which alone writes, evaluates and tells."""
        return self.rank == 0

    def columns(self, streams: int) -> range:
        """Which of B streams are this rank's: a contiguous part, as equal as can be.

        Raises
        ------
        ConfigError
            Where there are fewer streams than ranks.
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
        """The model to learn with: its gradients are the mean over the ranks.

        Parameters
        ----------
        model : nn.Module
        *example
            Arguments of a call that gives (tensor, anything).
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

        Raises
        ------
        ChargenError, OSError, MemoryError
            As `make` does, on rank 0; `FollowerError` on the others.
        """
        return make()

    def together(self, make: Callable[[], Value]) -> Value:
        """What `make` gives on this rank, unless it fails on any of them.

        Raises
        ------
        ChargenError, OSError
            As `make` does; where it failed elsewhere, rank 0 names the rank and the others raise
            `FollowerError`.
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

        Parameters
        ----------
        kept : callable
            A clause on what is left of the run.
        """
        yield


class JoinedRanks(Ranks):
    """This process among those that torchrun started; see `joined`."""

    def __init__(self) -> None:
        import torch
        import torch.distributed as dist
        from torch.distributed.rendezvous import rendezvous

        if not dist.is_available():
            raise ConfigError("this build of torch knows no torch.distributed: leave torchrun out")
        self._dist: Any = dist
        self.local_rank = int(os.environ.get("LOCAL_RANK", rank()))
        nccl = torch.cuda.is_available() and dist.is_nccl_available()
        try:
            store, self.rank, self.size = next(rendezvous("env://", timeout=STEP_TIMEOUT))
            # A second run of the same processes must not find what the first one left there.
            self._store: Any = self._dist.PrefixStore(f"chargen/{next(_numbers)}", store)
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if nccl else "gloo",
                timeout=STEP_TIMEOUT,
                store=self._store,
                rank=self.rank,
                world_size=self.size,
            )
            self._patient = dist.new_group(backend="gloo", timeout=LEADER_TIMEOUT)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise TrainingError(f"the ranks did not find each other: {reason}") from error

    def device_name(self, asked: str) -> str:
        import torch

        if asked not in ("auto", "cpu", "cuda"):
            raise ConfigError(
                f"--device {asked}: under torchrun it is cpu, or cuda for a GPU of each rank's own"
            )
        if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
            return "cpu"
        return f"cuda:{self.local_rank}"

    def seed_own(self, seed: int) -> None:
        import torch

        if self.rank:
            torch.manual_seed((seed + 0x9E3779B97F4A7C15 * self.rank) % 2**63)

    def wrapped(self, model: nn.Module, *example: Any) -> nn.Module:
        import torch
        from torch.nn.parallel import DistributedDataParallel

        device = next(model.parameters()).device
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        learner = DistributedDataParallel(model, device_ids=[device.index] if on_gpu else None)
        # It lays out its sums by the order of the first backward pass, and sums over more than
        # two ranks depend on the layout: a pass that counts for nothing settles it, so that the
        # first step of a resumed run is like any other.
        with torch.random.fork_rng(devices=[device] if on_gpu else []):
            outputs, _ = learner(*example)
            torch.autograd.backward(outputs.float().sum())
        model.zero_grad(set_to_none=True)
        return learner

    def mean(self, values: Tensor) -> Tensor:
        values = values.clone()
        self._dist.all_reduce(values)
        return values / self.size

    def agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        import torch

        values = torch.tensor([seconds if self.leads else 0.0, float(stop)], dtype=torch.float64)
        self._dist.all_reduce(values)
        return float(values[0]), bool(values[1])

    def shared(self, make: Callable[[], Value]) -> Value:
        box: list[Any] = [None, False]
        if self.leads:
            try:
                box = [make(), True]
            except (ChargenError, OSError, MemoryError):
                self._dist.broadcast_object_list(box, group=self._patient)
                raise
            given: Value = box[0]
            self._dist.broadcast_object_list(box, group=self._patient)
            return given
        self._dist.broadcast_object_list(box, group=self._patient)
        if not box[1]:
            raise FollowerError
        received: Value = box[0]
        return received

    def together(self, make: Callable[[], Value]) -> Value:
        try:
            value, failure = make(), None
        except (ChargenError, OSError) as error:
            failure = error
        reasons: list[Any] = [None] * self.size
        own = None if failure is None else str(failure)
        self._dist.all_gather_object(reasons, own, group=self._patient)
        failed = [number for number, reason in enumerate(reasons) if reason is not None]
        if not failed:
            return value
        if not self.leads:
            raise FollowerError from failure
        if failure is not None:
            raise failure
        raise TrainingError(f"rank {failed[0]}: {reasons[failed[0]]}")

    def in_turn(self, make: Callable[[], Value]) -> Value:
        made: list[Value] = []
        for turn in (True, False):
            if turn == (self.local_rank == 0):
                self.together(lambda: made.append(make()))
            else:
                self.together(lambda: None)
        return made[0]

    def gathered(self, value: Value) -> list[Value]:
        values: list[Any] | None = [None] * self.size if self.leads else None
        self._dist.gather_object(value, values, group=self._patient)
        return [value] if values is None else values

    @contextlib.contextmanager
    def watching(self, kept: Callable[[], str] = str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not self._is_broken_connection(error):
                raise
            lost = self._lost()
            if lost and any(number not in lost for number in range(self.rank)):
                raise FollowerError from error  # a living rank before this one tells
            clause = kept()
            sentence = f"{_named(lost)} stopped answering" if lost else "the ranks lost each other"
            raise TrainingError(sentence + (f"; {clause}" if clause else "")) from error

    def _is_broken_connection(self, error: RuntimeError) -> bool:
        text = str(error).lower()
        words = ("gloo", "nccl", "connection", "socket", "peer", "timed out")
        return isinstance(error, self._dist.DistError) or any(word in text for word in words)

    def _lost(self) -> list[int]:
        """The ranks that do not answer a roll call; empty where nobody can be asked."""
        missing = list(range(self.size))
        try:
            self._store.set(f"here/{self.rank}", "")
            until = time.monotonic() + ROLL_CALL_SECONDS
            while missing and time.monotonic() < until:
                missing = [n for n in missing if not self._store.check([f"here/{n}"])]
                time.sleep(0.05)
        except RuntimeError:  # whoever kept the store is gone as well
            return []
        return missing

    def close(self) -> None:
        """Leave the group; the ranks have nothing more to say to each other."""
        self._dist.destroy_process_group()


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks of this run: those that torchrun started, or this process alone.

    Raises
    ------
    TrainingError
        Where the ranks do not find each other, or one of them stops answering.
    """
    if world_size() == 1:
        yield Ranks()
        return
    ranks = JoinedRanks()
    with ranks.watching():
        yield ranks
        # Not after an error: whoever waits for a dead rank waits here too.
        ranks.close()


def _named(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"rank {numbers[0]}"
    return f"ranks {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def merged_generators(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Where the generators of all ranks stand, for a checkpoint: rank 0's under their own names."""
    merged = dict(states[0])
    for number, own in enumerate(states[1:], start=1):
        merged |= {f"rank{number}.{name}": state for name, state in own.items()}
    return merged


def own_generators(merged: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    """What `merged_generators` kept of rank `number`; empty where there was no such rank."""
    if number == 0:
        return {name: state for name, state in merged.items() if "." not in name}
    start = f"rank{number}."
    return {k.removeprefix(start): v for k, v in merged.items() if k.startswith(start)}
