from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from ..sentiment.making import separable, write_csv
from .conftest import Command


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "train.csv", separable(80))


@pytest.fixture
def test(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "test.csv", separable(30, seed=1))


def test_a_table_of_tfidf(chargen: Command, train: Path, test: Path) -> None:
    result = chargen("sentiment", "compare", train, "--test", test, "--labels", 60)
    assert result.code == 0, result.err
    head, *lines = result.out.splitlines()
    columns = ["model", "accuracy", "macro-F1", "labels", "parameters", "train s", "texts/s"]
    assert re.split("  +", head) == columns
    assert [line.split()[0] for line in lines] == ["tfidf", "tfidf-chars"]
    assert {line.split()[3] for line in lines} == {"60"}
    assert len({len(line) for line in (head, *lines)}) == 1  # columns are aligned
    assert "tfidf: accuracy" in result.err


def test_json_is_one_object_with_rows(
    chargen: Command, trained: Path, train: Path, test: Path
) -> None:
    result = chargen(
        "sentiment", "compare", train, "--test", test, "--models", "tfidf", "--encoder", trained,
        "--epochs", 1, "--labels", 40, "--json", "--quiet",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert result.err == ""
    figures = json.loads(result.out)
    assert figures["texts"] == 30
    assert figures["classes"] == ["bad", "good"]
    rows = figures["rows"]
    assert [row["model"] for row in rows] == ["tfidf", "ours, probe", "ours, finetuned"]
    assert {row["labels"] for row in rows} == {40}
    assert rows[0]["accuracy"] > 0.8
    assert set(rows[1]) == {
        "model",
        "accuracy",
        "macro_f1",
        "log_loss",
        "ece",
        "labels",
        "parameters",
        "train_seconds",
        "texts_per_second",
    }


def test_unlabelled_texts_are_read_as_the_labelled_ones(
    chargen: Command, trained: Path, tmp_path: Path
) -> None:
    examples = separable(40)
    train, test, usual, unusual = (tmp_path / f"{i}.csv" for i in range(4))
    for file, header in (
        (train, "remark|label"),
        (test, "remark|label"),
        (usual, "remark|text"),  # a usual name, but not the one that is asked for
        (unusual, "remark|number"),
    ):
        rows = write_csv(file, examples).read_text().splitlines()[1:]
        table = [header, *(row.replace(",", "|") for row in rows)]
        file.write_text("\n".join(table))
    figures = []
    for unlabelled in (usual, unusual):
        result = chargen(
            "sentiment", "compare", train, "--test", test, "--models", "finetuned", "--epochs", 1,
            "--encoder", trained, "--unlabelled", unlabelled, "--json",
            "--text-column", "remark", "--delimiter", "|",
        )  # fmt: skip
        assert result.code == 0, result.err
        (row,) = json.loads(result.out)["rows"]
        figures.append((row["log_loss"], row["parameters"]))
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--models", "svm"), 2, "--models must be some of"),
        (("--models", "finetuned"), 2, "give --encoder DIR"),
        (("--models", ","), 2, "--models names nothing to compare"),
        (("--unlabelled", "more.txt"), 2, "--unlabelled needs --encoder"),
        (("--labels", "500"), 2, "--labels 500 is too many"),
        (("--valid-fraction", "0"), 2, "--valid-fraction"),
        (("--minutes", "5"), 2, "--minutes needs --encoder"),
        (("--classifier", "no/such/dir"), 1, "no/such/dir"),
    ],
)
def test_mistakes_end_in_a_sentence(
    chargen: Command, train: Path, test: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    result = chargen("sentiment", "compare", train, "--test", test, *options)
    assert result.code == code, result.err
    assert said in result.err
    assert "Traceback" not in result.err


def test_labels_of_the_test_that_training_does_not_have(
    chargen: Command, train: Path, test: Path
) -> None:
    test.write_text(test.read_text() + "odd,middling\n")
    result = chargen("sentiment", "compare", train, "--test", test)
    assert result.code == 1
    assert "'middling'" in result.err
    assert "line 32" in result.err


def test_texts_that_stand_in_both_are_said(chargen: Command, train: Path) -> None:
    result = chargen("sentiment", "compare", train, "--test", train, "--models", "tfidf")
    assert result.code == 0, result.err
    assert "figures on them are too optimistic" in result.err


def test_help_needs_no_torch() -> None:
    import subprocess

    code = (
        "import sys; from chargen.cli.sentiment import sentiment;"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
