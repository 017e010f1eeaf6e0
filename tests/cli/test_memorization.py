"""`chargen memorization`."""

from __future__ import annotations

import json
from pathlib import Path

from chargen.storage import checkpoint
from tests.sentiment.making import BYTES, save_lm

from .conftest import Command

SIZES = ("--length", 20, "--context", 30, "--passages", 50)


def test_a_text_that_repeats_itself_comes_back(
    chargen: Command, trained: Path, corpus: Path, tmp_path: Path
) -> None:
    result = chargen("memorization", trained, corpus, *SIZES, "--json")
    assert result.code == 0
    figures = json.loads(result.out)
    assert figures["passages"] == figures["held_out"]["passages"] == 50
    assert figures["share"] == figures["reproduced"] / 50
    other = tmp_path / "other.txt"
    other.write_text("zyx wvu tsr qpo nml kji hgf edc ba\n" * 40)
    strange = json.loads(chargen("memorization", trained, other, *SIZES, "--json").out)
    assert strange["share"] == 0
    assert strange["mean_characters"] < figures["mean_characters"]


def test_only_text_that_training_held_out_is_called_held_out(
    chargen: Command, trained: Path, corpus: Path, tmp_path: Path
) -> None:
    stored = checkpoint.load(trained)
    for number, reading in enumerate(({"valid": "other.txt"}, {"valid_fraction": 0})):
        stored.document("config")["corpus"]["config"] |= reading
        checkpoint.save(tmp_path / str(number), stored)
        result = chargen("memorization", tmp_path / str(number), corpus, *SIZES, "--json")
        assert result.code == 0, result.err
        assert "held_out" not in json.loads(result.out)


def test_a_model_of_bytes_counts_bytes(chargen: Command, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\u5b57" * 400, encoding="utf-8")
    result = chargen("memorization", save_lm(tmp_path / "bytes", BYTES), text, *SIZES)
    assert result.out.splitlines()[0].endswith(" bytes on average")


def test_what_people_read(chargen: Command, trained: Path, corpus: Path) -> None:
    result = chargen("memorization", trained, corpus, *SIZES, "--show", 2)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].startswith("of training text:")
    assert lines[1].startswith("of held-out text:")
    assert len(lines) == 4
    count, passage = lines[2].split(maxsplit=1)
    assert json.loads(passage) in corpus.read_text()
    assert len(json.loads(passage)) == int(count)
    assert result.err.strip()
