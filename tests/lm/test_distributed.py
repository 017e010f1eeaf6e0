"""Ranks: the same curve as one process, the same decisions everywhere, and exact resumption.

The ranks are real processes that talk over loopback, forked so that torch is imported once.
"""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import os
import pickle
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor

from chargen.errors import ChargenError, ConfigError, FollowerError, TrainingError
from chargen.lm.model import CharLM
from chargen.runtime.distributed import Ranks
from chargen.runtime.process_group import joined_ranks
from chargen.training.language_modelling import LanguageModelling
from chargen.training.loop import MAX_SKIPPED_STEPS, Loop

from .test_trainer import RANDOM, Ears, Trainer, planned, same

needs_ranks = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform != "linux",
    reason="needs torch.distributed with gloo, and fork",
)

Work = Callable[[Ranks], Any]
Kept = tuple[dict[str, Any], dict[str, dict[str, Tensor]], dict[str, Tensor]]

MODEL = {"num_layers": 2, "hidden_size": 10, "tied": True}
DROPPING = {**MODEL, "dropout": 0.3, "weight_dropout": 0.2, "embedding_dropout": 0.1}
TRAIN: dict[str, Any] = {"batch_size": 5, "steps": 24, "eval_every": 9, "clip": 0.5, "ema": 0.9}


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def on_ranks(size: int, work: Work) -> list[Any]:
    """What `work` gives on each of `size` ranks; a `ChargenError` is given back, not raised.

    None where a rank left nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / str(number) for number in range(size)]
        port, context = str(free_port()), multiprocessing.get_context("fork")
        processes = [
            context.Process(target=be_rank, args=(number, size, port, work, place))
            for number, place in enumerate(places)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        stuck = [process for process in processes if process.is_alive()]
        for process in stuck:
            process.kill()
        assert not stuck
        return [pickle.loads(place.read_bytes()) if place.exists() else None for place in places]


def be_rank(number: int, size: int, port: str, work: Work, place: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    try:
        with joined_ranks() as ranks:
            result = work(ranks)
    except ChargenError as error:
        result = error
    place.write_bytes(pickle.dumps(result))
    os._exit(0)  # what a test runner does at its end is not this process's business


def make(ranks: Ranks, model: dict[str, Any], ears: Ears | None = None, **train: Any) -> Trainer:
    made = planned(model, TRAIN | train, len(RANDOM))
    torch.manual_seed(0)
    task = LanguageModelling(
        CharLM(made.model), made, RANDOM, RANDOM[:300], 0, "float32", None, ranks
    )
    return Loop(task, lambda trainer: None, ears)


def taken(trainer: Trainer) -> Kept:
    """The training state as it comes back from files."""
    document, tensors = trainer.state()
    document["progress"].pop("seconds")
    files = {name: read_tensors(write_tensors(group)) for name, group in tensors.items()}
    return json.loads(json.dumps(document)), files, dict(trainer.best)


def put_back(trainer: Trainer, kept: Kept) -> None:
    document, tensors, best = kept
    document["progress"]["seconds"] = 0.0
    trainer.restore(document, tensors, best)


def whole(ranks: Ranks, model: dict[str, Any] = MODEL, **train: Any) -> tuple[list[float], Kept]:
    """Losses of every step of a run, and its state at the end."""
    ears = Ears()
    trainer = make(ranks, model, ears, **train)
    trainer.run()
    return [row["loss"] for row in ears.steps], taken(trainer)


def interrupted(
    ranks: Ranks, model: dict[str, Any], stop: int, **train: Any
) -> tuple[list[float], Kept]:
    """Likewise until the last rank, and only that one, is asked to stop."""
    ears = Ears()
    trainer = make(ranks, model, ears, **train)
    ears.at = lambda step: setattr(
        trainer, "stop_requested", step >= stop and ranks.rank == ranks.size - 1
    )
    trainer.run()
    assert trainer.progress.step == stop
    return [row["loss"] for row in ears.steps], taken(trainer)


def gone_on(
    ranks: Ranks, model: dict[str, Any], kept: Kept, **train: Any
) -> tuple[list[float], Kept]:
    ears = Ears()
    trainer = make(ranks, model, ears, **train)
    torch.manual_seed(99)  # another process stands elsewhere
    put_back(trainer, ranks.broadcast(lambda: kept))
    trainer.run()
    return [row["loss"] for row in ears.steps], taken(trainer)


def close(first: Sequence[float], second: Sequence[float]) -> bool:
    return len(first) == len(second) and bool(np.abs(np.subtract(first, second)).max() < 1e-5)


# ---------------------------------------------------------------- who has what


@given(st.integers(1, 40), st.integers(1, 8))
def test_every_stream_is_one_ranks(streams: int, size: int) -> None:
    parts = []
    for number in range(size):
        ranks = Ranks()
        ranks.rank, ranks.size = number, size
        if streams < size:
            with pytest.raises(ConfigError, match="--batch-size"):
                ranks.own_streams(streams)
            return
        parts.append(ranks.own_streams(streams))
    assert [column for part in parts for column in part] == list(range(streams))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_process_leaves_what_it_always_left() -> None:
    trainer = make(Ranks(), DROPPING, steps=3)
    trainer.run()
    document, tensors = trainer.state()
    assert document.keys() == {"progress", "streams"}
    assert tensors["generators"].keys() == {"torch", "streams"}
    assert same(tensors["state"], {str(i): part for i, part in enumerate(trainer.task.hidden)})


# ---------------------------------------------------------------- the same curve


@needs_ranks
@pytest.mark.parametrize("size", [2, 3])
def test_the_same_global_batch_gives_the_same_curve(size: int) -> None:
    losses, (_, tensors, _) = whole(Ranks(), window_jitter=True)
    results = on_ranks(size, lambda ranks: whole(ranks, window_jitter=True))
    for others, _ in results:
        assert close(losses, others)
    _, (document, found, _) = results[0]
    assert document["ranks"] == size
    assert document["progress"]["step"] == 24
    assert document["progress"]["characters"] == sum(
        5 * length for length in lengths(window_jitter=True)
    )
    for group in ("model", "state", "average"):  # all streams, in their order
        for name, value in tensors[group].items():
            torch.testing.assert_close(found[group][name], value, rtol=0, atol=1e-4)
    for _, (_, others, _) in results[1:]:
        assert same(others["model"], found["model"])  # bit for bit
        assert same(others["optimizer"], found["optimizer"])


def lengths(**train: Any) -> list[int]:
    streams = make(Ranks(), MODEL, **train).task.streams
    return [len(streams.next().inputs) for _ in range(24)]


@needs_ranks
def test_each_rank_drops_other_units() -> None:
    def draw(ranks: Ranks) -> float:
        make(ranks, DROPPING)
        return float(torch.rand(()))

    make(Ranks(), DROPPING)
    alone = float(torch.rand(()))
    first, second = on_ranks(2, draw)
    assert first == alone
    assert first != second


# ---------------------------------------------------------------- going on


@needs_ranks
@pytest.mark.parametrize(("size", "stop"), [(2, 7), (3, 16)])
def test_the_same_number_of_ranks_goes_on_bit_for_bit(size: int, stop: int) -> None:
    def both(ranks: Ranks) -> tuple[Kept, Kept]:
        _, wanted = whole(ranks, DROPPING)
        _, kept = interrupted(ranks, DROPPING, stop)
        return wanted, gone_on(ranks, DROPPING, kept)[1]

    (wanted, found), *_ = on_ranks(size, both)
    assert found[0] == wanted[0]
    assert found[1].keys() == wanted[1].keys()
    for group in wanted[1]:
        assert same(found[1][group], wanted[1][group]), group
    assert same(found[2], wanted[2])


@needs_ranks
def test_another_number_of_ranks_goes_on_with_the_same_streams() -> None:
    losses, _ = whole(Ranks())
    before, kept = on_ranks(2, lambda ranks: interrupted(ranks, MODEL, 11))[0]
    alone, _ = gone_on(Ranks(), MODEL, copy.deepcopy(kept))
    more, _ = on_ranks(3, lambda ranks: gone_on(ranks, MODEL, kept))[0]
    assert close(losses, before + alone)
    assert close(losses, before + more)


@needs_ranks
def test_new_ranks_draw_numbers_of_their_own() -> None:
    _, kept = on_ranks(2, lambda ranks: interrupted(ranks, DROPPING, 5))[0]
    assert {"torch", "rank1.torch"} < kept[1]["generators"].keys()

    def draw(ranks: Ranks) -> float:
        trainer = make(ranks, DROPPING)
        fresh = float(torch.rand(()))
        put_back(trainer, ranks.broadcast(lambda: kept))
        drawn = float(torch.rand(()))
        assert drawn != fresh
        return drawn

    assert len(set(on_ranks(3, draw))) == 3


# ---------------------------------------------------------------- decisions


@needs_ranks
def test_rank_0_has_the_clock_and_anyone_can_stop() -> None:
    agreed = on_ranks(
        2, lambda ranks: ranks.agree_on_time_and_stop(5.0 + ranks.rank, ranks.rank == 1)
    )
    assert agreed == [(5.0, True), (5.0, True)]


@needs_ranks
def test_a_loss_without_a_number_on_one_rank_skips_the_step_on_all() -> None:
    def work(ranks: Ranks) -> tuple[list[int], dict[str, Tensor]]:
        ears = Ears()
        trainer = make(ranks, MODEL, ears)
        spoil(trainer, {4, 5, 11} if ranks.rank == 1 else set())
        trainer.run()
        return [row["skipped"] for row in ears.steps[:12]], taken(trainer)[1]["model"]

    (first, weights), (second, others) = on_ranks(2, work)
    assert first == second == [0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 3, 3]
    assert same(weights, others)
    assert all(torch.isfinite(value).all() for value in weights.values())


@needs_ranks
def test_too_many_of_them_are_told_once() -> None:
    def work(ranks: Ranks) -> None:
        trainer = make(ranks, MODEL, steps=100)
        spoil(trainer, set(range(3, 100)) if ranks.rank == 1 else set())
        trainer.run()

    first, second = on_ranks(2, work)
    assert isinstance(first, TrainingError)
    assert f"for {MAX_SKIPPED_STEPS} steps in a row" in str(first)
    assert isinstance(second, FollowerError)


def spoil(trainer: Trainer, steps: set[int]) -> None:
    """Make this rank's logits of these steps (counted from 1) not a number."""
    forward = trainer.task.model.forward

    def broken(ids: Tensor, state: tuple[Tensor, ...]) -> Any:
        logits, after = forward(ids, state)
        if trainer.task.model.training and trainer.progress.step + 1 in steps:
            logits = logits * math.nan
        return logits, after

    trainer.task.model.forward = broken  # type: ignore[method-assign]


