from __future__ import annotations

import json
import lzma
import math
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import chargen as package
from chargen.training.reporting import Reporter

from .conftest import SMALL, TEXT, Command

STEPS = ("--steps", "20", *SMALL)


def test_ends_with_bits_per_character_and_a_sample(
    chargen: Command, corpus: Path, tmp_path: Path
) -> None:
    result = chargen("train", corpus, "--out", tmp_path / "m", *STEPS)
    assert result.code == 0, result.err
    assert "bits per character" in result.out
    assert "sample:" in result.out
    assert "hidden size" not in result.err  # it was given, not chosen
    assert "validation" in result.err  # progress goes to stderr
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert names == {
        "manifest.json",
        "config.json",
        "vocabulary.json",
        "model.safetensors",
        "metrics.jsonl",
        "training",
    }


def test_says_what_it_chose_and_why(chargen: Command, corpus: Path, tmp_path: Path) -> None:
    result = chargen("train", corpus, "--out", tmp_path / "m", "--steps", 12, "--hidden-size", 16)
    assert result.code == 0
    assert "dropout" in result.err
    assert "float32" in result.err or "bfloat16" in result.err


def test_default_folder_is_named_after_the_corpus(
    chargen: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert chargen("train", corpus, *STEPS).code == 0
    assert (tmp_path / "checkpoints" / "fox" / "manifest.json").exists()


def test_an_existing_checkpoint_is_kept_unless_forced(
    chargen: Command, corpus: Path, trained: Path, tmp_path: Path
) -> None:
    before = (trained / "model.safetensors").read_bytes()
    result = chargen("train", corpus, "--out", trained, *STEPS)
    assert result.code == 2
    assert "--force" in result.err
    assert (trained / "model.safetensors").read_bytes() == before

    out = tmp_path / "m"
    assert chargen("train", corpus, "--out", out, *STEPS).code == 0
    assert chargen("train", corpus, "--out", out, "--force", "--cell", "gru", *STEPS).code == 0
    assert json.loads((out / "config.json").read_text())["model"]["cell"] == "gru"


def test_a_folder_that_is_no_checkpoint_is_not_replaced(
    chargen: Command, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "novel.txt").write_text("years of work")
    result = chargen("train", corpus, "--out", tmp_path, "--force", *STEPS)
    assert result.code == 2
    assert (tmp_path / "novel.txt").read_text() == "years of work"


@pytest.mark.parametrize("kind", ["stdin", "xz", "jsonl", "folder", "bytes", "names"])
def test_every_kind_of_corpus_trains_evaluates_and_samples(
    chargen: Command, tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "model"
    path, extra, stdin = tmp_path / "text.txt", [], ""
    path.write_text(TEXT, encoding="utf-8")
    argument: object = path
    if kind == "stdin":
        argument, stdin = "-", TEXT
    elif kind == "xz":
        argument = tmp_path / "text.txt.xz"
        argument.write_bytes(lzma.compress(TEXT.encode()))
    elif kind == "jsonl":
        argument = tmp_path / "text.jsonl"
        rows = [json.dumps({"body": line}) for line in TEXT.splitlines()]
        argument.write_text("\n".join(rows), encoding="utf-8")
        extra = ["--text-column", "body"]
    elif kind == "folder":
        argument = tmp_path / "folder"
        (argument / "deep").mkdir(parents=True)
        (argument / "deep" / "a.txt").write_text(TEXT)
    elif kind == "bytes":
        path.write_text("Größe, 大きさ, размер. " * 200, encoding="utf-8")
        extra = ["--level", "byte"]
    elif kind == "names":
        extra = ["--documents", "lines"]
    arguments = ("train", argument, "--out", out, *STEPS, *extra)
    trained = chargen(*arguments, stdin=stdin)
    assert trained.code == 0, trained.err
    evaluated = chargen("evaluate", out, path, "--json")
    assert evaluated.code == 0, evaluated.err
    figures = json.loads(evaluated.out)
    assert figures["unknown_chars"] == 0
    assert 0 < figures["bits_per_char"] < 8 * (3 if kind == "bytes" else 1)
    sampled = chargen("sample", out, "--length", 30, "--json")
    assert sampled.code == 0, sampled.err
    assert len(json.loads(sampled.out)["text"]) <= 30


def test_metrics_are_json_lines(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "learning_rate", "gradient_norm", "clipped_share"} <= rows[0].keys()
    assert any("valid_nats" in row for row in rows)
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)


def test_validation_file(chargen: Command, corpus: Path, tmp_path: Path) -> None:
    valid = tmp_path / "valid.txt"
    valid.write_text("zzzzzzzz the lazy fox. " * 5)
    out = tmp_path / "m"
    result = chargen("train", corpus, "--valid", valid, "--out", out, *STEPS)
    assert result.code == 0, result.err


def test_backward_model_writes_what_comes_before(
    chargen: Command, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    arguments = ("--direction", "backward", "--steps", "150", *SMALL)
    assert chargen("train", corpus, "--out", out, *arguments).code == 0
    result = chargen("sample", out, "--prompt", "lazy dog.", "--length", 20, "--temperature", 0)
    assert result.out == "mps over the the lazy dog.\n" or result.out.endswith("lazy dog.\n")
    assert len(result.out) == 20 + len("lazy dog.\n")
    assert "over the lazy dog." in result.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hidden-size", "0"], "--hidden-size"),
        (["--hidden-size", str(10**19)], "--hidden-size must be at most"),
        (["--embedding-size", str(10**19)], "--embedding-size must be at most"),
        (["--dropout", "nan"], "--dropout"),
        (["--learning-rate", "-1"], "--learning-rate"),
        (["--minutes", "1", "--epochs", "2"], "--minutes and --epochs"),
        (["--valid-fraction", "2"], "--valid-fraction"),
        (["--encoding", "klingon"], "klingon"),
        (["--cell", "lstn"], "lstn"),
        (["--device", "toaster"], "toaster"),
        (["--minuets", "1"], "--minutes"),
    ],
)
def test_impossible_options_are_refused_in_a_sentence(
    chargen: Command, corpus: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    result = chargen("train", corpus, "--out", tmp_path / "m", *arguments)
    assert result.code == 2
    assert words in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("empty.txt", b"", "empty"),
        ("short.txt", b"abc", "at least"),
        ("latin.txt", b"caf\xe9 " * 100, "byte offset 3"),
        ("binary.txt", b"ab\0cd" * 100, "binary"),
        ("cut.txt.gz", b"\x1f\x8b\x08\x00 not really", "cut.txt.gz"),
        ("rows.csv", b"a,b\n1,2\n" * 50, "--text-column"),
    ],
)
def test_bad_corpora_are_refused_in_a_sentence(
    chargen: Command, tmp_path: Path, name: str, data: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    result = chargen("train", path, "--out", tmp_path / "m", *STEPS)
    assert result.code in (1, 2)
    assert words in result.err
    assert name in result.err
    assert result.err.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_missing_corpus_is_named_with_the_nearest(chargen: Command, tmp_path: Path) -> None:
    assert "python-docs" in chargen("train", "python-doc", "--out", tmp_path / "m").err


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_found_out_first(
    chargen: Command, corpus: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    result = chargen("train", corpus, "--out", tmp_path / "m", *STEPS)
    assert result.code == 1
    assert "cannot write" in result.err


@pytest.mark.parametrize("rate", ["1e30", "1e300"])
def test_an_enormous_learning_rate_ends_in_advice_or_a_usable_model(
    chargen: Command, corpus: Path, tmp_path: Path, rate: str
) -> None:
    out = tmp_path / "m"
    result = chargen("train", corpus, "--out", out, "--learning-rate", rate, *STEPS)
    if result.code == 0:
        assert chargen("sample", out, "--length", 5).code == 0
    else:
        assert result.code == 1
        assert "--learning-rate" in result.err


def test_an_endless_pipe_ends_at_the_limit(chargen: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = chargen(
        *("train", "-", "--out", out, "--max-bytes", 100_000), stdin="endless text\n" * 10_000
    )
    assert result.code == 1
    assert result.err.strip() == "chargen: standard input has more bytes than --max-bytes allows"
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "options", "note"),
    [
        ("a" * 500, (), ""),  # one character
        ("abcdefgh " * 10, ("--window", 500), "window 80: the text is too short for 500"),
        ("abcdefgh " * 10, ("--batch-size", 1000), "too short for 1000"),
        ("abcdefgh " * 30, ("--clip", 1e300), ""),
        (
            "abcdefgh " * 30,
            ("--patience", 1, "--valid-fraction", 0),
            "--patience has no effect: there is no validation text",
        ),
        (
            "abcdefgh " * 30,
            ("--cooldown", 0.5),
            "--cooldown has no effect: it is for --schedule constant-cooldown",
        ),
    ],
)
def test_small_texts_and_large_numbers(
    chargen: Command, tmp_path: Path, text: str, options: tuple[object, ...], note: str
) -> None:
    path, out = tmp_path / "text.txt", tmp_path / "out"
    path.write_text(text)
    result = chargen(
        *("train", path, "--out", out, "--steps", 3, "--hidden-size", 8, "--no-samples"),
        *("--precision", "float32", *options),
    )
    assert result.code == 0, result.err
    assert note in result.err
    assert len(chargen("sample", out, "--length", 5).out) >= 1


@pytest.mark.parametrize("level", ["char", "byte"])
def test_a_model_that_is_worse_than_a_guess_is_kept_and_said_to_be(
    chargen: Command, corpus: Path, tmp_path: Path, level: str
) -> None:
    out = tmp_path / "m"
    asked = ("train", corpus, "--out", out, "--level", level, "--quiet", *STEPS)
    diverging = ("--learning-rate", 1e4, "--optimizer", "adamw", "--eval-every", 20)
    result = chargen(*asked, *diverging, "--json")
    assert result.code == 1
    found = json.loads(result.out)
    assert found["finished"]
    symbols = 256 if level == "byte" else 1 + len(set(TEXT))
    assert found["uniform_bits"] == pytest.approx(math.log2(symbols))
    assert result.err == (
        f"chargen: {out} is worse than a uniform guess over all symbols, {found['valid_bits']:.1f} "
        f"bits per character against {found['uniform_bits']:.1f}: train again with a lower "
        "--learning-rate\n"
    )
    assert chargen("sample", out, "--length", 5, "--seed", 1).code == 0
    assert chargen("train", "--resume", out, "--quiet").code == 1
    assert chargen(*asked, "--force").code == 0
    assert chargen(*asked, "--force", "--steps", 1).code == 0  # as good as a guess


@pytest.mark.parametrize("fraction", [0, 0.5])
def test_a_uniform_guess_has_as_many_bits_with_and_without_validation(
    chargen: Command, tmp_path: Path, fraction: float
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\u00e9\n" * 200, "utf-8")
    options = ("--level", "byte", "--valid-fraction", fraction, "--steps", 2, *SMALL)
    result = chargen("train", text, "--out", tmp_path / "m", *options, "--json")
    assert json.loads(result.out)["uniform_bits"] == pytest.approx(8 * 3 / 2)  # bytes of characters


def test_a_loss_per_character_is_of_the_text_that_was_read(tmp_path: Path) -> None:
    class Stopping(Reporter):
        def evaluated(self, metrics: Mapping[str, Any], sample: str | None) -> None:
            signal.raise_signal(signal.SIGINT)

    (tmp_path / "train.txt").write_text("abc def\n" * 500)
    first = "a" * 25_000  # bytes of an evaluation; the others have three to a character
    (tmp_path / "valid.txt").write_text(first + "\u5b57" * 10_000, "utf-8")
    options: dict[str, Any] = {"steps": 50, "eval_every": 1, "hidden_size": 8, "samples": False}
    run = package.train(
        tmp_path / "train.txt",
        tmp_path / "m",
        level="byte",
        valid=str(tmp_path / "valid.txt"),
        precision="float32",
        reporter=Stopping(),
        **options,
    )
    expected = package.load(run.directory).score(first).nats_per_char
    assert (run.finished, run.valid_nats) == (False, pytest.approx(expected, abs=1e-3))
    assert run.uniform_bits == pytest.approx(8)


@pytest.mark.parametrize("level", ["char", "byte"])
def test_new_text_may_come_from_a_pipe(chargen: Command, tmp_path: Path, level: str) -> None:
    new = tmp_path / "new.txt"
    new.write_text("the qu\u00e9ck dog jumps over the brown fox.\n" * 60, "utf-8")
    options = ("--steps", 3, "-q", *SMALL)
    old = tmp_path / "old"
    assert chargen("train", "-", "--level", level, "--out", old, *options, stdin=TEXT).code < 2
    weights = []
    for name in (new, "-"):
        begun = ("--from", old, "--out", tmp_path / "more", "--force", *options)
        result = chargen("train", name, *begun, stdin=new.read_bytes())
        assert result.code < 2, result.err
        weights.append((tmp_path / "more" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    asked = chargen("train", new, *begun, "--level", "char")  # a default, but asked for
    assert asked.code < 2 if level == "char" else "--level is fixed by the model" in asked.err


def test_going_on_with_new_text(
    chargen: Command, corpus: Path, trained: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.txt"
    new.write_text("the qu\u00e9ck dog jumps over the brown fox.\n" * 60, "utf-8")
    asked = ("train", new, "--from", trained, "--out", tmp_path / "m", "--steps", 8)
    asked += ("--precision", "float32")
    result = chargen(*asked, "--batch-size", 4, "--replay", corpus, "--replay-share", 0.3)
    assert result.code == 0, result.err
    assert f"sizes and weights are those of {trained}" in result.err
    assert "1 symbols are new to the model" in result.err
    again = chargen("train", "--resume", tmp_path / "m", "--steps", 12, "--json")
    assert json.loads(again.out)["steps"] == 12
    refused = chargen("train", "--resume", tmp_path / "m", "--from", trained)
    assert (refused.code, refused.out) == (2, "")
    assert "leave --from out" in refused.err
    for option in (("--hidden-size", 64), ("--replay-share", 0)):
        result = chargen(*asked, "--force", *option)
        assert result.code == 2
        assert option[0] in result.err
        assert result.err.count("\n") == 1
