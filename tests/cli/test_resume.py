"""A run that is killed and resumed ends bit for bit where the uninterrupted one ends."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chargen import resume, train
from chargen.lm.config import MAX_BUDGET
from chargen.training.reporting import Reporter
from tests.processes import Process, start

from .conftest import SMALL, Command

OPTIONS = (
    *("--steps", "120", "--checkpoint-every", "4", "--eval-every", "30", "--dropout", "0.2"),
    *("--ema", "0.9", "--window-jitter", "--weight-dropout", "0.1", "--num-layers", "2"),
    *("--ensemble", "2"),
    *SMALL,
)


def saved_step(directory: Path) -> int:
    try:
        state = json.loads((directory / "training" / "state.json").read_text())
        return int(state["progress"]["step"])
    except (OSError, ValueError):
        return 0


def wait_for_step(directory: Path, step: int, process: Process) -> None:
    deadline = time.monotonic() + 60
    while saved_step(directory) < step and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def tensors(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*.safetensors"))
    }


@pytest.fixture(scope="module")
def uninterrupted(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    process = start("train", corpus, "--out", out, *OPTIONS)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    return out


def test_sigkill_at_random_moments(corpus: Path, uninterrupted: Path, tmp_path: Path) -> None:
    chance = random.Random(7)
    out = tmp_path / "run"
    arguments: tuple[object, ...] = ("train", corpus, "--out", out, *OPTIONS)
    kills = 0
    for step in sorted(chance.sample(range(4, 110), 3)):
        process = start(*arguments)
        wait_for_step(out, step, process)
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        arguments = ("train", "--resume", out)
    process = start(*arguments)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    assert kills == 3
    assert tensors(out) == tensors(uninterrupted)
    leftovers = [path.name for path in tmp_path.iterdir() if path != out]
    assert leftovers == []
    rows = (out / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(row)["step"] for row in rows if "loss" in json.loads(row)]
    assert steps == list(range(10, 121, 10))  # no row lost, none doubled


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_finish_the_step_and_save(
    corpus: Path, uninterrupted: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    process = start("train", corpus, "--out", out, *OPTIONS)
    wait_for_step(out, 12, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"chargen train --resume {out}" in err.decode()
    process = start("train", "--resume", out)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert tensors(out) == tensors(uninterrupted)


def test_a_finished_run_has_nothing_left_to_do(chargen: Command, trained: Path) -> None:
    before = tensors(trained)
    result = chargen("train", "--resume", trained)
    assert result.code == 0
    assert "nothing is left" in result.err
    assert tensors(trained) == before


@pytest.mark.parametrize(
    "budget", [{"minutes": MAX_BUDGET / 2}, {"epochs": MAX_BUDGET / 2}, {"steps": MAX_BUDGET - 1}]
)
def test_the_largest_budgets_go_on(budget: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    class Stop(Reporter):
        def step(self, progress: float, metrics: Mapping[str, Any]) -> None:
            signal.raise_signal(signal.SIGINT)

    sizes: dict[str, Any] = {"hidden_size": 4, "batch_size": 4, "window": 8}
    run = train(corpus, tmp_path / "run", reporter=Stop(), precision="float32", **sizes, **budget)
    assert (run.steps, run.finished) == (1, False)
    assert resume(run.directory, reporter=Stop()).steps == 2


def test_resume_takes_no_other_option(chargen: Command, trained: Path) -> None:
    result = chargen("train", "--resume", trained, "--seed", 5)
    assert result.code == 2
    assert "leave --seed out" in result.err


def test_a_finished_run_goes_on_with_a_longer_budget(
    chargen: Command, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert chargen("train", corpus, "--out", out, "--steps", 10, *SMALL).code == 0
    result = chargen("train", "--resume", out, "--steps", 20, "--json")
    assert result.code == 0
    assert "continuing from step 10" in result.err
    assert json.loads(result.out)["steps"] == 20
    config = json.loads((out / "config.json").read_text())
    assert config["train"]["steps"] == 20
    assert config["results"]["steps"] == 20
    rows = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
    rates = {row["step"]: row["learning_rate"] for row in rows if "loss" in row}
    assert rates[10] < rates[20] * 1e3  # both schedules end
    again = chargen("train", "--resume", out, "--epochs", 0.01)
    assert again.code == 0
    assert "nothing is left" in again.err
    both = chargen("train", "--resume", out, "--steps", 30, "--minutes", 1)
    assert both.code == 2
    assert "--minutes and --steps exclude each other" in both.err


CONSTANT = (
    *("--schedule", "constant-cooldown", "--warmup-steps", "4", "--eval-every", "10"),
    *("--checkpoint-every", "4", "--no-samples", *SMALL),
)


def rates(directory: Path) -> dict[int, float]:
    rows = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["learning_rate"] for row in rows if "loss" in row}


def test_a_constant_rate_can_be_lengthened_bit_for_bit(
    chargen: Command, corpus: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert chargen("train", corpus, "--out", whole, "--steps", 120, *CONSTANT).code == 0
    process = start("train", corpus, "--out", out, "--steps", 60, *CONSTANT)
    wait_for_step(out, 12, process)
    process.kill()
    process.communicate()
    assert saved_step(out) < 48  # the cool-down has not begun
    result = chargen("train", "--resume", out, "--steps", 120)
    assert result.code == 0
    assert "rises again" not in result.err
    assert tensors(out) == tensors(whole)


def test_a_rate_that_rises_again_is_told(chargen: Command, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert chargen("train", corpus, "--out", out, "--steps", 10, *CONSTANT).code == 0
    result = chargen("train", "--resume", out, "--steps", 20)
    assert "the learning rate rises again, from 0% to 100%" in result.err


@pytest.mark.parametrize("schedule", ["cosine", "constant-cooldown"])
def test_a_copy_cools_down_and_the_run_stays(
    chargen: Command, corpus: Path, tmp_path: Path, schedule: str
) -> None:
    out, copy = tmp_path / "run", tmp_path / "copy"
    process = start(
        "train", corpus, "--out", out, "--steps", 100_000, *CONSTANT, "--schedule", schedule
    )
    wait_for_step(out, 24, process)
    process.kill()
    process.communicate()
    before, step = tensors(out), saved_step(out)
    result = chargen("train", "--resume", out, "--cool-down", 0.03, "--out", copy, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["steps"] > step
    assert tensors(out) == before
    assert saved_step(out) == step
    config = json.loads((copy / "config.json").read_text())
    assert config["train"]["schedule"] == "constant-cooldown"
    assert config["results"]["finished"]
    own = [rate for at, rate in rates(copy).items() if at > step]
    assert own == sorted(own, reverse=True)
    highest = rates(out)[max(rates(out))]
    assert highest * 1.01 > own[0]  # how far it has fallen by then, only a clock knows
    assert own[-1] < highest

    again = chargen("train", "--resume", copy, "--cool-down", 1, "--out", tmp_path / "third")
    assert again.code == 2
    assert "is already zero" in again.err
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--cool-down", 1], "--out"),
        (["--cool-down", 0, "--out", "copy"], "above 0"),
        (["--cool-down", "nan", "--out", "copy"], "--cool-down must be a number, got nan"),
        (["--cool-down", 1, "--out", "copy", "--steps", 9], "leave other budgets out"),
        (["--out", "copy"], "leave --out out"),
    ],
)
def test_a_cool_down_that_cannot_be(
    chargen: Command, trained: Path, tmp_path: Path, options: list[object], told: str
) -> None:
    given = [tmp_path / "copy" if option == "copy" else option for option in options]
    before = tensors(trained)
    result = chargen("train", "--resume", trained, *given)
    assert result.code == 2
    assert told in result.err
    assert tensors(trained) == before
    assert not (tmp_path / "copy").exists()


def test_a_copy_replaces_no_checkpoint(chargen: Command, trained: Path, tmp_path: Path) -> None:
    for copy in (trained, tmp_path / "copy"):
        if copy != trained:
            shutil.copytree(trained, copy)
        result = chargen("train", "--resume", trained, "--cool-down", 1, "--out", copy)
        assert result.code == 2
        assert result.err == f"chargen: {copy} exists: choose another --out\n"


def test_a_cool_down_is_of_a_run_that_has_begun(chargen: Command, corpus: Path) -> None:
    result = chargen("train", corpus, "--cool-down", 1)
    assert result.code == 2
    assert "--resume" in result.err


def test_a_run_that_patience_ended_goes_on_with_a_longer_budget(
    chargen: Command, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    options = ("--patience", 1, "--eval-every", 2, "--learning-rate", 1e-9, "--steps", 400)
    result = chargen("train", corpus, "--out", out, *options, "--json", *SMALL)
    ended = json.loads(result.out)["steps"]
    assert ended < 400
    assert "has finished: nothing is left to do" in chargen("train", "--resume", out).err
    result = chargen("train", "--resume", out, "--steps", 500, "--json")
    assert result.code == 0
    assert json.loads(result.out)["steps"] > ended


@pytest.mark.parametrize("command", [("train",), ("sentiment", "train")])
def test_a_run_that_could_not_be_saved_is_refused_at_once(
    chargen: Command, corpus: Path, tmp_path: Path, command: tuple[str, ...], monkeypatch: Any
) -> None:
    out = tmp_path / "run"
    assert chargen("train", corpus, "--out", out, "--steps", 4, *SMALL).code == 0
    budget: tuple[object, ...] = ("--steps", 8)
    if command != ("train",):
        table = tmp_path / "table.csv"
        rows = (f"good {c},yes\nbad {c},no\n" for c in "abcdefghij")
        table.write_text("text,label\n" + "".join(rows))
        options = ("--method", "finetune", "--epochs", 1, "--encoder", out, "--out", tmp_path / "c")
        assert chargen(*command, table, *options, "--precision", "float32").code == 0
        out, budget = tmp_path / "c", ("--epochs", 2)
    before = tensors(out)
    monkeypatch.chdir(out)
    result = chargen(*command, "--resume", ".", *budget)
    assert result.code == 1
    assert "the working directory is in it" in result.err
    assert tensors(out) == before


def test_resume_needs_a_checkpoint(chargen: Command, tmp_path: Path) -> None:
    result = chargen("train", "--resume", tmp_path / "nothing")
    assert result.code == 1
    assert "nothing" in result.err
