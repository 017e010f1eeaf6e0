from __future__ import annotations

import contextlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import start
from tests.sentiment.making import separable, write_csv
from tests.sentiment.models import save_classifier
from tests.sentiment.models import tiny_classifier as make_classifier

from .conftest import Command

TEXT = "the film was quiet, and then it was not"
PAINT = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def mood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained classifier of the labels neg and pos."""
    return save_classifier(make_classifier(), tmp_path_factory.mktemp("classifier") / "mood")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(
        tmp_path_factory.mktemp("labelled") / "texts.csv", separable(40, ("neg", "pos"))
    )


def test_a_pipe_gets_the_verdict_and_the_strongest_words(chargen: Command, mood: Path) -> None:
    result = chargen("sentiment", "explain", mood, TEXT)
    assert result.code == 0
    assert result.err == ""
    verdict, heads, *rows = result.out.splitlines()
    assert re.fullmatch(r"(neg|pos)  \(neg 0\.\d{3}, pos 0\.\d{3}\)", verdict)
    assert heads.split()[:3] == ["move", "left", "out"]
    assert 5 < len(rows) <= 12
    for row in rows:
        assert re.fullmatch(r" *[+-]\d+\.\d\d +[+-]\d+\.\d\d  \S+", row)
    words = [row.split()[-1] for row in rows]
    assert words == [word for word in TEXT.split() if word in words][: len(words)]


def test_json_is_one_object_that_adds_up(chargen: Command, mood: Path) -> None:
    found = json.loads(chargen("sentiment", "explain", mood, TEXT, "--json", "--label", "neg").out)
    assert found["text"] == TEXT
    assert found["about"] == "neg"
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert len(found["curve"]) == len(TEXT) + 1
    assert found["curve"][-1] == pytest.approx(found["probabilities"]["neg"], abs=1e-5)
    assert sum(found["moves"]) == pytest.approx(sum(w["move"] for w in found["words"]), abs=1e-3)
    assert "left_out" in found["words"][0]
    plain = chargen("sentiment", "explain", mood, TEXT, "--json", "--no-leave-out")
    assert "left_out" not in json.loads(plain.out)["words"][0]
    predicted = json.loads(chargen("sentiment", "predict", mood, TEXT, "--json").out)
    assert predicted["label"] == found["label"]


def test_text_comes_from_stdin_too(chargen_process: Command, mood: Path) -> None:
    piped = chargen_process("sentiment", "explain", mood, "-", "--json", stdin="caf é\n")
    assert json.loads(piped.out)["text"] == "caf é"
    assert "é" in piped.err
    broken = chargen_process("sentiment", "explain", mood, "-", stdin=b"caf\xe9")
    assert broken.code == 1
    assert "standard input" in broken.err
    assert len(broken.err.splitlines()) == 1


def test_unknown_characters_are_told_as_by_predict(chargen: Command, mood: Path) -> None:
    for text in ("film 猫 and 犬", "".join(map(chr, range(0x4E00, 0x4E20)))):
        told = {chargen("sentiment", name, mood, text).err for name in ("explain", "predict")}
        assert len(told) == 1


@pytest.mark.parametrize("options", [("--encoding", "latin-1"), ("--errors", "replace")])
def test_stdin_is_decoded_as_asked(chargen: Command, mood: Path, options: tuple[str, str]) -> None:
    result = chargen("sentiment", "explain", mood, "-", "--json", *options, stdin=b"caf\xe9 \x93a")
    wanted = "café \x93a" if "latin-1" in options else "caf\ufffd \ufffda"
    assert json.loads(result.out)["text"] == wanted
    assert ("probably cp1252" in result.err) is ("latin-1" in options)


def test_colours_paint_and_change_nothing(chargen: Command, mood: Path) -> None:
    nasty = TEXT + "\x1b[2J\u202e end"
    painted = chargen("sentiment", "explain", mood, nasty, "--color").out
    assert "\x1b[2J" not in painted
    assert "\u202e" not in painted
    plain = PAINT.sub("", painted)
    assert "\x1b" not in plain
    assert "\\x1b[2J\\u202e" in plain.replace("\n", "")
    assert "if the text ended there" in plain
    assert not PAINT.search(chargen("sentiment", "explain", mood, nasty).out)


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_a_terminal_is_painted_unless_it_asks_not_to(
    mood: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    monkeypatch.delenv("NO_COLOR", raising=False)
    master, slave = pty.openpty()

    def read() -> bytes:
        data = b""
        with contextlib.suppress(OSError):  # how Linux tells that nobody writes any more
            while piece := os.read(master, 4096):
                data += piece
        return data

    with ThreadPoolExecutor(1) as threads:
        written = threads.submit(read)
        process = start("sentiment", "explain", mood, TEXT, stdout=slave, **variables)
        process.communicate(timeout=120)
        os.close(slave)
        assert bool(PAINT.search(written.result().decode())) is not bool(variables)
    os.close(master)
    assert process.returncode == 0


def test_files_are_written_and_not_replaced(chargen: Command, mood: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    page, picture = tmp_path / "page.html", tmp_path / "picture.png"
    command = ("sentiment", "explain", mood, TEXT, "--html", page, "--png", picture)
    assert chargen(*command).code == 0
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert picture.read_bytes().startswith(b"\x89PNG")
    page.write_text("mine")
    refused = chargen(*command)
    assert refused.code == 2
    assert "page.html exists" in refused.err
    assert page.read_text() == "mine"
    assert chargen(*command, "--force").code == 0
    assert page.read_text(encoding="utf-8") != "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "picture.png"]


def test_the_telling_unit(chargen: Command, mood: Path, labelled: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    histogram = tmp_path / "unit.png"
    page = tmp_path / "unit.html"
    result = chargen(
        *("sentiment", "explain", mood, TEXT, "--unit", labelled, "--histogram", histogram),
        *("--html", page, "--json"),
    )
    assert result.code == 0, result.err
    unit = json.loads(result.out)["unit"]
    assert 0 <= unit["index"] < 8
    assert unit["label"] == "pos"
    assert unit["texts"] == 40
    assert len(unit["trace"]) == len(TEXT) + 1
    assert histogram.read_bytes().startswith(b"\x89PNG")
    shown = f"balanced accuracy of {unit['accuracy']:.1%}"
    assert shown in page.read_text(encoding="utf-8")
    plain = chargen("sentiment", "explain", mood, TEXT, "--unit", labelled).out
    assert "most telling unit" in plain
    assert shown in plain


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x", "--label", "nice"], "'nice'"),
        ([""], "TEXT is empty"),
        ([" \n"], "TEXT is empty"),
        (["x", "--histogram", "unit.png"], "--unit DATA"),
        (["x", "--text-column", "body"], "--text-column is for labelled texts: give them with"),
        (["x", "--label-map", "0=neg"], "--label-map is for labelled texts: give them with"),
        (["x", "--html", "."], "folder"),
        (["x", "--html", "nowhere/page.html"], "no folder"),
        (["x", "--html", "same", "--png", "same"], "a file each"),
        (["y" * 30_000], "30,000 characters"),
        ([__file__], "is a file, not a text: give its contents, or - for stdin"),
        (["revews.csv"], "looks like the name of a file, but there is no such file"),
    ],
)
def test_impossible_wishes(chargen: Command, mood: Path, arguments: list[str], words: str) -> None:
    result = chargen("sentiment", "explain", mood, *arguments)
    assert result.code == 2
    assert words in result.err
    assert result.out == ""


def test_other_checkpoints_and_data_are_named(
    chargen: Command, mood: Path, trained: Path, tmp_path: Path
) -> None:
    result = chargen("sentiment", "explain", trained, "x")
    assert result.code == 1
    assert "language-model" in result.err
    other = write_csv(tmp_path / "other.csv", separable(10, ("bad", "good")))
    result = chargen("sentiment", "explain", mood, "x", "--unit", other)
    assert result.code == 1
    assert "'bad'" in result.err
    assert "'neg', 'pos'" in result.err
