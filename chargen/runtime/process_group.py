"""Communication between the ranks that torchrun started, over torch's process groups.

Gradients use NCCL on GPUs and gloo on CPUs; all other messages are small and use gloo.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from chargen.errors import (
    ChargenError,
    ConfigError,
    FollowerError,
    TrainingError,
    convert_memory_errors,
)
from chargen.runtime.distributed import Ranks, Value, rank, world_size

dist: Any = torch.distributed  # much of it has no types

STEP_TIMEOUT = timedelta(minutes=10)
"""Ranks reach the all-reduce of a step together; a rank that is this late counts as dead."""

LEADER_TIMEOUT = timedelta(hours=2)
"""How long the other ranks wait while rank 0 encodes a corpus, evaluates or writes."""

ROLL_CALL_SECONDS = 3.0
"""Time for the remaining ranks to answer a roll call after a connection broke."""

HEARTBEAT_SECONDS = 0.3
"""Interval between heartbeats of a rank, sent by a thread even while the main thread waits."""

SILENT_SECONDS = 20.0
"""Time without a heartbeat after which a rank counts as hanging."""

_LEFT_GROUP = b"left"

_log = logging.getLogger(__name__)
_run_numbers = itertools.count()


@contextlib.contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Yield the ranks of this run: those that torchrun started, or this process alone.

    Raises `TrainingError` if the ranks do not find each other or one of them stops answering.
    """
    if world_size() == 1:
        yield Ranks()
        return
    if not dist.is_available():
        raise ConfigError("this build of torch has no torch.distributed: start without torchrun")
    ranks = JoinedRanks()
    try:
        with ranks.name_lost_ranks():
            yield ranks
            # Not after an error: closing the group would wait for a dead rank.
            ranks.close()
    finally:
        ranks.stop_heartbeats()


