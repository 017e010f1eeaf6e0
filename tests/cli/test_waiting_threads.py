"""Threads that wait give the processor back soon, unless the user has said how they wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Command

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("given", "count"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, None)],
    ids=["by default", "a count", "a policy"],
)
def test_what_the_user_said_stays(
    chargen: Command, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], count: str | None
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, given.get(name, ""))  # which is put back, whoever changes it
        if name not in given:
            monkeypatch.delenv(name)
    assert chargen("--version").code == 0
    assert os.environ.get("GOMP_SPINCOUNT") == count
    assert os.environ.get("OMP_WAIT_POLICY") == given.get("OMP_WAIT_POLICY")


def test_it_is_said_before_the_threads_are_made(trained: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-m", "chargen", "sample", str(trained), "--length", "1"],
        env=kept | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch is built with another OpenMP than GNU's")
    assert "GOMP_SPINCOUNT = '2000'" in done.stderr
