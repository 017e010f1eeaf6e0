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
