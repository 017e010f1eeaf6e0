"""Options from a file and from the environment, and which goes before which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import SMALL, Command


def steps_of(chargen: Command, corpus: Path, out: Path, *more: object, file: Path) -> int:
    small = ("--batch-size", 4, "--window", 32, "--quiet", "--force", "--json")
    result = chargen("--config", file, "train", corpus, "--out", out, *small, *more)
    assert result.code == 0, result.err
    steps: int = json.loads(result.out)["steps"]
    return steps


def test_who_goes_before_whom(
    chargen: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "night.toml"
    file.write_text(
        '[train]\nsteps = 3\nhidden-size = 16\nprecision = "float32"\nsamples = false\n'
    )
    out = tmp_path / "fox"
    assert steps_of(chargen, corpus, out, file=file) == 3
    config = json.loads((out / "config.json").read_text())
    assert config["model"]["hidden_size"] == 16
    assert config["train"]["samples"] is False
    monkeypatch.setenv("CHARGEN_TRAIN_STEPS", "4")
    assert steps_of(chargen, corpus, out, file=file) == 4
    assert steps_of(chargen, corpus, out, "--steps", 5, file=file) == 5


def test_a_budget_goes_before_one_of_another_kind(
    chargen: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tmp_path / "night.toml", tmp_path / "fox"
    file.write_text("[train]\nminutes = 1\nhidden-size = 16\nprecision = 'float32'\n")
    monkeypatch.setenv("CHARGEN_TRAIN_EPOCHS", "0.1")
    assert 3 < steps_of(chargen, corpus, out, file=file) < 9
    assert steps_of(chargen, corpus, out, "--steps", 2, file=file) == 2
    refused = chargen("train", corpus, "--steps", 2, "--minutes", 1)
    assert "--minutes and --steps exclude each other" in refused.err


def test_variables_have_the_names_of_options(
    chargen: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARGEN_SAMPLE_LENGTH", "7")
    monkeypatch.setenv("CHARGEN_SAMPLE_JSON", "1")
    assert len(json.loads(chargen("sample", trained, "--ignore-end").out)["text"]) == 7


@pytest.mark.parametrize(("value", "written"), [("k b\nzzz", "the quic"), ("zzz\n ", "the")])
def test_a_variable_has_a_value_per_line(
    chargen: Command, trained: Path, monkeypatch: pytest.MonkeyPatch, value: str, written: str
) -> None:
    monkeypatch.setenv("CHARGEN_SAMPLE_STOP", value)
    result = chargen("sample", trained, "--prompt", "the", "--temperature", 0)
    assert result.out == f"{written}\n"


def test_no_variable_asks_for_the_version(
    chargen: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARGEN_VERSION", "0.1.0")  # as images of containers have it
    assert "python-docs" in chargen("corpus", "list").out


def test_a_run_that_goes_on_keeps_its_budget_and_folder(
    chargen: Command, corpus: Path, tmp_path: Path
) -> None:
    file = tmp_path / "c.toml"
    out = tmp_path / "fox"
    file.write_text(f"[train]\nminutes = 1\nforce = true\nout = '{tmp_path / 'new'}'\n")
    assert chargen("train", corpus, "--out", out, "--steps", 3, "--quiet", *SMALL).code == 0
    resumed = chargen("--config", file, "train", "--resume", out, "--json")
    assert resumed.code == 0, resumed.err
    figures = json.loads(resumed.out)
    assert (figures["steps"], figures["directory"]) == (3, str(out))


def test_an_option_goes_before_its_alternative(
    chargen: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, data = tmp_path / "c.toml", tmp_path / "data.csv"  # data.csv does not exist
    file.write_text(
        "[sample]\nprompt-file = 'p.txt'\n[sentiment.train]\nminutes = 9\nvalid = 'v.csv'\n"
    )
    sample = ("sample", trained, "--length", 5, "--prompt", "The")
    assert chargen("--config", file, *sample).code == 0
    train = ("sentiment", "train", data, "--encoder", "reviews", "--out", tmp_path / "out")
    result = chargen("--config", file, *train, "--epochs", 1, "--valid-fraction", 0.2)
    assert "data.csv does not exist" in result.err  # which is looked for after the options
    monkeypatch.setenv("CHARGEN_SENTIMENT_TRAIN_VALID_FRACTION", "0.2")
    result = chargen(*train, "--valid", "v.csv")
    assert "data.csv does not exist" in result.err
    both = chargen(*train, "--valid", "v.csv", "--valid-fraction", 0.2)
    assert "--valid and --valid-fraction exclude each other" in both.err


def test_commands_within_groups(chargen: Command, tmp_path: Path, corpus: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[corpus.info]\njson = true\n")
    result = chargen("--config", file, "corpus", "info", corpus)
    assert json.loads(result.out)["characters"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[trian]\nsteps = 3", "no command 'trian'; did you mean train?"),
        ("[train]\nstep = 3", "[train]: there is no option 'step'; did you mean steps?"),
        ("steps = 3", "no command 'steps'"),
        ("train = 3", "must be a table: [train]"),
        ("[train]\nsteps = [3]", "steps must be a single value"),
        ("[train]\nforce = 1", "force must be true or false"),
        ("[train]\nsteps = true", "steps must be a number or a text"),
        ("[train]\ntext-column = 'a'", "text-column must be a list of texts"),
        ("[train]\ntext-column = [['a']]", "text-column must be a list of texts"),
        ("[train]\ntext-column = [true]", "text-column must be a number or a text"),
        ("[train]\nseed = {}", "seed must be a single value"),
        ("[train]\ncheckpoint-every = 1\ncheckpoint_every = 2", "is given twice"),
        ("[export]\nout = 'a'\noutput = 'b'", "output is given twice, in two spellings"),
        ("[train]\nsteps = 'many'", "'many' is not a valid integer"),
        ("[train\n", "is not TOML"),
    ],
)
def test_mistakes(chargen: Command, corpus: Path, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    result = chargen("--config", file, "train", corpus, "--out", tmp_path / "out", *SMALL)
    assert result.code == 2
    assert said in result.err
    assert not (tmp_path / "out").exists()


def test_a_file_that_begins_with_a_byte_order_mark(
    chargen: Command, trained: Path, tmp_path: Path
) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[sample]\nlength = 7\nstop = []\nignore-end = true\n", encoding="utf-8-sig")
    result = chargen("--config", file, "sample", trained)
    assert (result.code, len(result.out)) == (0, 7 + 1)


def test_a_file_that_is_not_there(chargen: Command, corpus: Path, tmp_path: Path) -> None:
    result = chargen("--config", tmp_path / "no.toml", "train", corpus)
    assert result.code == 2
    assert "cannot be read" in result.err


def test_completion(monkeypatch: pytest.MonkeyPatch, chargen_process: Command) -> None:
    monkeypatch.setenv("_CHARGEN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "chargen sentiment pre")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert chargen_process().out.split() == ["plain,predict"]
