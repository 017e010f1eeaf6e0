"""Figures against their definitions."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.errors import CorpusError, MissingExtraError
from chargen.sentiment.metrics import calibration_error, evaluate

CLASSES = ("neg", "mid", "pos")


def test_by_hand() -> None:
    chances = np.array(
        [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.1, 0.3, 0.6]], dtype=np.float32
    )
    labels = ["neg", "mid", "mid", "pos"]
    before = chances.copy()
    found = evaluate(labels, chances, CLASSES)
    assert np.array_equal(before, chances)
    assert found["accuracy"] == 0.75
    assert found["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert found["labels"] == list(CLASSES)
    assert found["texts"] == 4
    assert found["log_loss"] == pytest.approx(-sum(map(math.log, (0.7, 0.3, 0.8, 0.6))) / 4)
    assert found["ece"] == pytest.approx((0.3 + 0.5 + 0.2 + 0.4) / 4, abs=1e-6)
    assert found["per_class"]["neg"] == pytest.approx(
        {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": 1}
    )
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    json.dumps(found)  # plain numbers


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20))
def test_any_verdicts_give_finite_figures(pairs: list[tuple[int, int]]) -> None:
    chances = np.eye(3, dtype=np.float32)[[predicted for _, predicted in pairs]]
    found = evaluate([CLASSES[true] for true, _ in pairs], chances, CLASSES)
    right = sum(true == predicted for true, predicted in pairs) / len(pairs)
    assert found["accuracy"] == pytest.approx(right)
    assert found["ece"] == pytest.approx(1 - right)
    assert math.isfinite(found["log_loss"])
    assert sum(map(sum, found["confusion"])) == len(pairs)
    assert sum(one["support"] for one in found["per_class"].values()) == len(pairs)


def test_calibration_error_is_within_bins() -> None:
    # Two texts in one bin, one of them right: the bin is right half of the time.
    assert calibration_error(np.array([0.5, 0.5]), np.array([True, False])) == pytest.approx(0)
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0
    # The upper end belongs to its bin: 2/15 and 0.1 share the second.
    assert calibration_error(np.array([2 / 15, 0.1]), np.array([True, False])) == pytest.approx(
        (1 - 2 / 15 - 0.1) / 2
    )


@pytest.mark.parametrize(
    ("labels", "chances", "words"),
    [
        ([], np.empty((0, 3)), "no labelled texts"),
        (["neg"], np.ones((1, 2)) / 2, "do not fit"),
        (["good"], np.ones((1, 3)) / 3, "'good' is not one of .*'neg', 'mid', 'pos'"),
        (["neg", "neg"], np.array([[1, 0, 0], [np.nan, 0, 1]]), "text 2 are not numbers"),
        (["neg"], np.array([[1.5, -0.5, 0]]), "text 1 are not numbers"),
    ],
)
def test_what_has_no_figures(labels: list[str], chances: np.ndarray, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        evaluate(labels, chances, CLASSES)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"chargen\[sentiment\]"):
        evaluate(["neg"], np.ones((1, 3)) / 3, CLASSES)
