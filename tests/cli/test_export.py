"""`chargen export`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from .conftest import Command


def test_export(chargen: Command, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra chargen[onnx]")
    pytest.importorskip("onnx", reason="needs the extra chargen[onnx]")
    out = tmp_path / "web"
    result = chargen("export", trained, "--out", out, "--json")
    assert result.code == 0
    assert json.loads(result.out)["largest_difference_nats"] < 1e-4
    assert {p.name for p in out.iterdir()} == {"step.onnx", "score.onnx", "model.json"}
    again = chargen("export", trained, "--out", out)
    assert again.code == 2
    assert "--force" in again.err
    forced = chargen("export", trained, "--out", out, "--force")
    assert (forced.code, forced.out.strip()) == (0, str(out))
    assert "onnxruntime gives the same" in forced.err


def test_the_extra_is_named(
    chargen: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "chargen.interchange.graph", raising=False)
    result = chargen("export", trained, "--out", tmp_path / "web")
    assert result.code == 1
    assert "pip install 'chargen[onnx]'" in result.err
    assert not (tmp_path / "web").exists()


def test_a_classifier_is_refused(chargen: Command, tmp_path: Path) -> None:
    result = chargen("export", "checkpoints/sentiment", "--out", tmp_path / "web")
    assert result.code == 1
    assert "classifier" in result.err


def test_a_page(chargen: Command, trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "fox.html"
    asked = ("export", trained, "--format", "html", "--output", page)
    result = chargen(*asked, "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert found == {"format": "html", "file": str(page), "bytes": page.stat().st_size}
    assert "<title>fox</title>" in page.read_text("utf-8")
    refused = chargen(*asked)
    assert (refused.code, refused.out) == (2, "")
    assert "--force" in refused.err
    assert chargen(*asked, "--force").code == 0
    folder = chargen(*asked[:-1], tmp_path)
    assert folder.err == f"chargen: --output {tmp_path} is a folder: name a file\n"
