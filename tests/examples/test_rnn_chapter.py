"""The scripts of the chapter on recurrent networks, run as a reader runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .running import EXAMPLES, run

UNROLLED = "rnn_chapter/unrolled_rnn.py"
GRADIENTS = "rnn_chapter/gradients.py"
CELLS = "rnn_chapter/cells.py"
PACKING = "rnn_chapter/padding_packing.py"
TRUNCATED = "rnn_chapter/truncated_bptt.py"


@pytest.mark.parametrize(("steps", "seed"), [(1, 0), (12, 0), (40, 3)])
def test_three_computations_of_one_network_agree(steps: int, seed: int) -> None:
    done = run(UNROLLED, "--steps", str(steps), "--seed", str(seed))
    differences = [float(found) for found in re.findall(r"  (\d\.\de[+-]\d\d)$", done.stdout, re.M)]
    assert len(differences) == 5  # torch, chargen; W, U, b
    assert max(differences) < 1e-6


def test_gradients_vanish_with_small_recurrent_weights(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra chargen[plot]")
    picture = tmp_path / "norms.svg"
    done = run(GRADIENTS, "--steps", "20", "--trials", "2", "--plot", str(picture))
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert len(rows) == 9  # three cells, three scales
    assert all(abs(float(row[2]) - 1) < 0.01 for row in rows)  # at distance 0 it is g itself
    small = {row[0]: float(row[6]) for row in rows if row[1] == "0.5"}
    assert small["rnn"] < 1e-3
    assert all(float(row[8]) <= 1.0 for row in rows)
    drawn = picture.read_text("utf-8")
    assert all(name in drawn for name in ("RNN", "LSTM", "GRU", "scale 0.5", "scale 2"))


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        (GRADIENTS, ["--steps", "1"], "must be a whole number of at least 2, got 1"),
        (GRADIENTS, ["--clip", "nan"], "must be a number above 0, got nan"),
        (GRADIENTS, ["--plot", "norms.gif"], "name a .png, .svg or .pdf file"),
        (CELLS, ["essays", "--steps", "1"], "must be a whole number of at least 2, got 1"),
        (UNROLLED, ["--hidden", "x"], "must be a whole number of at least 1, got x"),
    ],
)
def test_mistakes_end_in_a_sentence(script: str, arguments: list[str], sentence: str) -> None:
    assert run(script, *arguments, code=2).stderr.rstrip().endswith(sentence)


@pytest.mark.parametrize("script", [CELLS, PACKING, TRUNCATED])
def test_texts_that_are_not_there_are_named(script: str) -> None:
    said = run(script, "no-such-file", code=1).stderr
    assert said == f"{Path(script).name}: no-such-file does not exist\n"


def test_a_picture_without_matplotlib_is_refused_in_a_sentence(tmp_path: Path) -> None:
    hidden = f"import sys, runpy; sys.modules['matplotlib'] = None; sys.argv[1:2] = []; \
        runpy.run_path({str(EXAMPLES / GRADIENTS)!r}, run_name='__main__')"
    picture = tmp_path / "norms.png"
    done = subprocess.run(
        [sys.executable, "-c", hidden, "gradients.py", "--plot", str(picture)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.endswith("--plot needs the extra: pip install 'chargen[plot]'\n")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1


def test_a_reader_who_has_enough_is_no_error() -> None:
    command = [sys.executable, "-u", str(EXAMPLES / GRADIENTS), "--steps", "2", "--trials", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_cells_are_compared_at_equal_size() -> None:
    budget = ("--steps", "12", "--hidden", "16", "--learning-rates", "0.001", "0.03")
    rows = [line.split() for line in run(CELLS, "essays", *budget).stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == ["lstm", "gru", "rnn"]
    sizes = [int(row[2].replace(",", "")) for row in rows]
    assert max(sizes) < 1.03 * min(sizes)
    assert all(1 < float(row[3]) < 6 for row in rows)  # six bits: all characters alike
    assert {row[4] for row in rows} == {"0.03"}  # twelve steps at 0.001 learn next to nothing
    assert rows[0][5] == "1.00"
    assert all(float(row[5]) > 0 for row in rows)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_padding_sorting_and_packing_agree_and_a_missing_mask_does_not(cell: str) -> None:
    budget = ("--limit", "40", "--hidden", "8", "--repeats", "1", "--cell", cell)
    ways, masks = run(PACKING, "opinions", *budget).stdout.split("\n\n")
    rows = [re.split(r"\s\s+", line) for line in ways.splitlines()[1:]]
    waste = [float(row[1].rstrip("%")) for row in rows]
    assert waste[0] > waste[1] > waste[2] == 0
    assert all(float(row[column]) < 1e-5 for row in rows for column in (2, 3))
    assert rows[0][4] == "1.00"
    changes = [re.split(r"\s\s+", line) for line in masks.splitlines()[1:]]
    assert all(float(row[1]) < 1e-5 and row[2] == "0.0%" for row in changes[:2])
    assert all(float(row[1]) > 0.01 for row in changes[2:])


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_truncated_gradients_come_near_the_full_one(cell: str) -> None:
    budget = ("--steps", "30", "--hidden", "16", "--length", "24", "--cell", cell)
    gradients, texts = run(TRUNCATED, "essays", *budget).stdout.split("\n\n")
    rows = [line.split() for line in gradients.splitlines()[2:]]
    assert [row[0] for row in rows] == ["T=1", "T=2", "T=4", "T=8", "T=16", "T=24"]
    for column in (1, 3):  # before and after training
        cosines = [float(row[column]) for row in rows]
        assert 0 < cosines[0] < cosines[2] < cosines[-1] == 1
        assert float(rows[-1][column + 1]) == 1
    bits = [[float(value) for value in line.split()[1:]] for line in texts.splitlines()[2:]]
    assert {carried for carried, _ in bits} == {bits[0][0]}  # however it is cut, it is one text
    assert all(zero > carried for carried, zero in bits[:3])
