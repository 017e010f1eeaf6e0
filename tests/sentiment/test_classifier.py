"""Texts in, probabilities out: of each text alone, in order, whatever it is and however many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.errors import ConfigError
from chargen.runtime import precision
from chargen.sentiment import classifier as classifier_module
from chargen.sentiment import members as ngrams_module
from chargen.sentiment import network as batching_module
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.members import NetworkMember
from chargen.storage import checkpoint
from chargen.text.vocabulary import ByteVocabulary, Vocabulary

from .making import BYTES, CHARS, count_ngrams, make_lm, make_network, separable

TEXT = "a day é at ☃ the river."


def made(*vocabularies: Vocabulary, lms: Any = None, clean: str | None = None) -> Classifier:
    vocabularies = vocabularies or (CHARS,)
    changes = lms or [{}] * len(vocabularies)
    encoders = [
        make_lm(vocabulary, seed, **change)
        for seed, (vocabulary, change) in enumerate(zip(vocabularies, changes, strict=True))
    ]
    network = make_network(*encoders, num_classes=3)
    return Classifier([NetworkMember(network, vocabularies)], "xyz", clean)


BACKWARD = {"direction": "backward"}
KINDS: dict[str, Callable[[], Classifier]] = {
    "characters": made,
    "bytes": lambda: made(BYTES),
    "documents": lambda: made(ByteVocabulary(documents=True)),
    "backward": lambda: made(CHARS, lms=[BACKWARD]),
    "backward bytes": lambda: made(BYTES, lms=[BACKWARD]),
    "both": lambda: made(CHARS, CHARS, lms=[{}, BACKWARD]),
    "both bytes": lambda: made(BYTES, BYTES, lms=[{"cell": "gru"}, BACKWARD | {"hidden_size": 5}]),
    "characters and bytes": lambda: made(CHARS, BYTES),
    "two layers": lambda: made(CHARS, lms=[{"num_layers": 2, "tied": True}]),
}
MADE = {name: make() for name, make in KINDS.items()}


@pytest.fixture(scope="module")
def with_ngrams() -> Classifier:
    """A network beside which n-grams vote."""
    plain = made()
    return Classifier([*plain.members, *count_ngrams(separable(30, "xyz"))], plain.labels)


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None)
@given(texts=st.lists(st.text(max_size=30), max_size=6))
def test_a_text_alone_equals_it_in_any_batch(kind: str, texts: list[str]) -> None:
    classifier = MADE[kind]
    together = classifier.predict_proba(texts, cleaned=True)
    assert together.shape == (len(texts), 3)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together.sum(-1), 1, atol=1e-5)
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose(
            classifier.predict_proba([text], cleaned=True)[0], row, atol=1e-5
        )


def test_the_order_is_kept_and_labels_are_the_likeliest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier = made()
    texts = [TEXT[:k] * (1 + k % 5) for k in range(20)]
    with torch.no_grad():  # so that no label is always the likeliest
        usual = np.log(classifier.predict_proba(texts, cleaned=True)).mean(0)
        classifier.require_network().network.head[-1].bias -= torch.from_numpy(usual)
    alone = np.concatenate([classifier.predict_proba([text], cleaned=True) for text in texts])
    monkeypatch.setattr(batching_module, "BATCH_SIZE", 3)
    np.testing.assert_allclose(classifier.predict_proba(texts, cleaned=True), alone, atol=1e-5)
    monkeypatch.setattr(batching_module, "BATCH_SYMBOLS", 60)
    found = classifier.predict_proba(iter(texts), cleaned=True)
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert classifier.predict(texts[1:]) == ["xyz"[i] for i in alone[1:].argmax(-1)]
    assert len(set(classifier.predict(texts[1:]))) > 1


def test_nothing_to_predict() -> None:
    assert MADE["both"].predict_proba([]).shape == (0, 3)
    assert MADE["both"].predict([]) == []
    assert list(MADE["both"].predict_batches([])) == []


@pytest.mark.parametrize("kind", KINDS)
def test_odd_texts(kind: str) -> None:
    classifier = MADE[kind]
    texts = ["", "\0", "\ud800", "★" * 9, "\n\n", "a\r\n\tb", "e\u0301", "👩‍👩‍👧", "\ufeff"]
    found = classifier.predict_proba(texts, cleaned=True)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["characters", "both"])
def test_a_long_text_beside_short_ones(kind: str) -> None:
    classifier = MADE[kind]
    long = "the river and the day. " * 4348  # 100,004 characters
    found = classifier.predict_proba(["a", long, ""], cleaned=True)
    for text, row in zip(["a", "", long], found[[0, 2, 1]], strict=True):
        np.testing.assert_allclose(
            classifier.predict_proba([text], cleaned=True)[0], row, atol=1e-5
        )


def test_texts_are_taken_as_they_are_needed() -> None:
    taken = 0

    def texts() -> Iterator[str]:
        nonlocal taken
        for number in range(10):
            taken = number + 1
            yield TEXT[number:]

    classifier = MADE["characters"]
    batches = classifier.predict_batches(texts(), 4)
    assert taken == 0
    seen = []
    for expected in (4, 8, 10):
        seen.append(next(batches))
        assert taken == expected
    assert next(batches, None) is None
    assert [len(each) for each in seen] == [4, 4, 2]
    everything = classifier.predict_proba(TEXT[number:] for number in range(10))
    np.testing.assert_allclose(np.concatenate(seen), everything, atol=1e-6)


@pytest.mark.parametrize("chunk", [0, -1, 2.5, "4", None])
def test_no_text_is_left_out_by_a_chunk_of_none(chunk: Any) -> None:
    with pytest.raises(ConfigError, match="chunk must be .*, got "):
        MADE["characters"].predict_batches([TEXT], chunk)


def test_ngrams_vote_beside_the_network(with_ngrams: Classifier) -> None:
    network = MADE["characters"].predict_proba([TEXT, ""], cleaned=True)
    assert [model.name for model in with_ngrams.ngrams] == ["ngrams", "words"]
    summed = np.log(network) + sum(m.logits([TEXT, ""]).numpy() for m in with_ngrams.ngrams)
    wanted = np.exp(summed) / np.exp(summed).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        with_ngrams.predict_proba([TEXT, ""], cleaned=True), wanted, atol=1e-5
    )
    np.testing.assert_allclose(
        with_ngrams.predict_proba([""], cleaned=True)[0], wanted[1], atol=1e-5
    )


def test_buckets_without_an_ngram_are_no_parameters() -> None:
    (words,) = count_ngrams(separable(20), "word n-grams")
    count = np.count_nonzero(words.weights) + 2  # and the biases
    assert Classifier([words], ("bad", "good")).parameters == count < words.weights.size / 10


# ---------------------------------------------------------------- what is done to texts first


def test_texts_are_cleaned_as_in_training() -> None:
    plain, cleaning = made(), made(clean="html")
    dirty, clean = "a<br />day &eacute;", "a\nday é"
    assert cleaning.cleaned(dirty) == clean
    assert plain.cleaned(dirty) == dirty
    np.testing.assert_array_equal(
        cleaning.predict_proba([dirty]), plain.predict_proba([cleaning.cleaned(dirty)])
    )
    np.testing.assert_array_equal(cleaning.trace(dirty), plain.trace(cleaning.cleaned(dirty)))
    assert cleaning.unknown_characters("&eacute;&#9733;<b>") == "★"
    assert cleaning.unknown_characters("<b>&amp;", cleaned=True) == "<>&;"
    # Once is enough: what reads as a tag after that was text.
    twice = cleaning.predict_proba(["&amp;lt;b&amp;gt;"])
    np.testing.assert_array_equal(twice, plain.predict_proba(["&lt;b&gt;"]))


def test_unknown_characters_are_named_once() -> None:
    classifier = MADE["characters"]
    assert classifier.unknown_characters("a★ bß★\t") == "★ß\t"
    assert classifier.unknown_characters("") == ""
    assert MADE["bytes"].unknown_characters("★ß\0") == ""
    assert MADE["both"].unknown_characters("★★") == "★"
    assert MADE["characters and bytes"].unknown_characters("★é") == "★"


def test_unknown_characters_cost_nothing() -> None:
    classifier = MADE["characters"]
    np.testing.assert_array_equal(
        classifier.predict_proba(["a ★ day"]), classifier.predict_proba(["a ß day"])
    )


# ---------------------------------------------------------------- trace


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [TEXT, "", "é", "plain", "★é\ud800☃"])
def test_a_trace_has_the_verdict_on_every_beginning(kind: str, text: str) -> None:
    classifier = MADE[kind]
    trace = classifier.trace(text)
    assert trace.shape == (len(text) + 1, 3)
    assert trace.dtype == np.float32
    beginnings = classifier.predict_proba(
        [text[:end] for end in range(len(text) + 1)], cleaned=True
    )
    np.testing.assert_allclose(trace, beginnings, atol=1e-5)
    np.testing.assert_allclose(trace.sum(-1), 1, atol=1e-5)


def test_long_texts_are_traced_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = MADE["both"]
    whole = classifier.trace(TEXT * 4)
    monkeypatch.setattr(classifier_module, "BATCH_SYMBOLS", 300)
    np.testing.assert_allclose(classifier.trace(TEXT * 4), whole, atol=1e-5)


def test_a_trace_with_ngrams(with_ngrams: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    text = separable(1, "xyz").texts[0] + TEXT
    beginnings = with_ngrams.predict_proba(
        [text[:end] for end in range(len(text) + 1)], cleaned=True
    )
    np.testing.assert_allclose(with_ngrams.trace(text), beginnings, atol=1e-5)
    monkeypatch.setattr(
        ngrams_module, "MAX_TRACED_PREFIXES", 7
    )  # of a long text not every beginning
    rough = with_ngrams.trace(text)
    assert rough.shape == beginnings.shape
    np.testing.assert_allclose(rough[[0, -1]], beginnings[[0, -1]], atol=1e-5)


# ---------------------------------------------------------------- loading


def test_loading(tiny_classifier: Path) -> None:
    classifier = Classifier.load(tiny_classifier)
    assert classifier.labels == ("bad", "good")
    (member,) = classifier.members
    assert member is classifier.require_network()
    assert classifier.require_network().vocabularies == (CHARS,)
    assert classifier.clean is None
    assert classifier.checkpoint is not None
    assert not classifier.require_network().network.training


def test_bfloat16_differs_little(tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "reference_step", lambda device: lambda: None)
    single = Classifier.load(tiny_classifier)
    half = Classifier.load(tiny_classifier, precision="bfloat16")
    assert half.require_network().precision == "bfloat16"
    texts = [TEXT, ".", "a day"]
    np.testing.assert_allclose(half.predict_proba(texts), single.predict_proba(texts), atol=0.05)


# ---------------------------------------------------------------- saving, and scikit-learn's words


@pytest.mark.parametrize("kind", KINDS)
def test_saving_keeps_all_of_it(kind: str, with_ngrams: Classifier, tmp_path: Path) -> None:
    classifier = MADE[kind]
    classifier.save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved")
    assert loaded.labels == classifier.labels
    assert loaded.require_network().vocabularies == classifier.require_network().vocabularies
    np.testing.assert_array_equal(loaded.predict_proba([TEXT]), classifier.predict_proba([TEXT]))
    with_ngrams.save(tmp_path / "saved", force=True)
    loaded = Classifier.load(tmp_path / "saved")
    assert len(loaded.ngrams) == 2
    np.testing.assert_allclose(
        loaded.predict_proba([TEXT]), with_ngrams.predict_proba([TEXT]), rtol=1e-5
    )
    for name, some in (("alone", loaded.members[:1]), ("counts", loaded.members[1:])):
        part = Classifier(some, loaded.labels)
        part.save(tmp_path / name)
        again = Classifier.load(tmp_path / name)
        assert [each.name for each in again.members] == [each.name for each in some]
        np.testing.assert_allclose(
            again.predict_proba([TEXT]), part.predict_proba([TEXT]), rtol=1e-5
        )
    made(clean="html").save(tmp_path / "cleaning")
    assert Classifier.load(tmp_path / "cleaning").clean == "html"


def test_what_a_run_tells_is_saved_too(tiny_classifier: Path, tmp_path: Path) -> None:
    stored = checkpoint.load(tiny_classifier)
    stored.documents["config"]["results"] = {"steps": 3}
    checkpoint.save(tmp_path / "run", stored)
    Classifier.load(tmp_path / "run").save(tmp_path / "copy")
    assert checkpoint.load(tmp_path / "copy").document("config")["results"] == {"steps": 3}


def test_score_is_the_share_that_is_right() -> None:
    classifier = MADE["characters"]
    texts = [TEXT[k:] for k in range(8)]
    found = classifier.predict(texts)
    assert classifier.classes_.tolist() == ["x", "y", "z"]
    assert [classifier.classes_[i] for i in classifier.predict_proba(texts).argmax(-1)] == found
    assert classifier.score(iter(texts), iter(found)) == 1
    other = {"x": "y", "y": "z", "z": "x"}
    assert classifier.score(texts, [other[found[0]], *found[1:]]) == pytest.approx(7 / 8)
    numbered = Classifier(classifier.members, ("0", "1", "2"))
    indices = ["xyz".index(label) for label in found]
    assert numbered.score(texts, indices) == numbered.score(texts, np.array(indices)) == 1
