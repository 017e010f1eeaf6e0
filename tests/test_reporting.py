"""A log is JSON and bounded."""

from __future__ import annotations

import json
import math

import pytest

from chargen.training import reporting
from chargen.training.reporting import Log


def steps(log: Log) -> list[int]:
    return [json.loads(line)["step"] for line in log.lines]


def fill(log: Log, first: int, last: int) -> None:
    for step in range(first, last):
        log.add({"step": step, "valid_nats" if step % 10 == 9 else "loss": 1.0})


def test_no_number_is_null() -> None:
    log = Log()
    log.add({"step": 1, "loss": math.nan, "norm": math.inf})
    assert json.loads(log.lines[0]) == {"step": 1, "loss": None, "norm": None}


def test_a_long_run_is_told_in_larger_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "MAX_ROWS", 100)
    log = Log()
    fill(log, 0, 100)
    assert steps(log) == list(range(100))
    fill(log, 100, 101)
    evaluations = list(range(9, 100, 10))
    assert [s for s in steps(log) if s in evaluations] == evaluations
    assert len(log.lines) == 10 + 46
    fill(log, 101, 5000)
    assert 10 < len(log.lines) <= 100
    assert steps(log) == sorted(steps(log))
    assert steps(log)[0] == 0
    assert steps(log)[-1] == 4999


def test_an_interrupted_run_keeps_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "MAX_ROWS", 50)
    whole, part = Log(), Log()
    fill(whole, 0, 700)
    for first in range(0, 700, 70):
        part = Log(part.lines)
        fill(part, first, first + 70)
    assert part.lines == whole.lines
