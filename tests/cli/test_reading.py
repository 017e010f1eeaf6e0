"""evaluate, score and info."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch

from chargen.language_model import LanguageModel
from tests.sentiment.making import CHARS, make_lm

from .conftest import SMALL, TEXT, Command

KEYS = {
    "chars",
    "nats_per_char",
    "bits_per_char",
    "perplexity",
    "unknown_chars",
    "xz_bits_per_char",
    "zlib_bits_per_char",
}


def test_evaluate_prints_one_object(chargen: Command, trained: Path, corpus: Path) -> None:
    result = chargen("evaluate", trained, corpus, "--json")
    figures = json.loads(result.out)
    assert figures.keys() == KEYS
    assert figures["chars"] == len(TEXT)
    assert figures["bits_per_char"] == pytest.approx(figures["nats_per_char"] / math.log(2))
    assert figures["perplexity"] == pytest.approx(math.exp(figures["nats_per_char"]))
    assert figures["bits_per_char"] < 0.5


@pytest.mark.parametrize("documents", [None, "lines", "files"])
def test_xz_means_the_same_wherever_it_is_told(
    chargen: Command, tmp_path: Path, documents: str | None
) -> None:
    # Long enough for the presets of xz to differ.
    words = [f"{number * number % 1000:x}" for number in range(60_000)]
    text = "".join(f"{word} \u732b\n" if i % 9 == 0 else f"{word} " for i, word in enumerate(words))
    (tmp_path / "one.txt").write_text(text, encoding="utf-8")
    (tmp_path / "two.txt").write_text("the end\n", encoding="utf-8")
    files = (tmp_path / "one.txt", tmp_path / "two.txt")
    reading = () if documents is None else ("--documents", documents)
    out = tmp_path / "model"
    # After two steps it may be worse than a guess, which has the exit code 1.
    assert (
        chargen("train", *files, "--out", out, "--steps", 2, "--quiet", *reading, *SMALL).code < 2
    )
    evaluated = json.loads(chargen("evaluate", out, *files, "--json", "--streams", 64).out)
    told = json.loads(chargen("corpus", "info", *files, "--json", *reading).out)
    assert told["xz"] == evaluated["xz_bits_per_char"]


@pytest.mark.parametrize("command", ["evaluate", "score"])
def test_parts_side_by_side_in_another_precision_come_close(
    chargen: Command, trained: Path, corpus: Path, command: str
) -> None:
    exact = json.loads(chargen(command, trained, corpus, "--json").out)
    fast = chargen(command, trained, corpus, "--json", "--streams", 8, "--precision", "auto")
    assert fast.code == 0
    figures = json.loads(fast.out)
    assert figures["bits_per_char"] == pytest.approx(exact["bits_per_char"], abs=0.02)
    assert figures != exact


def test_dynamic_evaluation_stands_beside_the_static(
    chargen: Command, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new.txt"
    path.write_text("zebra crossing the foggy road at six. " * 60)
    figures = json.loads(chargen("evaluate", trained, path, "--dynamic", "--json").out)
    assert figures.keys() == KEYS | {"dynamic_nats_per_char", "dynamic_bits_per_char"}
    assert figures["dynamic_bits_per_char"] < figures["bits_per_char"]


def test_unknown_characters_are_counted(chargen: Command, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    path.write_text("the 猫 and the 犬 of the fox", encoding="utf-8")
    assert json.loads(chargen("evaluate", trained, path, "--json").out)["unknown_chars"] == 2
    for command in ("evaluate", "score"):
        assert "unknown characters are scored as one" in chargen(command, trained, path).err


def test_what_is_certain_takes_no_bits(chargen: Command, tmp_path: Path) -> None:
    model = make_lm()
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(200.0 * torch.eye(CHARS.size)[CHARS.encode("a")[0]])
    LanguageModel(model, CHARS).save(tmp_path / "m")
    (tmp_path / "t.txt").write_text("aaa")
    assert "-0" not in chargen("score", tmp_path / "m", tmp_path / "t.txt").out
    assert "-0" not in chargen("evaluate", tmp_path / "m", tmp_path / "t.txt", "--json").out


def test_score_has_a_number_for_each_character(
    chargen: Command, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new.txt"
    path.write_text("the qxick fox")
    scored = json.loads(chargen("score", trained, path, "--json").out)
    assert len(scored["log_probs"]) == len("the qxick fox")
    # the misprint is the surprise
    assert min(scored["log_probs"]) == scored["log_probs"][5]
    lines = chargen("score", trained, path).out.splitlines()
    assert len(lines) == len("the qxick fox")
    painted = chargen("score", trained, path, "--color").out
    assert "\x1b[" in painted


def test_score_never_prints_control_characters(
    chargen: Command, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "evil.txt"
    path.write_text("the \x1b]0;owned\x07 fox \x9b31m")
    painted = chargen("score", trained, path, "--color").out
    assert "\x1b]" not in painted
    assert "\x07" not in painted
    assert "\x9b" not in painted


def test_info(chargen: Command, trained: Path) -> None:
    facts = json.loads(chargen("info", trained, "--json").out)
    assert facts["model"]["hidden_size"] == 32
    assert facts["train"]["steps"] == 150
    assert facts["parameters"] > 1000
    assert facts["results"]["valid_bits_per_char"] < 1
    assert "hidden_size" in chargen("info", trained).out


@pytest.mark.parametrize("command", ["sample", "info"])
def test_damaged_checkpoints_are_refused(
    chargen: Command, trained: Path, tmp_path: Path, command: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    result = chargen(command, copy)
    assert result.code == 1
    assert "model.safetensors" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
@pytest.mark.parametrize(
    "command",
    [
        "info LOOP",
        "sample LOOP",
        "train CORPUS --steps 1 --out LOOP",
        "train --resume LOOP",
        "train LOOP --steps 1",
        "sentiment predict LOOP fine",
        "sentiment predict LOOP --input CORPUS --output LOOP.csv",
        "sentiment train CORPUS --encoder LOOP --out LOOP",
    ],
)
def test_links_that_go_round_in_a_circle(
    chargen: Command, corpus: Path, tmp_path: Path, command: str
) -> None:
    for name in ("loop", "loop.csv"):
        (tmp_path / name).symlink_to(name)
    places = {"LOOP": tmp_path / "loop", "LOOP.csv": tmp_path / "loop.csv", "CORPUS": corpus}
    result = chargen(*(places.get(word, word) for word in command.split()))
    assert result.code in (1, 2)
    assert str(tmp_path / "loop") in result.err
    assert result.err.count("\n") == 1


def test_a_model_of_table_rows_reads_plain_text_too(chargen: Command, tmp_path: Path) -> None:
    lines = "".join(TEXT.splitlines(keepends=True)[:60])
    (tmp_path / "rows.csv").write_text("text\n" + lines)
    (tmp_path / "plain.txt").write_text(lines)
    out = tmp_path / "rows"
    arguments = ("--documents", "rows", "--text-column", "text", "--steps", 3, "--quiet")
    assert chargen("train", tmp_path / "rows.csv", "--out", out, *arguments, *SMALL).code == 0
    for name, chars in (("rows.csv", 60 * 45), ("plain.txt", len(lines) + 1)):  # and its end
        result = chargen("evaluate", out, tmp_path / name, "--json")
        assert result.code == 0, result.err
        assert json.loads(result.out)["chars"] == chars
    assert chargen("memorization", out, tmp_path / "plain.txt", "--passages", 3).code == 0


@pytest.mark.parametrize("documents", ["blank-lines", "~~~"])
def test_a_model_reads_documents_as_it_learnt_them(
    chargen: Command, tmp_path: Path, documents: str
) -> None:
    end = "" if documents == "blank-lines" else documents
    for name, count in (("many", 60), ("one", 1)):
        (tmp_path / name).write_text(f"the fox\nand the dog\n{end}\n" * count)
    out = tmp_path / "out"
    trained = chargen(
        "train",
        tmp_path / "many",
        "--documents",
        documents,
        "--out",
        out,
        "--steps",
        3,
        "-q",
        *SMALL,
    )
    assert trained.code == 0, trained.err
    for name, chars in (("many", 60 * 20), ("one", 20)):  # and the ends
        figures = json.loads(chargen("evaluate", out, tmp_path / name, "--json").out)
        assert (figures["chars"], figures["unknown_chars"]) == (chars, 0)
        scored = json.loads(chargen("score", out, tmp_path / name, "--json").out)
        assert scored["text"] == "the fox\nand the dog\n" * (chars // 20)
    (tmp_path / "without").write_text("the fox.")
    scored = json.loads(chargen("score", out, tmp_path / "without", "--json").out)
    assert scored["text"] == "the fox.\n"
