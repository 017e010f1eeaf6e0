"""Nothing that a stranger wrote drives the terminal."""

from __future__ import annotations

import itertools
import sys
import time
import unicodedata
from pathlib import Path

import pytest

from chargen.cli.progress import TerminalReporter
from chargen.storage import checkpoint
from tests.sentiment.models import save_classifier, tiny_classifier

from .conftest import Command, Result

ODD = "\x1b[2J\x07\u202e\x9b\u2028"


def drives(result: Result) -> list[str]:
    """What in the output would drive a terminal."""
    return [
        c
        for c in result.out + result.err
        if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]


def test_the_configuration_of_a_model(chargen: Command, trained: Path, tmp_path: Path) -> None:
    stored = checkpoint.load(trained)
    stored.documents["config"] |= {f"key{ODD}": f"value{ODD}", "group": {f"inner{ODD}": ODD}}
    checkpoint.save(tmp_path / "strange", stored)
    result = chargen("info", tmp_path / "strange")
    assert result.code == 0
    assert r"key\x1b[2J" in result.out
    assert not drives(result)


def test_labels(chargen: Command, tmp_path: Path) -> None:
    classifier = save_classifier(tiny_classifier((f"bad{ODD}", f"good{ODD}")), tmp_path / "c")
    result = chargen("sentiment", "predict", classifier, "a fine day")
    assert result.code == 0
    assert r"\x1b[2J" in result.out
    assert not drives(result)
    explained = chargen("sentiment", "explain", classifier, "a fine day")
    assert not drives(explained)


def test_messages(chargen: Command, tmp_path: Path) -> None:
    result = chargen("sample", tmp_path / f"no{ODD}")
    assert result.code == 1
    assert r"no\x1b[2J" in result.err
    assert not drives(result)


def test_the_folders_of_runs(chargen: Command, corpus: Path, tmp_path: Path) -> None:
    small = ("--hidden-size", 8, "--batch-size", 2, "--steps", 1)
    out = tmp_path / f"lm{ODD}"
    labelled = tmp_path / "labelled.csv"
    rows = (f"{text},{label}\n" for text, label in (("fine", "a"), ("dull", "b")) for _ in range(9))
    labelled.write_text("text,label\n" + "".join(rows))
    probe = ("--encoder", out, "--method", "probe", "--no-ngrams", "--out", tmp_path / f"c{ODD}")
    for arguments in (
        ("train", corpus, "--out", out, *small),
        ("sentiment", "train", labelled, *probe),
    ):
        result = chargen(*arguments)
        assert result.code == 0, result.err
        assert r"\x1b[2J" in result.out
        assert not drives(result)


def test_a_stage_ends_its_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    clock = itertools.chain([0, 3], itertools.repeat(4))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    reporter = TerminalReporter()
    reporter.stage("reading", 1, 2)
    reporter.stage("reading", 2, 2)
    reporter.note("read")
    assert capsys.readouterr().err.replace("\r", "\n").split("\n")[1:3] == [
        "reading: 50%  ",
        "reading: 100%  ",
    ]


def test_what_training_shows(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = TerminalReporter()
    reporter.note(f"a note{ODD}")
    reporter.evaluated({"step": 1}, f"a sample{ODD}")
    said = capsys.readouterr()
    assert r"a note\x1b[2J" in said.err
    assert not drives(Result(0, said.out, said.err))
