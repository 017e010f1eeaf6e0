"""Threads that wait give the processor back soon, unless the user has said how they wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("given", "count"),
    [({}, "20000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
    ids=["by default", "a count", "a policy"],
)
def test_how_long_they_spin(trained: Path, given: dict[str, str], count: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-m", "chargen", "sample", str(trained), "--length", "1"],
        env=kept | {"OMP_DISPLAY_ENV": "verbose"} | given,
        capture_output=True,
        text=True,
        check=True,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch is built with another OpenMP than GNU's")
    assert f"GOMP_SPINCOUNT = '{count}'" in done.stderr
