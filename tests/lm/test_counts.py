"""The n-gram model beside a network: its equations, and what a model with counts does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import chargen
from chargen.errors import CheckpointError, ConfigError, CorpusError
from chargen.interchange.export import export_onnx
from chargen.interchange.model_page import model_page
from chargen.language_model import LanguageModel
from chargen.lm.counts import LEAST_DISCOUNT, Counts, best_weight
from chargen.storage import checkpoint
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary
from tests.sampling.models import small_model

VERSE = "wer reitet so spät durch nacht und wind? es ist der vater mit seinem kind.\n"
TEXT = VERSE * 30


class Reference:
    """Interpolated modified Kneser-Ney as it is written in Chen & Goodman 1999, sum by sum."""

    def __init__(self, ids: list[int], size: int, order: int) -> None:
        self.size, self.order = size, order
        seen = [
            Counter(tuple(ids[(i + k) % len(ids)] for k in range(length)) for i in range(len(ids)))
            for length in range(1, order + 2)
        ]
        self.counts = [Counter(gram[1:] for gram in longer) for longer in seen[1:]] + [seen[-1]]
        self.discounts = [self._discounts(Counter(each.values())) for each in self.counts]

    def _discounts(self, often: Counter[int]) -> list[float]:
        n1, n2, n3, n4 = (max(1, often[k]) for k in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2)
        found = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
        return [max(LEAST_DISCOUNT, each) for each in found]

    def probability(self, context: tuple[int, ...], symbol: int) -> float:
        counts, discounts = self.counts[len(context)], self.discounts[len(context)]
        lower = self.probability(context[1:], symbol) if context else 1 / self.size
        followers = {s: c for s in range(self.size) if (c := counts[(*context, s)])}
        if not followers:
            return lower
        taken = {s: discounts[min(c, 3) - 1] for s, c in followers.items()}
        own = followers.get(symbol, 0) - taken.get(symbol, 0)
        return (own + sum(taken.values()) * lower) / sum(followers.values())


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    other=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    start=st.integers(0, 5),
    order=st.integers(1, 5),
)
@example(ids=[0, 1], other=[1, 2, 2], start=0, order=1)  # after the last context, the last symbol
def test_the_equations(ids: list[int], other: list[int], start: int, order: int) -> None:
    size = 6
    reference = Reference(ids, size, order)
    counts = Counts(np.array(ids), size, order)
    found = counts.id_probabilities(np.array(other), start)
    contexts = counts.advance(counts.initial_contexts(1), np.array([start]))
    read = [start]
    for symbol, probability in zip(other, found, strict=True):
        row = counts.probabilities(contexts)[0]
        context = tuple(read[-order:])
        expected = [reference.probability(context, s) for s in range(size)]
        np.testing.assert_allclose(row, expected, rtol=1e-9)
        assert row.sum() == pytest.approx(1, abs=1e-12)
        assert row.min() > 0
        assert probability == pytest.approx(row[symbol], rel=1e-12)
        contexts = counts.advance(contexts, np.array([symbol]))
        read.append(symbol)


def test_streams_are_each_by_itself() -> None:
    ids = np.random.default_rng(0).integers(0, 9, 400)
    counts = Counts(ids, 9, 4)
    rows = np.random.default_rng(1).integers(0, 9, (7, 3))
    together = counts.probabilities(counts.contexts_after(rows))
    alone = [counts.probabilities(counts.contexts_after(rows[:, [b]]))[0] for b in range(3)]
    np.testing.assert_array_equal(together, alone)
    nodes = counts.initial_contexts(3)
    for row in rows:
        nodes = counts.advance(nodes, row)
    np.testing.assert_array_equal(counts.contexts_after(rows), nodes)


@pytest.mark.parametrize("weight", [None, 0.2])
def test_a_mixture_is_linear_in_the_probabilities(weight: float | None) -> None:
    ids = np.random.default_rng(0).integers(0, 9, 400)
    counts = Counts(ids, 9, 4) if weight is None else Counts(ids, 9, 4, weight)
    w = weight or 0.5
    logits = np.random.default_rng(1).normal(size=(7, 9)) * 3
    network = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    nodes = counts.contexts_after(ids[None, :7])
    found = np.exp(counts.mix(logits, nodes))
    np.testing.assert_allclose(found, (1 - w) * network + w * counts.probabilities(nodes), 1e-12)
    chosen = network[np.arange(7), ids[:7]]
    found = np.exp(counts.mix_log_probs(np.log(chosen), ids[:7].astype(np.uint8), 3))
    expected = (1 - w) * chosen + w * counts.id_probabilities(ids[:7], 3)
    np.testing.assert_allclose(found, expected, 1e-12)


def test_many_symbols_are_counted_too() -> None:
    ids = np.tile(np.random.default_rng(0).integers(60_000, 70_000, 300), 5)
    counts = Counts(ids, 70_001, 3)
    found = counts.id_probabilities(ids, 70_000)
    assert found[4:].min() > 0.3
    row = counts.probabilities(counts.contexts_after(ids[:10, None]))[0]
    assert row.argmax() == ids[10]
    assert row.sum() == pytest.approx(1)


def test_the_weight_is_the_best_one() -> None:
    network, counted = np.random.default_rng(3).uniform(0.01, 1, (2, 500))
    weight = best_weight(network, counted)

    def nats(w: float) -> float:
        return -float(np.log((1 - w) * network + w * counted).mean())

    assert 0.1 < weight < 0.9
    assert nats(weight) < min(nats(weight - 0.01), nats(weight + 0.01))
    # The other one is never given up.
    assert best_weight(counted, counted * 1e-9) == 1e-6
    assert best_weight(counted * 1e-9, counted) == 1 - 1e-6


# ---------------------------------------------------------------- a model with counts


def plain(direction: str = "forward", level: str = "char") -> LanguageModel:
    vocabulary = ByteVocabulary() if level == "byte" else CharVocabulary("".join(sorted(set(TEXT))))
    return LanguageModel(small_model(vocabulary.size, direction=direction), vocabulary)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("level", ["char", "byte"])
def test_scores_are_those_of_the_mixture(direction: str, level: str) -> None:
    lm = plain(direction, level)
    counted = lm.with_counts(TEXT, VERSE, order=6)
    assert counted.counts is not None
    ids = lm.vocabulary.encode(VERSE).astype(np.int64)
    step = 1 if direction == "forward" else -1
    reading = lm.vocabulary.encode(TEXT)[::step]
    plainly = Counts(np.array(reading), lm.vocabulary.size, 6)
    by_count = plainly.id_probabilities(ids[::step], lm.vocabulary.start_id)[::step]
    weight = counted.counts.weight
    if level == "char":
        network = np.exp(lm.score(VERSE, as_is=True).log_probs.astype(np.float64))
        expected = np.log((1 - weight) * network + weight * by_count)
        found = counted.score(VERSE, as_is=True)
        np.testing.assert_allclose(found.log_probs, expected, rtol=1e-4, atol=1e-5)
    gain = lm.score(VERSE).bits_per_char - counted.score(VERSE).bits_per_char
    assert gain > 1
    assert lm.counts is None


def test_a_decoder_predicts_what_is_scored() -> None:
    counted = plain().with_counts(TEXT)
    ids = counted.vocabulary.encode(VERSE).astype(np.int64)
    decoder = counted.decoder.clone()
    start = torch.tensor([counted.vocabulary.start_id, *ids[:3]])
    rows = [decoder.prefill(start)[0]]
    decoder.select([0, 0])
    rows += [decoder.step(torch.tensor([i, i]))[1].clone() for i in ids[3:-1]]
    found = torch.stack(rows)[torch.arange(len(ids) - 3), torch.from_numpy(ids[3:])]
    expected = counted.score(VERSE, as_is=True).log_probs[3:]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_it_writes_the_same_text_for_a_seed_after_it_was_stored(tmp_path: Path) -> None:
    counted = plain().with_counts(TEXT)
    counted.save(tmp_path / "model")
    again = chargen.load(tmp_path / "model")
    assert again.generate("wer", seed=4) == counted.generate("wer", seed=4)
    assert again.score(VERSE).nats_per_char == counted.score(VERSE).nats_per_char
    texts = [each.text for each in again.sample("wer", 3, seed=4, max_chars=80)]
    assert texts[1] == again.generate("wer", seed=5, max_chars=80)
    assert "".join(again.stream("wer", seed=5, max_chars=80)) == texts[1]


def test_the_last_tenth_weighs_what_the_rest_counts() -> None:
    lm = plain()
    place = round(0.9 * len(TEXT))
    one, two = lm.with_counts(TEXT), lm.with_counts(TEXT[:place], TEXT[place:])
    assert one.counts is not None
    assert two.counts is not None
    assert one.counts.weight == two.counts.weight
    np.testing.assert_array_equal(one.counts.ids, two.counts.ids)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_of_a_long_text_the_end_is_counted(direction: str) -> None:
    lm = plain(direction)
    some = lm.with_counts(TEXT, VERSE, max_characters=500).counts
    end = lm.with_counts(TEXT[-500:], VERSE).counts
    assert some is not None
    assert end is not None
    assert some.weight == end.weight
    np.testing.assert_array_equal(some.ids, end.ids)
    with pytest.raises(ConfigError, match="--max-characters must be at least 1"):
        lm.with_counts(TEXT, VERSE, max_characters=0)


@pytest.mark.parametrize(
    ("texts", "order", "error", "words"),
    [
        ((TEXT,), 0, ConfigError, "--order must be at least 1"),
        ((TEXT,), 17, ConfigError, "--order must be at most 16"),
        (("",), 8, CorpusError, "counts need a text"),
        ((TEXT, ""), 8, CorpusError, "counts need a text"),
        ((3,), 8, CorpusError, "text"),
    ],
)
def test_what_cannot_be_counted(
    texts: tuple[str, ...], order: int, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        plain().with_counts(*texts, order=order)


def test_an_export_is_refused(tmp_path: Path) -> None:
    counted = plain().with_counts(TEXT)
    with pytest.raises(ConfigError, match="chargen count"):
        model_page(counted, "title")
    pytest.importorskip("onnx", reason="needs the extra chargen[onnx]")
    with pytest.raises(ConfigError, match="chargen count"):
        export_onnx(counted, tmp_path / "out")
    assert not (tmp_path / "out").exists()


Change = Callable[[checkpoint.Checkpoint], object]

DAMAGE: dict[str, tuple[Change, str]] = {
    "no weight": (lambda c: c.documents["config"]["counts"].pop("weight"), "no weight"),
    "weight": (lambda c: c.documents["config"]["counts"].update(weight=1.0), "below 1"),
    "order": (lambda c: c.documents["config"]["counts"].update(order=99), "at most 16"),
    "other": (lambda c: c.documents["config"]["counts"].update(a=1), "unknown field"),
    "no object": (lambda c: c.documents["config"].update(counts=3), "not an object"),
    "no configuration": (lambda c: c.documents["config"].pop("counts"), "not an object"),
    "no ids": (lambda c: c.tensors.pop("counts"), "no list of ids"),
    "empty": (lambda c: c.tensors.update(counts={"ids": torch.zeros(0).byte()}), "no list of ids"),
    "floats": (lambda c: c.tensors.update(counts={"ids": torch.zeros(9)}), "no list of ids"),
    "large": (lambda c: c.tensors.update(counts={"ids": torch.tensor([99, 200]).byte()}), "not sy"),
    "negative": (lambda c: c.tensors.update(counts={"ids": torch.tensor([-1]).int()}), "not sy"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_one_is_refused(name: str, tmp_path: Path) -> None:
    change, words = DAMAGE[name]
    plain().with_counts(TEXT).save(tmp_path / "model")
    stored = checkpoint.load(tmp_path / "model")
    change(stored)
    checkpoint.save(tmp_path / "model", stored)
    for read in (chargen.load, chargen.verify):
        with pytest.raises(CheckpointError, match=words):
            read(tmp_path / "model")


def test_what_is_stored(tmp_path: Path) -> None:
    counted = plain().with_counts(TEXT, order=5)
    counted.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert counted.counts is not None
    assert config["counts"] == {"order": 5, "weight": counted.counts.weight}
    stored = safetensors.torch.load_file(tmp_path / "model" / "counts.safetensors")
    kept = counted.vocabulary.encode(TEXT)[: round(0.9 * len(TEXT))]
    np.testing.assert_array_equal(stored["ids"].numpy(), kept)
    assert chargen.verify(tmp_path / "model").tensors > len(stored)
    again = chargen.load(tmp_path / "model")
    again.counts = None
    again.save(tmp_path / "alone")
    assert chargen.load(tmp_path / "alone").counts is None
