"""Trainings in a process of their own."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import chargen
from chargen.errors import ConfigError
from chargen.web.jobs import MOST_POINTS, Job, JobRunner
from tests.processes import warm_processes

from .conftest import SMALL, TEXT


@pytest.fixture
def spawning(tmp_path: Path) -> Iterator[JobRunner]:
    shop = JobRunner(tmp_path / "models")
    yield shop
    shop.close()


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[JobRunner]:
    """The same, whose processes do not import torch anew where they can be forked."""
    with warm_processes():
        shop = JobRunner(tmp_path / "models")
    yield shop
    shop.close()


def until(job: Job, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, job
        time.sleep(0.05)


def start_training(runner: JobRunner) -> tuple[Job, int]:
    """Start a long job, and return it and the number of its process once it trains."""
    others = multiprocessing.active_children()
    job = runner.start("fox", TEXT, steps=100_000, **SMALL)
    until(job, lambda: len(job.training) > 0)
    (child,) = set(multiprocessing.active_children()) - set(others)
    assert child.pid is not None
    return job, child.pid


def test_a_run_tells_its_curve_and_leaves_a_checkpoint(spawning: JobRunner) -> None:
    job = spawning.start(" fox ", TEXT, steps=100, **SMALL)
    until(job, lambda: job.ended)
    assert (job.state, job.progress) == ("finished", 1.0)
    assert "100 steps" in job.message
    assert job.sample
    assert job.validation[-1][1] < job.validation[0][1] < 5
    assert job.notes
    lm = chargen.load(spawning.folder / "fox")
    assert lm.checkpoint is not None
    assert lm.checkpoint.document("config")["results"]["steps"] == 100
    with pytest.raises(ConfigError, match="the name fox is already used"):
        spawning.start("fox", TEXT)


def test_a_cancelled_run_can_go_on(runner: JobRunner) -> None:
    job = runner.start("my fox", TEXT, steps=100_000, **SMALL)
    with pytest.raises(ConfigError, match="my fox is being trained"):
        runner.start("other", TEXT)
    until(job, lambda: len(job.training) > 1)
    runner.cancel()
    until(job, lambda: job.ended)
    assert job.state == "stopped"
    *_, directory = shlex.split(job.message)
    assert f"chargen train --resume {shlex.quote(directory)}" in job.message
    before = len(job.training)
    assert before <= MOST_POINTS
    assert Path(directory) == runner.folder / "my fox"
    run = chargen.resume(directory, steps=1)
    assert run.finished


def test_a_run_that_dies_is_told(runner: JobRunner) -> None:
    job, pid = start_training(runner)
    os.kill(pid, signal.SIGKILL)
    until(job, lambda: job.ended)
    assert job.state == "failed"
    assert "exit code -9" in job.message


@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
def test_ctrl_c_in_a_terminal_reaches_the_server_alone(runner: JobRunner) -> None:
    job, pid = start_training(runner)
    assert os.getpgid(pid) == pid
    runner.close()  # as the server does then
    assert job.state == "stopped"


def test_what_cannot_be_learnt_is_told(runner: JobRunner) -> None:
    job = runner.start("हिन्दी 1", "ab", steps=10)
    until(job, lambda: job.ended)
    assert job.state == "failed"
    assert "characters" in job.message
    runner.close()
    assert list(runner.folder.iterdir()) == []  # the name is free again


@pytest.mark.parametrize("name", ["", "  ", "../x", "a/b", ".hidden", "a\\b", "x" * 81, "a."])
def test_refuses_names_that_are_none(runner: JobRunner, name: str) -> None:
    with pytest.raises(ConfigError, match="the name of a model"):
        runner.start(name, TEXT)


def test_a_long_curve_is_thinned() -> None:
    job = Job("long")
    for number in range(5 * MOST_POINTS):
        job.update("step", {"progress": 0.5, "characters": number, "bits": 1.0})
    assert len(job.training) <= MOST_POINTS
    assert job.training[0] == (0, 1.0)
    assert job.training[-1][0] > 4 * MOST_POINTS
