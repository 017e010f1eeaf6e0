"""`chargen sentiment train`: what it prints, what it refuses, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from chargen.cli import progress
from chargen.sentiment.classifier import Classifier
from chargen.training.loop import Loop

from ..sentiment.making import DROPOUTS, save_lm, separable, write_csv
from .conftest import Command

QUICK = (
    *("--epochs", "2", "--batch-size", "8", "--detectors", "6", "--head-size", "5"),
    *("--precision", "float32", "--device", "cpu", "--threads", "1"),
)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lm(tmp_path_factory.mktemp("lm") / "lm", **DROPOUTS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "moods.csv", separable(40))


@pytest.fixture
def train(chargen: Command, lm: Path, data: Path, tmp_path: Path) -> Command:
    """Train quickly; further arguments are added."""

    def run(*arguments: object, data: Path = data) -> Any:
        return chargen(
            *("sentiment", "train", data, "--encoder", lm, "--out", tmp_path / "mood"),
            *(*QUICK, *arguments),
        )

    return run


# ---------------------------------------------------------------- what it says


def test_a_run_for_people(train: Command, chargen: Command, tmp_path: Path) -> None:
    result = train()
    assert result.code == 0
    first, second = result.out.splitlines()
    assert first.startswith("validation: accuracy ")
    assert "macro-F1" in first
    assert "36 labelled texts" in first
    assert second == f"saved to {tmp_path / 'mood'}"
    assert "36 texts to learn from, 4 to validate on, 2 classes; float32: as asked" in result.err
    assert "accuracy on held-out texts: network" in result.err
    assert f"chargen sentiment predict {tmp_path / 'mood'}" in result.err
    asked = chargen("sentiment", "predict", tmp_path / "mood", "a wow day")
    assert asked.code == 0
    assert asked.out.split()[0] in ("bad", "good")


def test_a_run_for_programs(train: Command, tmp_path: Path) -> None:
    result = train("--json", "--quiet")
    assert result.code == 0
    assert result.err == ""
    found = json.loads(result.out)
    assert found.pop("seconds") > 0
    assert set(found.pop("valid")) == {"accuracy", "macro_f1", "log_loss"}
    assert found == {
        "directory": str(tmp_path / "mood"),
        "labels": ["bad", "good"],
        "labels_used": 36,
        "steps": 10,
        "finished": True,
    }


def test_without_validation_there_is_no_figure(train: Command) -> None:
    result = train("--valid-fraction", "0", "--quiet")
    assert result.code == 0
    assert result.out.startswith("saved to")
    assert result.err == ""


def test_options_reach_the_run(train: Command, lm: Path, data: Path, tmp_path: Path) -> None:
    backward = save_lm(tmp_path / "backward", direction="backward", seed=2)
    valid = write_csv(tmp_path / "valid.csv", separable(10, seed=4))
    result = train(
        *("--encoder", backward, "--labels", 20, "--valid", valid, "--no-class-weights"),
        *("--from-scratch", "--no-ngrams", "--seed", 3, "--lm-weight", 0.5, "--clean", "html"),
        *("--text-column", "text", "--label-column", "label", "--deterministic", "--json"),
    )
    assert result.code == 0
    assert json.loads(result.out)["labels_used"] == 20
    config = json.loads((tmp_path / "mood" / "config.json").read_text())
    assert config["encoder"] == [str(lm), str(backward)]
    assert config["data"] == [str(data)]
    for name, value in {
        "labels": 20,
        "valid": str(valid),
        "class_weights": False,
        "from_scratch": True,
        "ngrams": False,
        "seed": 3,
        "lm_weight": 0.5,
        "deterministic": True,
        "threads": 1,
    }.items():
        assert config["finetune"][name] == value, name
    assert config["examples"]["clean"] == config["clean"] == "html"


def test_the_probe(train: Command, tmp_path: Path) -> None:
    result = train("--method", "probe", "--penalty", "l1", "--no-ngrams")
    assert result.code == 0
    assert "logistic regression (l1) on 24 features" in result.err
    assert "Warning" not in result.err
    assert Classifier.load(tmp_path / "mood").labels == ("bad", "good")


def test_progress_in_a_log(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    reporter = progress.TerminalReporter()
    row = {"step": 1, "characters": 100, "loss": 0.7, "train_accuracy": 0.5, "lm_loss": None}
    reading = {"step": 9, "characters": 900, "loss": 1.4}
    for metrics in (row, row | {"step": 2, "lm_loss": 0.693, "loss": float("nan")}):
        reporter.step(0.1 * metrics["step"], metrics)
    reporter.evaluated({"step": 2}, None)
    reporter.evaluated(
        {"step": 2, "valid_accuracy": 0.9, "valid_macro_f1": 0.89, "valid_log_loss": 0.3}, None
    )
    reporter.close()
    for share in (0.2, 0.4):  # another stage, from its own beginning
        reporter.step(share, reading)
    reporter.close()
    for share, loss in ((0.6, float("nan")), (0.8, 1.4)):  # a step was skipped
        reporter.step(share, reading | {"loss": loss})
    first, second, third, fourth = capfd.readouterr().err.splitlines()
    assert first.startswith(
        "step 2, 20%: loss 0.700, training accuracy 0.500, language model 1.00 bits"
    )
    assert second == "step 2: validation accuracy 0.9000, macro-F1 0.8900, log loss 0.3000"
    assert third.startswith("step 9, 40%: loss 1.400 nats, 2.020 bits per symbol")
    assert fourth.startswith("step 9, 80%: loss 1.400 nats")


# ---------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "DATA is missing: give labelled texts, or --resume DIR"),
        (("DATA",), "--encoder is missing"),
        (("DATA", "--encoder", "LM"), "--out is missing"),
        (
            ("DATA", "--encoder", "LM", "--out", "o", "--minutes", 1, "--epochs", 1),
            "exclude each other",
        ),
        (("DATA", "--encoder", "LM", "--out", "o", "--batch-size", 1), "--batch-size must be at"),
        (("DATA", "--encoder", "LM", "--out", "o", "--labels", 99), "--labels 99 is too many"),
        (("DATA", "--encoder", "LM", "--out", "o", "--method", "magic"), "--method"),
        (("DATA", "--encoder", "LM", "--out", "o", "--wings", 2), "--wings"),
        (("DATA", "--encoder", "LM", "--out", "LM", "--force"), "is the folder of the encoder"),
        (("DATA", "--encoder", "LM", "--out", "DATA"), "is a file"),
        (("DATA", *(("--encoder", "LM") * 3), "--out", "o"), "--encoder takes one"),
        (("-", "--encoder", "LM", "--out", "o"), "a file or a folder, not -"),
    ],
)
def test_wrong_commands(
    chargen: Command,
    lm: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    real = {"DATA": data, "LM": lm}
    result = chargen("sentiment", "train", *(real.get(str(each), each) for each in arguments))
    assert result.code == 2
    assert words in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_class_of_one_text_has_none_to_validate_on(train: Command, tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("text,label\na,good\nb,bad\nc,good\n")
    result = train("--method", "finetune", data=path)
    assert result.code == 1
    assert "'bad' has only one distinct text" in result.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "moods.csv does not exist"),
        ("", "moods.csv"),
        ("text,label\na,good\nb,good\n", "only label is 'good'"),
        ("text,label\na,good\nb,\nc,bad\nd,\n", "lines 3 and 5"),
        ("words,mark\na,1\nb,0\n", "columns are 'words', 'mark'"),
        ("text,label\na,good\nb\n", "line 3"),
        ('text,label\na,good\n"b,bad\n', "line 3"),
        ("text,label\n , good\n", "holds no text"),
    ],
)
def test_data_that_cannot_be_learnt_from(
    chargen: Command, lm: Path, tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "moods.csv"
    if text is not None:
        path.write_text(text)
    result = chargen("sentiment", "train", path, "--encoder", lm, "--out", tmp_path / "mood")
    assert result.code == 1
    assert result.err.count("\n") == 1, result.err  # one sentence
    assert result.err.startswith("chargen: ")
    assert words in result.err
    assert not (tmp_path / "mood").exists()


def test_encoders_that_are_none(
    train: Command, chargen: Command, data: Path, tmp_path: Path
) -> None:
    assert train().code == 0
    for encoder, words in ((tmp_path / "none", "no checkpoint"), (tmp_path / "mood", "classifier")):
        out = ("--out", tmp_path / "other", *QUICK)
        result = chargen("sentiment", "train", data, "--encoder", encoder, *out)
        assert result.code == 1
        assert words in result.err
        assert "Traceback" not in result.err
    result = chargen("sample", tmp_path / "mood")
    assert result.code == 1
    assert "mood is a classifier checkpoint; a language-model one is needed" in result.err


def test_tensorboard(train: Command, chargen: Command, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra chargen[tensorboard]")
    logs = tmp_path / "logs"
    assert train("--tensorboard", logs).code == 0
    assert len(list((logs / "mood").iterdir())) == 1
    more = ("--resume", tmp_path / "mood", "--epochs", 3, "--tensorboard", logs)
    assert chargen("sentiment", "train", *more).code == 0
    assert len(list((logs / "mood").iterdir())) == 2
    refused = train("--force", "--tensorboard", logs, "--method", "probe")
    assert refused.code == 2
    assert "--tensorboard" in refused.err


def test_evaluations_at_an_interval(train: Command, tmp_path: Path) -> None:
    assert train("--eval-every", 4, "--checkpoint-every", 3).code == 0
    rows = map(json.loads, (tmp_path / "mood" / "metrics.jsonl").read_text().splitlines())
    assert [row["step"] for row in rows if "valid_accuracy" in row] == [4, 8, 10]


def test_what_exists_is_kept_unless_forced(train: Command, tmp_path: Path) -> None:
    assert train("--no-ngrams").code == 0
    before = (tmp_path / "mood" / "model.safetensors").read_bytes()
    result = train("--seed", 5)
    assert result.code == 2
    assert "--force" in result.err
    assert (tmp_path / "mood" / "model.safetensors").read_bytes() == before
    assert train("--seed", 5, "--force", "--no-ngrams").code == 0
    assert (tmp_path / "mood" / "model.safetensors").read_bytes() != before


def test_a_run_that_diverges_ends_with_advice(train: Command, tmp_path: Path) -> None:
    result = train("--learning-rate", 1e30, "--clip", 0, "--epochs", 4)
    assert result.code == 1
    assert "--learning-rate" in result.err.splitlines()[-1]
    assert "Traceback" not in result.err
    assert not (tmp_path / "mood").exists()


# ---------------------------------------------------------------- Ctrl-C and --resume


def tensors(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*.safetensors"))
    }


def test_ctrl_c_saves_and_resume_ends_where_it_would_have(
    train: Command,
    chargen: Command,
    lm: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ("--epochs", "4", "--ema", "0.9")
    whole = train(*options, "--json")
    assert whole.code == 0
    out, step = tmp_path / "part", Loop.step

    def interrupted(loop: Loop, batch: Any) -> Any:
        row = step(loop, batch)
        if row["step"] == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return row

    monkeypatch.setattr(Loop, "step", interrupted)
    command = ("sentiment", "train", data, "--encoder", lm, "--out", out)
    done = chargen(*command, *QUICK, *options)
    monkeypatch.undo()
    assert done.code == 130, done.err
    assert f"stopped at step 7; continue with: chargen sentiment train --resume {out}" in done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    resumed = chargen("sentiment", "train", "--resume", out, "--json")
    assert resumed.code == 0
    assert "continuing from step 7" in resumed.err
    found, wanted = json.loads(resumed.out), json.loads(whole.out)
    for figures in (found, wanted):
        del figures["seconds"], figures["directory"]
    assert found == wanted
    assert tensors(out) == tensors(tmp_path / "mood")
    again = chargen("sentiment", "train", "--resume", out)
    assert again.code == 0
    assert "nothing is left to do" in again.err
    assert f"saved to {out}" in again.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--seed", "3"), "leave --seed out"),
        (("--encoder", "x"), "leave --encoder out"),
        (("--out", "x"), "leave --out out"),
        (("--force",), "leave --force out"),
        (("data.csv",), "leave DATA out"),
        (("--no-class-weights",), "leave --class-weights out"),
    ],
)
def test_resume_takes_no_other_option(
    chargen: Command, arguments: tuple[str, ...], words: str
) -> None:
    result = chargen("sentiment", "train", "--resume", "mood", *arguments)
    assert result.code == 2
    assert words in result.err


def test_resume_needs_a_run(chargen: Command, lm: Path, tmp_path: Path) -> None:
    for directory, words in ((tmp_path / "none", "no checkpoint"), (lm, "language-model")):
        result = chargen("sentiment", "train", "--resume", directory)
        assert result.code == 1
        assert words in result.err
        assert "Traceback" not in result.err
