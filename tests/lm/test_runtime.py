"""What depends on the machine, with stand-ins for machines that are not at hand."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from chargen.errors import ConfigError
from chargen.lm.config import TrainConfig
from chargen.runtime import precision
from chargen.runtime.device import choose_device, set_threads
from chargen.runtime.precision import (
    autocast,
    choose_precision,
    inference_precision,
    run_precision,
)
from chargen.runtime.seeds import seed_everything

CPU = torch.device("cpu")


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        for name in ("perf_counter", "thread_time"):
            monkeypatch.setattr(time, name, lambda: self.now)


def half() -> bool:
    """Whether products run in bfloat16 just now."""
    ones = torch.ones(2, 2)
    return (ones @ ones).dtype == torch.bfloat16


def broken_in_half() -> None:
    if half():
        raise RuntimeError("could not create a primitive descriptor\nand a second line")


def test_auto_falls_back_where_bfloat16_fails() -> None:
    choice = choose_precision("auto", CPU, broken_in_half)
    assert choice.name == "float32"
    assert "could not create a primitive descriptor" in choice.reason
    assert "\n" not in choice.reason
    assert choice.seconds_per_step > 0


def test_bfloat16_demanded_where_it_fails_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"--precision bfloat16 .*primitive descriptor$"):
        choose_precision("bfloat16", CPU, broken_in_half)


def test_float32_demanded_tries_nothing_else() -> None:
    assert choose_precision("float32", CPU, broken_in_half).name == "float32"


@pytest.mark.parametrize(
    ("seconds_in_half", "name"), [(0.5, "bfloat16"), (0.99, "float32"), (2.0, "float32")]
)
def test_auto_takes_bfloat16_where_it_pays(
    seconds_in_half: float, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)

    def trial() -> None:
        clock.now += seconds_in_half if half() else 1.0

    choice = choose_precision("auto", CPU, trial)
    assert choice.name == name
    assert choice.seconds_per_step == pytest.approx(
        min(1.0, seconds_in_half) if name != "float32" else 1.0
    )
    assert choose_precision("bfloat16", CPU, trial).name == "bfloat16"


def test_the_first_slow_call_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    calls: list[bool] = []

    def trial() -> None:
        clock.now += 0.4 if half() else 1.0
        if half() not in calls:
            clock.now += 100
        calls.append(half())

    assert choose_precision("auto", CPU, trial).seconds_per_step == pytest.approx(0.4)


def test_timing_leaves_the_generators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "TIMED_STEPS", 0)
    generator = torch.get_rng_state()
    inference_precision("auto", CPU)
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("name", ["half", "", "Float32", None])
def test_another_precision_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="--precision must be one of auto, float32, bfloat16;"):
        inference_precision(name, CPU)


@pytest.mark.parametrize("timed", [False, True])
def test_the_reason_for_float32(timed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "TIMED_STEPS", 0)
    for options, reason in (
        ({"precision": "float32"}, "as asked"),
        ({"precision": "float32", "deterministic": True}, "as asked"),
        ({"deterministic": True}, "for --deterministic"),
    ):
        choice = run_precision(TrainConfig(**options), CPU, timed=timed)
        assert (choice.name, choice.reason) == ("float32", reason)


def test_autocast_leaves_parameters_alone() -> None:
    layer = torch.nn.Linear(3, 3)
    with autocast(CPU, "bfloat16"):
        outputs = layer(torch.ones(2, 3))
    assert outputs.dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32
    with autocast(CPU, "float32"):
        assert layer(torch.ones(2, 3)).dtype == torch.float32


@pytest.mark.parametrize("name", ["nonsense", "cuda:999", "cpu:x", None, 0.5])
def test_devices_that_are_not_there(name: Any) -> None:
    with pytest.raises(ConfigError, match=f"--device {name}") as caught:
        choose_device(name)
    assert "\n" not in str(caught.value)


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device().type in ("cpu", "cuda")


def test_seeds_and_threads() -> None:
    seed_everything(7)
    first = torch.rand(3)
    seed_everything(7)
    assert torch.equal(torch.rand(3), first)
    assert not torch.are_deterministic_algorithms_enabled()
    threads = torch.get_num_threads()
    set_threads(None)
    assert torch.get_num_threads() == threads
    assert choose_device("cpu").type == "cpu"
