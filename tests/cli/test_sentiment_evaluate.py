"""`chargen sentiment evaluate`."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from pathlib import Path

import pytest

from chargen.sentiment import metrics

from ..sentiment.models import save_classifier, tiny_classifier
from .conftest import Command

EVALUATE = ("sentiment", "evaluate")
TEXTS = ["a good film", "bad", "two hours i will never get back", "so quiet", "word " * 30]
LABELS = ["pos", "neg", "neg", "pos", "pos"]


@pytest.fixture(scope="module")
def mood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that nobody trained."""
    return save_classifier(tiny_classifier(), tmp_path_factory.mktemp("mood") / "mood")


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    rows = ["Text,Sentiment", *(f"{t},{y}" for t, y in zip(TEXTS, LABELS, strict=True))]
    path.write_text("\n".join([*rows, ",pos", ""]))
    return path


def test_one_object(chargen: Command, mood: Path, reviews: Path) -> None:
    result = chargen(*EVALUATE, mood, reviews, "--json")
    assert result.code == 0
    figures = json.loads(result.out)
    expected = metrics.evaluate(LABELS, tiny_classifier().predict_proba(TEXTS), ("neg", "pos"))
    assert figures.keys() == {
        *("accuracy", "macro_f1", "log_loss", "ece", "confusion", "labels", "texts", "per_class"),
    }
    for key in ("accuracy", "macro_f1", "log_loss", "ece"):
        assert figures[key] == pytest.approx(expected[key], abs=1e-4)
    assert figures["confusion"] == expected["confusion"]
    assert figures["labels"] == ["neg", "pos"]
    assert figures["texts"] == 5
    assert "left out" in result.err
    assert "line 7" in result.err


def test_unknown_characters_cost_a_note(chargen: Command, mood: Path, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\nfilm \u732b and \u732b,pos\n\u72ac,neg\n", "utf-8")
    assert chargen(*EVALUATE, mood, path).err.strip().endswith(": \u732b \u72ac")
    assert chargen(*EVALUATE, mood, path, "--quiet").err == ""


def test_for_people(chargen: Command, mood: Path, reviews: Path) -> None:
    result = chargen(*EVALUATE, mood, reviews, "--quiet")
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0].split() == ["texts", "5"]
    assert [line.split()[0] for line in lines[6:9]] == ["label", "neg", "pos"]
    assert len({len(line) for line in lines[6:9]}) == 1
    matrix = [[int(n) for n in line.split()[1:]] for line in lines[-2:]]
    assert [sum(row) for row in matrix] == [2, 3]


def test_columns_are_those_of_a_terminal(chargen: Command, tmp_path: Path) -> None:
    def columns(line: str) -> int:
        wide = sum(unicodedata.east_asian_width(c) in "WF" for c in line)
        return len(line) + wide - sum(unicodedata.combining(c) > 0 for c in line)

    labels = ("一般", "好", "x\u0301\u0302\u0303")
    judge = save_classifier(tiny_classifier(labels), tmp_path / "judge")
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "".join(f"a text,{label}\n" for label in labels), "utf-8")
    result = chargen(*EVALUATE, judge, path, "--quiet")
    assert result.code == 0, result.err
    _, table, matrix = result.out.split("\n\n")
    for lines in (table.splitlines(), matrix.splitlines()[1:]):
        assert len({columns(line) for line in lines}) == 1
    texts = ["a plot", "很" * 200, "e\u0301" * 40]
    shown = chargen("sentiment", "predict", judge, *texts).out.splitlines()
    assert len({columns(re.split(r"  \d\.\d\d\d  ", line)[0]) for line in shown}) == 1
    assert [line.endswith("…") for line in shown] == [False, True, False]
    assert max(map(columns, shown)) <= 80


def test_a_class_without_a_text_is_noted(chargen: Command, mood: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("text,label\ngood,pos\nfine,pos\n")
    result = chargen(*EVALUATE, mood, path)
    assert result.code == 0
    assert "one.csv has the label 'neg', so macro-F1 counts an F1 of 0" in result.err


def test_folders(chargen: Command, mood: Path, tmp_path: Path) -> None:
    for label, text in (("neg", "bad"), ("pos", "good")):
        (tmp_path / label).mkdir()
        (tmp_path / label / "0.txt").write_text(text)
    figures = json.loads(chargen(*EVALUATE, mood, tmp_path, "--json").out)
    assert [sum(row) for row in figures["confusion"]] == [1, 1]


def test_what_is_missing_is_told_before_any_text_is_read(
    chargen: Command, mood: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    result = chargen("sentiment", "evaluate", mood, "no-such-texts.csv")
    assert result.code == 1
    assert "evaluation needs the extra: pip install 'chargen[sentiment]'" in result.err


def test_texts_are_cleaned_as_in_training(chargen: Command, mood: Path, tmp_path: Path) -> None:
    cleaning = save_classifier(tiny_classifier(clean="html"), tmp_path / "cleaning")
    plain, marked = tmp_path / "plain.jsonl", tmp_path / "marked.jsonl"
    rows = (("a\nb", "neg"), ("c & <d>", "pos"))
    plain.write_text("\n".join(json.dumps({"text": t, "label": y}) for t, y in rows))
    rows = (("<p>a<br />b", "neg"), ("<i>c</i> &amp; &lt;d&gt;", "pos"))
    marked.write_text("\n".join(json.dumps({"text": t, "label": y}) for t, y in rows))
    expected = chargen(*EVALUATE, mood, plain, "--json").out
    assert chargen(*EVALUATE, mood, marked, "--json").out != expected
    assert chargen(*EVALUATE, mood, marked, "--json", "--clean", "html").out == expected
    for options in ([], ["--clean", "html"]):  # not cleaned twice
        assert chargen(*EVALUATE, cleaning, marked, "--json", *options).out == expected


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("text,label\na,pos\nb,good\n", 1, "unknown label 'good' in line 3; .* 'neg', 'pos'"),
        ("text,label\na,\n", 1, "label is missing in line 2"),
        ("a,b\n1,2\n", 1, "columns are 'a', 'b'"),
        ('text,label\n"a,pos\n', 1, "line 2 has a quote that is never closed"),
    ],
)
def test_mistakes_are_one_sentence(
    chargen: Command, mood: Path, tmp_path: Path, text: str, code: int, words: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    result = chargen(*EVALUATE, mood, path)
    assert result.code == code
    assert result.err.count("\n") == 1
    assert re.search(words, result.err)
