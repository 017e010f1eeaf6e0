"""The notebook runs from its first cell to its last, and its outputs are stored."""

from __future__ import annotations

import json
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from .running import EXAMPLES, run

HAVE_JUPYTER = all(map(find_spec, ("nbclient", "nbformat", "ipykernel")))
NOTEBOOK = EXAMPLES / "first_model.ipynb"


def code_cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


SMALLER = {
    "steps=400": "steps=20, eval_every=10, batch_size=8",
    "epochs=2": "epochs=1",
    "threads=1": 'threads=1, precision="float32"',
    "32_000": "8_000",
    "* 160": "* 40",
}


def small(source: str) -> str:
    """The same in less time."""
    for shown, smaller in SMALLER.items():
        source = source.replace(shown, smaller)
    return source


def test_what_is_stored_was_run_in_order_and_is_small() -> None:
    cells = code_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert kinds == {"stream", "display_data"}
    assert NOTEBOOK.stat().st_size < 100_000


@pytest.mark.skipif(HAVE_JUPYTER, reason="runs as a notebook below")
def test_its_cells_run_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="needs chargen[plot]")
    pytest.importorskip("sklearn", reason="needs chargen[sentiment]")
    whole = "\n\n".join("".join(cell["source"]) for cell in code_cells())
    assert all(shown in whole for shown in SMALLER)
    program = small(whole)
    (tmp_path / "cells.py").write_text(program, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    matplotlib.use("Agg")
    printed = run(tmp_path / "cells.py").stdout
    matplotlib.pyplot.close("all")
    assert "bits per character after 20 steps" in printed
    assert "are told rightly" in printed


@pytest.mark.skipif(not HAVE_JUPYTER, reason="needs nbclient and ipykernel")
def test_it_runs_as_a_notebook(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        cell.source = small(cell.source)
    place = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place)
    client.execute()  # raises what a cell raises
    told = [one.get("text", "") for cell in notebook.cells for one in cell.get("outputs", ())]
    assert any("are told rightly" in text for text in told)
