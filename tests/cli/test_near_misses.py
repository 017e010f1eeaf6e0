"""Who mistypes a name is told the nearest one that there is, in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chargen.errors import did_you_mean, nearest_name

from .conftest import Command


def test_the_nearest_name() -> None:
    assert nearest_name("trian", ["sample", "train"]) == "train"
    assert nearest_name("zebra", ["sample", "train"]) is None
    assert did_you_mean("trian", ["train"]) == "; did you mean train?"
    assert did_you_mean("zebra", ["train"]) == ""


@pytest.fixture
def _here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with checkpoints/mybook, a folder beside it that is none, and one elsewhere."""
    shutil.copytree(trained, tmp_path / "checkpoints" / "mybook")
    (tmp_path / "checkpoints" / "mybok2").mkdir()
    shutil.copytree(trained, tmp_path / "other" / "novel")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("checkpoints/mybok", "checkpoints/mybook"),
        ("mybook", "checkpoints/mybook"),
        ("chekpoints/mybook", "checkpoints/mybook"),
        ("other/novell", "other/novel"),
        ("checkpoints/review", "checkpoints/reviews"),
        ("reveiws", "reviews"),
    ],
)
@pytest.mark.parametrize("command", [("sample",), ("info",), ("plot", "--terminal")])
def test_checkpoints(chargen: Command, command: tuple[str, ...], typed: str, meant: str) -> None:
    result = chargen(*command, typed)
    assert result.code == 1
    assert result.out == ""
    kind = "run" if command[0] == "plot" else "checkpoint"
    assert result.err == f"chargen: there is no {kind} {typed}; did you mean {meant}?\n"


@pytest.mark.usefixtures("_here")
def test_resuming_and_classifiers(chargen: Command) -> None:
    assert "did you mean checkpoints/mybook?" in chargen("train", "--resume", "mybok").err
    found = chargen("sentiment", "predict", "sentimant", "fine").err
    assert found == "chargen: there is no checkpoint sentimant; did you mean sentiment?\n"


@pytest.mark.usefixtures("_here")
def test_nothing_near(chargen: Command) -> None:
    assert chargen("info", "zzz").err == "chargen: there is no checkpoint zzz\n"
    assert chargen("info", "no/such/folder").err.count("\n") == 1
