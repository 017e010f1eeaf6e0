"""`chargen plot`, and the pictures and logs of other commands."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from .conftest import SMALL, Command


def test_plot(chargen: Command, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra chargen[plot]")
    out = tmp_path / "curves.svg"
    result = chargen("plot", trained, "--out", out)
    assert (result.code, result.out) == (0, "")
    assert trained.name in out.read_text()
    again = chargen("plot", trained, "--out", out)
    assert again.code == 2
    assert "--force" in again.err
    assert chargen("plot", trained, "--out", out, "--force", "--quiet").err == ""
    assert chargen("plot", trained, "--out", tmp_path / "a.gif").code == 2
    missing = chargen("plot", tmp_path, "--out", tmp_path / "b.png")
    assert missing.code == 1
    assert "metrics.jsonl" in missing.err


def test_folders_of_one_name_are_told_apart(
    chargen: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("plotille", reason="needs the extra chargen[plot]")
    for folder in ("first", "second"):
        shutil.copytree(trained, tmp_path / folder / trained.name)
    monkeypatch.chdir(tmp_path)
    runs = [f"first/{trained.name}", f"second/{trained.name}"]
    drawn = chargen("plot", *runs, "--terminal").out
    assert all(f"{run} (lines" in drawn for run in runs)
    assert f"\n{trained.name} (lines" in chargen("plot", trained, "--terminal").out


@pytest.mark.parametrize("option", ["--out", "--title"])
def test_the_terminal_is_no_picture(
    chargen: Command, trained: Path, tmp_path: Path, option: str
) -> None:
    result = chargen("plot", trained, "--terminal", option, tmp_path / "curves.svg")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"chargen: --terminal writes no picture: leave {option} out\n"


def test_the_extra_is_named(
    chargen: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotille", None)
    result = chargen("plot", trained, "--terminal")
    assert result.code == 1
    assert "pip install 'chargen[plot]'" in result.err


def test_the_painted_text(chargen: Command, trained: Path, corpus: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = chargen("score", trained, corpus, "--html", page)
    assert result.code == 0
    assert "bits per character" in result.out
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert chargen("score", trained, corpus, "--html", page).code == 2


def test_tensorboard(
    chargen: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra chargen[tensorboard]")
    logs = tmp_path / "logs"
    arguments = ("--steps", 20, "--out", tmp_path / "fox", "--quiet", *SMALL)
    assert chargen("train", corpus, "--tensorboard", logs, *arguments).code == 0
    assert len(list((logs / "fox").iterdir())) == 1
    more = chargen("train", "--resume", tmp_path / "fox", "--steps", 40, "--tensorboard", logs)
    assert more.code == 0, more.err
    assert len(list((logs / "fox").iterdir())) == 2
    for folder in (tmp_path, tmp_path / "fox", tmp_path / "fox" / "logs"):
        refused = chargen("train", corpus, "--tensorboard", folder, "--force", *arguments)
        assert refused.code == 2
        assert "which is replaced at each checkpoint: choose another folder" in refused.err
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    refused = chargen("train", corpus, "--tensorboard", logs, "--force", *arguments)
    assert refused.code == 1
    assert "pip install 'chargen[tensorboard]'" in refused.err


def test_a_copy_that_cools_down_is_a_run_of_its_own_to_tensorboard(
    chargen: Command, corpus: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra chargen[tensorboard]")
    logs, out, copy = tmp_path / "logs", tmp_path / "fox", tmp_path / "cooled"
    ended = ("--patience", 1, "--eval-every", 2, "--learning-rate", 1e-9, "--steps", 400)
    assert chargen("train", corpus, "--out", out, *ended, *SMALL).code == 0
    arguments = ("--cool-down", 0.001, "--out", copy, "--tensorboard", logs)
    assert chargen("train", "--resume", out, *arguments).code == 0
    assert [path.name for path in logs.iterdir()] == ["cooled"]
