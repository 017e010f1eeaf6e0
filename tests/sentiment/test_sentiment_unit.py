from __future__ import annotations

import numpy as np
import pytest

from chargen import LanguageModel
from chargen.errors import ConfigError, CorpusError
from chargen.sentiment.explain import encoder_features, find_unit, unit_trace
from chargen.sentiment.members import NetworkMember
from chargen.text.vocabulary import Vocabulary

from .making import BYTES, CHARS, make_lm, make_network

UNITS = 12


def features_with(unit: int, pooling: int, sign: float, count: int = 200) -> tuple:
    """Noise, and one unit that differs between the classes."""
    chance = np.random.default_rng(0)
    features = chance.normal(size=(count, 3 * UNITS)).astype(np.float32)
    labels = ["good" if i % 3 == 0 else "bad" for i in range(count)]
    column = pooling * UNITS + unit
    features[:, column] += sign * 4 * np.array([name == "good" for name in labels])
    features[:, 5] = 0.25  # a unit that never moves
    return features, labels


@pytest.mark.parametrize(("pooling", "sign"), [(0, 1.0), (1, -1.0)])
def test_the_unit_that_tells_is_found(pooling: int, sign: float) -> None:
    features, labels = features_with(7, pooling, sign)
    unit = find_unit(features, labels)
    assert (unit.index, unit.pooling) == (7, ("last", "mean")[pooling])
    assert (unit.label, unit.others, unit.above) == ("good", "bad", sign > 0)
    assert unit.accuracy > 0.9
    assert 0 < sign * unit.threshold < 4
    edges, inside, outside = unit.histogram(20)
    assert len(edges) == 21
    assert inside.sum() == pytest.approx(1)
    assert outside.sum() == pytest.approx(1)
    assert unit.to_dict()["texts"] == 200


def test_accuracy_is_not_that_of_the_texts_that_chose() -> None:
    chance = np.random.default_rng(1)
    features = chance.normal(size=(40, 3 * 500)).astype(np.float32)
    unit = find_unit(features, ["a", "b"] * 20)  # nothing to find
    assert unit.accuracy < 0.75


@pytest.mark.parametrize("sign", [1, -1])
def test_the_threshold_lies_between_values_that_differ(sign: int) -> None:
    values = np.repeat([0, 1, 1, 1, 1], 2).astype(np.float32)  # every second text chooses
    labels = np.repeat(["x", "x", "x", "y", "y"], 2).tolist()
    unit = find_unit(np.stack([sign * values] * 3, -1), labels, "y")
    assert unit.threshold == sign * 0.5
    assert unit.accuracy == pytest.approx(2 / 3)


def test_the_largest_features_take_no_part() -> None:
    features, labels = features_with(3, 2, 1.0)
    assert find_unit(features, labels).accuracy < 0.75


def test_what_cannot_be_told_is_said() -> None:
    features, labels = features_with(7, 0, 1.0)
    with pytest.raises(ConfigError, match="'nice'.*'bad', 'good'"):
        find_unit(features, labels, "nice")
    with pytest.raises(CorpusError, match="at least two texts"):
        find_unit(features[:4], ["a", "b", "b", "b"], "a")
    many = find_unit(features, [*labels[:100], *["so-so"] * 100], "bad")
    assert many.others == "not bad"


def test_features_are_those_of_the_language_model() -> None:
    texts = ["a river", "", "the lamp fell into the river.", "stone"]
    lm = LanguageModel(make_lm(), CHARS)
    member = NetworkMember(make_network(lm.model, make_lm(seed=2)), [CHARS, CHARS])
    np.testing.assert_allclose(encoder_features(member, texts), lm.encode(texts), atol=1e-6)


@pytest.mark.parametrize("vocabulary", [CHARS, BYTES])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_unit_along_a_text(vocabulary: Vocabulary, direction: str) -> None:
    lm, text = make_lm(vocabulary, direction=direction), "a café ☃"
    member = NetworkMember(make_network(lm), [vocabulary])
    values = unit_trace(member, text, 3)
    ends = range(len(text) + 1)
    parts = [text[i:] if direction == "backward" else text[:i] for i in ends]
    np.testing.assert_allclose(values, encoder_features(member, parts)[:, 3], atol=1e-6)
