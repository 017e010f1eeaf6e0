"""`chargen count`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chargen import language_model
from chargen.lm import counts
from chargen.storage import checkpoint
from tests.sentiment.making import BYTES, save_lm

from .conftest import SMALL, Command

OTHER = "zwölf boxkämpfer jagen viktor quer über den großen sylter deich.\n" * 60


def test_counts_adapt_a_model_to_another_text(
    chargen: Command, trained: Path, tmp_path: Path
) -> None:
    text, out = tmp_path / "other.txt", tmp_path / "counted"
    text.write_text(OTHER, encoding="utf-8")
    result = chargen("count", trained, text, "--out", out, "--json")
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    assert figures["bits_per_char"] < figures["network_bits_per_char"] - 1
    assert figures["characters"] + figures["valid_characters"] == len(OTHER)
    before = json.loads(chargen("evaluate", trained, text, "--json").out)["bits_per_char"]
    for more in ((), ("--streams", 4), ("--dynamic",)):
        found = json.loads(chargen("evaluate", out, text, "--json", *more).out)
        assert found.get("dynamic_bits_per_char", found["bits_per_char"]) < before - 1
    packed = tmp_path / "packed"
    assert chargen("compress", text, "--model", out, "--output", packed).code == 0
    assert chargen("decompress", packed, "--model", out, "--output", tmp_path / "back").code == 0
    assert (tmp_path / "back").read_bytes() == text.read_bytes()
    refused = chargen("decompress", packed, "--model", trained, "--output", tmp_path / "wrong")
    assert (refused.code, "another model" in refused.err) == (1, True)
    scores = [
        json.loads(chargen("score", m, text, "--json").out)["log_probs"] for m in (trained, out)
    ]
    assert sum(scores[0]) < sum(scores[1])


def test_a_model_that_held_nothing_out_and_one_of_bytes(
    chargen: Command, trained: Path, tmp_path: Path
) -> None:
    text = tmp_path / "other.txt"
    text.write_text(OTHER, encoding="utf-8")
    stored = checkpoint.load(trained)
    stored.document("config")["corpus"]["config"]["valid_fraction"] = 0.0
    checkpoint.save(tmp_path / "whole", stored)
    for model in (tmp_path / "whole", save_lm(tmp_path / "bytes", BYTES)):
        result = chargen("count", model, text, "--out", tmp_path / "out", "--force", "--json")
        assert result.code == 0, result.err
        figures = json.loads(result.out)
        assert figures["valid_characters"] == len(OTHER) // 10
        assert figures["characters"] == len(OTHER) * 9 // 10
        assert ("training held out no part" in result.err) == (model.name == "whole")


@pytest.mark.parametrize("documents", ["files", "~~~", "blank-lines"])
def test_a_single_document(chargen: Command, corpus: Path, tmp_path: Path, documents: str) -> None:
    for name in "ab":
        (tmp_path / name).write_text(
            corpus.read_text() + ("~~~\n\n" if len(documents) != 5 else "")
        )
    model, text = tmp_path / "model", tmp_path / "other.txt"
    text.write_text(OTHER, encoding="utf-8")
    options = ("--documents", documents, "--steps", 2, *SMALL, "--quiet")
    result = chargen("train", tmp_path / "a", tmp_path / "b", "--out", model, *options)
    assert result.code == 0, result.err
    counted = chargen("count", model, text, "--out", tmp_path / "counted", "--json")
    assert counted.code == 0, counted.err
    figures = json.loads(counted.out)
    assert figures["characters"] + figures["valid_characters"] == len(OTHER)
    # Training holds out whole documents, so no part of this one.
    sizes = ("--length", 10, "--context", 10, "--passages", 5)
    measured = chargen("memorization", model, text, *sizes, "--json")
    assert measured.code == 0, measured.err
    assert "held_out" not in json.loads(measured.out)


def test_characters_that_give_the_weight_are_those_that_were_scored(
    chargen: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "other.txt"
    text.write_text(OTHER, encoding="utf-8")
    for module in (counts, language_model):
        monkeypatch.setattr(module, "HELD_OUT_SYMBOLS", 100)
    result = chargen("count", trained, text, "--out", tmp_path / "out", "--json")
    assert json.loads(result.out)["valid_characters"] == 100


def test_what_people_read(chargen: Command, trained: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "counted"
    result = chargen("count", trained, corpus, "--out", out, "--order", 4)
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()] == [
        "network",
        "counts",
        "together",
    ]
    assert "weight" in result.err
    assert str(out) in result.err
    assert "counts:" in chargen("info", out).out
    refused = chargen("count", trained, corpus, "--out", out)
    assert refused.code == 2
    assert "--force" in refused.err
    assert chargen("count", out, corpus, "--out", out, "--force").code == 0  # counted anew
    same = json.loads(chargen("info", out, "--json").out)["counts"]
    assert same["order"] == 8
    short = chargen("count", trained, corpus, "--out", out, "--force", "--max-characters", 200)
    assert "only the last 200 characters are counted" in short.err


def test_counts_that_do_not_help_are_said_to(
    chargen: Command, trained: Path, corpus: Path, tmp_path: Path
) -> None:
    text = tmp_path / "twice.txt"
    half = corpus.read_text()
    text.write_text(half[::-1][:400] + half * 2)  # what is counted says little of what is weighed
    result = chargen("count", trained, text, "--order", 1, "--out", tmp_path / "counted")
    assert result.code == 0
    assert "use the model without the counts" in result.err


def test_a_new_run_from_it_leaves_them_out_and_says_so(
    chargen: Command, trained: Path, corpus: Path, tmp_path: Path
) -> None:
    counted, out = tmp_path / "counted", tmp_path / "out"
    assert chargen("count", trained, corpus, "--out", counted).code == 0
    result = chargen("train", corpus, "--from", counted, "--out", out, "--steps", 2, *SMALL[2:])
    assert result.code == 0, result.err
    assert "its counts are left out" in result.err
    assert not (out / "counts.safetensors").exists()


def test_a_text_without_held_out_part(chargen: Command, trained: Path, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("the")
    result = chargen("count", trained, text, "--out", tmp_path / "counted")
    assert (result.code, "at least 64" in result.err) == (1, True)
    assert not (tmp_path / "counted").exists()