class JoinedRanks(Ranks):
    """One of the ranks that torchrun started; see `joined_ranks`."""

    def __init__(self) -> None:
        from torch.distributed.rendezvous import rendezvous  # not in every build of torch

        self.local_rank = int(os.environ.get("LOCAL_RANK", rank()))
        nccl = torch.cuda.is_available() and dist.is_nccl_available()
        try:
            store, self.rank, self.size = next(rendezvous("env://", timeout=STEP_TIMEOUT))
            # A second run in the same processes must not read the entries of the first.
            self._store: Any = dist.PrefixStore(f"chargen/{next(_run_numbers)}", store)
            self._store.set(f"beat/{self.rank}", "0")
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if nccl else "gloo",
                timeout=STEP_TIMEOUT,
                store=self._store,
                rank=self.rank,
                world_size=self.size,
            )
            self._long_timeout_group = dist.new_group(backend="gloo", timeout=LEADER_TIMEOUT)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise TrainingError(f"the ranks did not find each other: {reason}") from error
        self._leaving = threading.Event()
        self._saved_clause: Callable[[], str] = str
        self._heartbeat_thread = threading.Thread(target=self._send_heartbeats, daemon=True)
        self._heartbeat_thread.start()

    def device_name(self, requested: str) -> str:
        if requested not in ("auto", "cpu", "cuda"):
            raise ConfigError(
                f"--device {requested}: under torchrun give cpu, or cuda for one GPU per rank"
            )
        if requested == "cpu" or (requested == "auto" and not torch.cuda.is_available()):
            return "cpu"
        return f"cuda:{self.local_rank}"

    def seed_rank(self, seed: int) -> None:
        if self.rank:
            torch.manual_seed((seed + 0x9E3779B97F4A7C15 * self.rank) % 2**63)

    def data_parallel(self, model: nn.Module, *example: Any) -> nn.Module:
        from torch.nn.parallel import DistributedDataParallel

        device = next(model.parameters()).device
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        learner = DistributedDataParallel(model, device_ids=[device.index] if on_gpu else None)
        # The first backward pass determines the layout of the gradient sums, and sums over more
        # than two ranks depend on the layout. A pass whose gradients are discarded fixes it, so
        # that the first step of a resumed run is like any other.
        with torch.random.fork_rng(devices=[device] if on_gpu else []):
            outputs, _ = learner(*example)
            torch.autograd.backward(outputs.float().sum())
        model.zero_grad(set_to_none=True)
        return learner

    def mean(self, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values / self.size

    def agree_on_time_and_stop(self, seconds: float, stop: bool) -> tuple[float, bool]:
        values = torch.tensor([seconds if self.is_main else 0.0, float(stop)], dtype=torch.float64)
        dist.all_reduce(values)
        return float(values[0]), bool(values[1])

    def broadcast(self, make: Callable[[], Value]) -> Value:
        box: list[Any] = [None, False]
        if self.is_main:
            try:
                box = [make(), True]
            except Exception:  # of any kind: the other ranks would wait for hours
                dist.broadcast_object_list(box, group=self._long_timeout_group)
                raise
        result = box[0]  # the broadcast may replace it by a copy
        dist.broadcast_object_list(box, group=self._long_timeout_group)
        if not box[1]:
            raise FollowerError
        value: Value = result if self.is_main else box[0]
        return value

    def on_all_ranks(self, make: Callable[[], Value]) -> Value:
        try:
            with convert_memory_errors():
                value, failure = make(), None
        except (ChargenError, OSError) as error:
            failure = error
        reasons: list[Any] = [None] * self.size
        own = None if failure is None else str(failure)
        dist.all_gather_object(reasons, own, group=self._long_timeout_group)
        failed = [number for number, reason in enumerate(reasons) if reason is not None]
        if not failed:
            return value
        if not self.is_main:
            raise FollowerError from failure
        if failure is not None:
            raise failure
        raise TrainingError(f"rank {failed[0]}: {reasons[failed[0]]}")

    def local_main_first(self, make: Callable[[], Value]) -> Value:
        made: list[Value] = []
        for turn in (True, False):
            if turn == (self.local_rank == 0):
                self.on_all_ranks(lambda: made.append(make()))
            else:
                self.on_all_ranks(lambda: None)
        return made[0]

    def gather(self, value: Value) -> list[Value]:
        values: list[Any] | None = [None] * self.size if self.is_main else None
        dist.gather_object(value, values, group=self._long_timeout_group)
        return [value] if values is None else values

    @contextlib.contextmanager
    def name_lost_ranks(self, saved_clause: Callable[[], str] = str) -> Iterator[None]:
        before, self._saved_clause = self._saved_clause, saved_clause
        try:
            yield
        except RuntimeError as error:
            if not self._is_broken_connection(error):
                raise
            raise TrainingError(self._lost_ranks_message(self._unresponsive_ranks())) from error
        finally:
            self._saved_clause = before

    def _lost_ranks_message(self, lost: list[int] | None) -> str:
        clause = self._saved_clause()
        sentence = (
            f"{_ranks_in_words(lost)} stopped answering"
            if lost
            else "the ranks lost their connection"
        )
        return sentence + (f"; {clause}" if clause else "")

    def _is_broken_connection(self, error: RuntimeError) -> bool:
        text = str(error).lower()
        words = ("gloo", "nccl", "connection", "socket", "peer", "timed out")
        return isinstance(error, dist.DistError) or any(word in text for word in words)

    def _send_heartbeats(self) -> None:
        """Send heartbeats and answer a roll call; end this rank if another rank hangs."""
        names = [f"beat/{number}" for number in range(self.size)]
        beats, missed, answered = [b""] * self.size, [0] * self.size, False
        with contextlib.suppress(RuntimeError):
            for beat in itertools.count(1):
                left = self._leaving.wait(HEARTBEAT_SECONDS)
                self._store.set(names[self.rank], _LEFT_GROUP.decode() if left else str(beat))
                if left:
                    return
                if not answered and self._store.check(["roll call"]):
                    self._store.set(f"here/{self.rank}", "")
                    answered = True
                # Counted in own heartbeats: time in which this rank was suspended must not count.
                before, beats = beats, self._store.multi_get(names)
                for number, (old, new) in enumerate(zip(before, beats, strict=True)):
                    missed[number] = missed[number] + 1 if old == new != _LEFT_GROUP else 0
                silent = [
                    n
                    for n, count in enumerate(missed)
                    if count * HEARTBEAT_SECONDS > SILENT_SECONDS
                ]
                if silent:
                    self._end_process(silent)

    def _end_process(self, silent: list[int]) -> None:
        """End the process, since a main thread that waits in an all-reduce cannot be interrupted.

        The first live rank logs the reason. Files are written atomically, so none is left partial.
        """
        if self.rank != next(n for n in range(self.size) if n not in silent):
            os._exit(0)
        try:
            _log.error("%s", self._lost_ranks_message(silent))
        finally:
            os._exit(1)

    def _unresponsive_ranks(self) -> list[int] | None:
        """Return the ranks that do not answer a roll call; None if no rank can be asked."""
        missing = list(range(self.size))
        try:
            self._store.set(f"here/{self.rank}", "")
            self._store.set("roll call", "")
            until = time.monotonic() + ROLL_CALL_SECONDS
            while missing and time.monotonic() < until:
                missing = [n for n in missing if not self._store.check([f"here/{n}"])]
                if any(number not in missing for number in range(self.rank)):
                    raise FollowerError
                time.sleep(ROLL_CALL_SECONDS / 50)
        except RuntimeError:  # the process that holds the store is gone as well
            return None
        return missing

    def close(self) -> None:
        """Leave the process group at the end of the run."""
        dist.destroy_process_group()

    def stop_heartbeats(self) -> None:
        """Stop sending heartbeats and answering roll calls, because this rank ends."""
        self._leaving.set()
        self._heartbeat_thread.join()


def _ranks_in_words(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"rank {numbers[0]}"
    return f"ranks {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