# ---------------------------------------------------------------- what goes wrong


def refuse(reason: str) -> Any:
    raise ConfigError(reason)


@needs_ranks
def test_what_fails_on_rank_0_ends_all_and_is_told_there() -> None:
    first, second = on_ranks(2, lambda ranks: ranks.broadcast(lambda: refuse("no")))
    assert isinstance(first, ConfigError)
    assert isinstance(second, FollowerError)
    # Nothing is known of this one: a fault of the program, or of the machine.
    first, second = on_ranks(2, lambda ranks: ranks.broadcast(lambda: torch.empty(-1)))
    assert first is None  # it ends with its traceback
    assert isinstance(second, FollowerError)


@needs_ranks
def test_memory_that_runs_out_on_another_rank_is_told_by_rank_0() -> None:
    def work(ranks: Ranks) -> Any:
        return ranks.on_all_ranks(lambda: torch.empty(1 << 50 if ranks.rank == 1 else 1))

    first, second = on_ranks(2, work)
    assert str(first).startswith("rank 1: there is not enough memory")
    assert isinstance(second, FollowerError)


@needs_ranks
def test_what_fails_on_another_rank_is_told_by_rank_0_with_its_name() -> None:
    def work(ranks: Ranks) -> Any:
        return ranks.on_all_ranks(lambda: refuse("no such device") if ranks.rank == 1 else 1)

    first, second = on_ranks(2, work)
    assert str(first) == "rank 1: no such device"
    assert isinstance(second, FollowerError)


@needs_ranks
def test_a_rank_that_dies_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    process_group = pytest.importorskip("chargen.runtime.process_group")
    monkeypatch.setattr(process_group, "ROLL_CALL_SECONDS", 1.0)

    def work(ranks: Ranks) -> None:
        ears = Ears(lambda step: os._exit(1) if step == 6 and ranks.rank == 2 else None)
        trainer = make(ranks, MODEL, ears)
        with ranks.name_lost_ranks(lambda: "something is kept"):
            trainer.run()

    first, second, third = on_ranks(3, work)
    assert isinstance(first, TrainingError)
    assert str(first) == "rank 2 stopped answering; something is kept"
    assert isinstance(second, FollowerError)
    assert third is None
