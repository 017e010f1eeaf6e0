"""Scores as rows add up, and tables open as they are."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.errors import ConfigError
from chargen.interchange.score_tables import (
    character_rows,
    document_row,
    surprise,
    table_delimiter,
    word_rows,
    write_rows,
)
from chargen.language_model import Score

nats = st.floats(-1e4, 0, width=32)
scores = st.lists(st.tuples(st.sampled_from("ab \n\u00a0\u732b,"), nats), min_size=1).map(
    lambda found: Score("".join(c for c, _ in found), np.array([n for _, n in found], np.float32))
)


@given(scores, st.randoms())
def test_words_and_characters_add_up_to_their_document(score: Score, order: random.Random) -> None:
    whole = document_row(score)
    assert whole["bits"] == pytest.approx(
        -float(score.log_probs.sum(dtype=float)) / math.log(2), abs=1e-6
    )
    assert whole["bits_per_char"] == pytest.approx(score.bits_per_char, abs=1e-6)
    words = list(word_rows(score))
    parts = [row[name] for row in words for name in ("bits", "end_bits", "space_bits")]
    characters = [row["bits"] for row in character_rows(score)]
    for values in (parts, characters):
        order.shuffle(values)
        assert sum(values) == whole["bits"]  # to the last digit, in any order
    assert "".join(row["text"] for row in words) == "".join(score.text.split())
    assert "".join(row["text"] for row in character_rows(score)) == score.text


def test_the_character_after_a_word_is_not_in_it() -> None:
    text = " \u00e9t\u00e9,  no\n"
    bits = [1.0, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    score = Score(text, np.array(bits, np.float32) * np.float32(-math.log(2)))
    rows = [
        tuple(round(v) if isinstance(v, float) else v for v in row.values())
        for row in word_rows(score)
    ]
    assert rows == [
        (1, "", 0, 1, 0),
        (2, "\u00e9t\u00e9,", 2 + 4 + 8 + 16, 32, 64),
        (3, "no", 128 + 256, 512, 0),
    ]
    assert surprise(score)[3] == pytest.approx(8)


CELLS = ['"', ",", "\t", "\n", "\r\n", "\r", " ", "a\u2028b", "\u732b", "NA", "=1", "'"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.CSV.gz"])
def test_a_table_gives_back_what_was_written(tmp_path: Path, name: str) -> None:
    rows = [{"text": cell, "bits": 0.1 + i} for i, cell in enumerate(CELLS)]
    write_rows(str(tmp_path / name), table_delimiter(name, "--table"), rows)
    pandas = pytest.importorskip("pandas", reason="needs chargen[web]")
    found: Any = pandas.read_csv(
        tmp_path / name,
        sep="\t" if "tsv" in name else ",",
        compression="gzip" if name.endswith("gz") else None,
        keep_default_na=False,
    )
    assert list(found.columns) == ["text", "bits"]
    assert list(found["text"]) == CELLS
    assert list(found["bits"]) == [row["bits"] for row in rows]


def test_a_table_of_nothing_and_one_without_a_form(tmp_path: Path) -> None:
    write_rows(str(tmp_path / "a.csv"), ",", [])
    assert list(csv.reader((tmp_path / "a.csv").read_text().splitlines())) in ([], [[]])
    for name in ("a", "a.xlsx", "a.gz", "csv"):
        with pytest.raises(ConfigError, match=r"--table must end in .csv or .tsv, got"):
            table_delimiter(name, "--table")
