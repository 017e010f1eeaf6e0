"""The scripts of the chapter on recurrent networks, run as a reader runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHAPTER = Path(__file__).parents[2] / "examples" / "rnn_chapter"


@pytest.mark.parametrize(("steps", "seed"), [(1, 0), (12, 0), (40, 3)])
def test_three_computations_of_one_network_agree(steps: int, seed: int) -> None:
    command = [sys.executable, str(CHAPTER / "unrolled_rnn.py")]
    command += ["--steps", str(steps), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    differences = [float(found) for found in re.findall(r"  (\d\.\de[+-]\d\d)$", done.stdout, re.M)]
    assert len(differences) == 5  # torch, chargen; W, U, b
    assert max(differences) < 1e-6


def test_gradients_vanish_with_small_recurrent_weights() -> None:
    command = [sys.executable, str(CHAPTER / "gradients.py"), "--steps", "20", "--trials", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert len(rows) == 9  # three cells, three scales
    assert all(abs(float(row[2]) - 1) < 0.01 for row in rows)  # at distance 0 it is g itself
    small = {row[0]: float(row[6]) for row in rows if row[1] == "0.5"}
    assert small["rnn"] < 1e-3
    assert all(float(row[8]) <= 1.0 for row in rows)
