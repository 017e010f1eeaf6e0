"""The notebook runs from its first cell to its last, and its outputs are stored."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from .running import EXAMPLES, run

NOTEBOOK = EXAMPLES / "first_model.ipynb"


def code_cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_what_is_stored_was_run_in_order_and_is_small() -> None:
    cells = code_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert kinds == {"stream", "display_data"}
    assert NOTEBOOK.stat().st_size < 100_000


SMALLER = {
    "steps=400": "steps=20, eval_every=10, batch_size=8",
    "epochs=2": "epochs=1",
    "threads=1": 'threads=1, precision="float32"',
    "32_000": "8_000",
    "* 160": "* 40",
}


def test_its_cells_run_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="needs chargen[plot]")
    pytest.importorskip("sklearn", reason="needs chargen[sentiment]")
    program = "\n\n".join("".join(cell["source"]) for cell in code_cells())
    for shown, small in SMALLER.items():
        assert shown in program
        program = program.replace(shown, small)
    (tmp_path / "cells.py").write_text(program, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    matplotlib.use("Agg")
    printed = run(tmp_path / "cells.py").stdout
    matplotlib.pyplot.close("all")
    assert "bits per character after 20 steps" in printed
    assert "are told rightly, by 64 others" in printed


@pytest.mark.slow
def test_it_runs_as_a_notebook() -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient")
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
