from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest

from chargen import LanguageModel
from chargen.sampling.steering import fit_steering, store_steering
from tests.sentiment.making import CHARS, make_lm, save_lm, separable, write_csv
from tests.sentiment.models import save_classifier
from tests.sentiment.models import tiny_classifier as make_classifier

from .conftest import SMALL, Command

WRITING = ("--length", 60, "--temperature", 1, "--seed", 4)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lm(tmp_path_factory.mktemp("models") / "lm")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "moods.csv", separable(40))


def test_labelled_texts_steer(chargen: Command, lm: Path, data: Path) -> None:
    free = chargen("sample", lm, *WRITING)
    steered = chargen("sample", lm, *WRITING, "--steer", "good", "--steer-data", data)
    assert steered.code == 0
    assert steered.out != free.out
    assert "40 texts of" in steered.err
    again = chargen("sample", lm, *WRITING, "--steer", "good", "--steer-data", data)
    assert again.out == steered.out
    none = ("--steer", "good", "--steer-data", data, "--strength", 0)
    assert chargen("sample", lm, *WRITING, *none).out == free.out
    further = ("--steer", "bad", "--steer-data", data, "--strength", -3, "--json")
    rows = chargen("sample", lm, *WRITING, *further, "--num-samples", 2).out.splitlines()
    assert [json.loads(row)["seed"] for row in rows] == [4, 5]


def test_a_stored_steering_needs_no_data(chargen: Command, data: Path, tmp_path: Path) -> None:
    directory = save_lm(tmp_path / "lm")
    refused = chargen("sample", directory, "--steer", "good")
    assert refused.code == 2
    assert "--steer-data" in refused.err
    assert "--steer-with" in refused.err
    moods = separable(40)
    lm = LanguageModel(make_lm(), CHARS)
    store_steering(directory, fit_steering(lm, moods.texts, moods.labels, moods.source))
    stored = chargen("sample", directory, *WRITING, "--steer", "good")
    fitted = chargen("sample", directory, *WRITING, "--steer", "good", "--steer-data", data)
    assert stored.code == 0
    assert stored.out == fitted.out
    assert chargen("info", directory).code == 0


def test_a_classifier_steers(chargen: Command, lm: Path, tmp_path: Path) -> None:
    directory = save_classifier(make_classifier(), tmp_path / "mood")
    result = chargen("sample", lm, *WRITING, "--steer", "pos", "--steer-with", directory)
    assert result.code in (0, 1), result.err
    if result.code:  # an untrained classifier may call all texts the same
        assert "--steer-data" in result.err


def test_labelled_texts_may_be_any_table(chargen: Command, lm: Path, tmp_path: Path) -> None:
    moods = separable(40)
    names = {"good": "1", "bad": "0"}
    rows = [f"{names[y]};{t}" for t, y in zip(moods.texts, moods.labels, strict=True)]
    path = tmp_path / "moods.csv"
    path.write_text("\n".join(["verdict;words", *rows, "2;so so"]))
    command = ("sample", lm, *WRITING, "--steer", "good", "--steer-data", path)
    refused = chargen(*command)
    assert refused.code == 1
    assert "choose one with --text-column" in refused.err
    named = ("--text-column", "words", "--label-column", "verdict", "--label-map")
    steered = chargen(*command, *named, "1=good,0=bad,2=skip")
    assert steered.code == 0
    assert "--label-map leaves out 1 row" in steered.err
    assert "40 texts of" in steered.err
    path.write_text("\n".join(rows))
    numbered = ("--no-header", "--text-column", 2, "--label-column", 1, "--label-map")
    again = chargen(*command, *numbered, "1=good,0=bad", "--delimiter", ";")
    assert again.out == steered.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--text-column", "x"], "--text-column needs labelled texts: .* --steer-data"),
        (["--steer", "good", "--no-header"], "--no-header needs labelled texts"),
        (["--strength", "2"], "--strength needs --steer"),
        (["--steer-data", "x.csv"], "--steer-data needs --steer"),
        (["--steer", "good", "--steer-data", "a", "--steer-with", "b"], "give one of them"),
        (["--steer", "nice", "--steer-data", "DATA"], "'bad', 'good'"),
        (["--steer", "good", "--strength", "nan", "--steer-data", "DATA"], "--strength"),
        (["--steer", "good", "--strength", "much"], "--strength"),
    ],
)
def test_impossible_wishes(
    chargen: Command, lm: Path, data: Path, arguments: list[str], words: str
) -> None:
    given = [str(data) if argument == "DATA" else argument for argument in arguments]
    result = chargen("sample", lm, *given)
    assert result.code == 2
    assert re.search(words, result.err)
    assert result.out == ""


def test_other_checkpoints_and_missing_data_are_named(
    chargen: Command, lm: Path, tmp_path: Path
) -> None:
    result = chargen("sample", lm, "--steer", "good", "--steer-with", lm)
    assert result.code == 1
    assert "classifier" in result.err
    result = chargen("sample", lm, "--steer", "good", "--steer-data", tmp_path / "nowhere.csv")
    assert result.code == 1
    assert "nowhere.csv" in result.err


def test_labelled_texts_are_read_as_the_models_text_was(chargen: Command, tmp_path: Path) -> None:
    plain = "".join(f"{text},{label}\n" for text, label in (("é à", "x"), ("a ê", "y")) * 4)
    corpus, out = tmp_path / "corpus.txt", tmp_path / "lm"
    corpus.write_text(plain * 20, encoding="utf-8")
    read = ("--normalize", "NFC", "--clean", "html")
    assert chargen("train", corpus, "--out", out, "--steps", 3, *read, *SMALL).code == 0
    drawn = []
    for form in ("NFC", "NFD"):
        data = tmp_path / f"{form}.csv"
        rows = unicodedata.normalize(form, plain)
        rows = rows.replace("a", "&#97;") if form == "NFD" else rows
        data.write_text("text,label\n" + rows, encoding="utf-8")
        steered = ("--steer", "x", "--steer-data", data, "--strength", 5, "--json")
        drawn.append(chargen("sample", out, *WRITING, *steered))
    assert drawn[0].code == 0, drawn[0].err
    assert drawn[0].out == drawn[1].out
