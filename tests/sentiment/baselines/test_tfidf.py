from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from chargen.errors import MissingExtraError
from chargen.sentiment.baselines import tfidf
from chargen.sentiment.baselines.words import tokenise

from .reviews import reviews

TRAIN, TEST = reviews(120), reviews(80, seed=1)


def accuracy(model: tfidf.TfidfModel) -> float:
    best = [model.classes[i] for i in model.predict_proba(TEST.texts).argmax(-1)]
    return float(np.mean([one == label for one, label in zip(best, TEST.labels, strict=True)]))


@pytest.mark.parametrize("kind", tfidf.KINDS)
def test_learns_and_the_same_each_time(kind: str) -> None:
    model = tfidf.fit(TRAIN.texts, TRAIN.labels, kind=kind)
    assert model.classes == ("bad", "good")
    assert accuracy(model) > 0.9
    probabilities = model.predict_proba(TEST.texts)
    assert probabilities.shape == (80, 2)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    again = tfidf.fit(TRAIN.texts, TRAIN.labels, kind=kind)
    assert np.array_equal(again.predict_proba(TEST.texts), probabilities)


def test_three_classes_and_texts_that_say_nothing() -> None:
    train = reviews(150, labels=("bad", "good", "plain"))
    model = tfidf.fit(train.texts, train.labels)
    assert model.classes == ("bad", "good", "plain")
    assert model.num_parameters % 3 == 0
    probabilities = model.predict_proba(["", "zyxwv", "a delight"])
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    assert probabilities[2].argmax() == 1
    assert model.predict_proba([]).shape == (0, 3)


@pytest.mark.parametrize("kind", tfidf.KINDS)
def test_the_features_are_those_of_scikit_learn(kind: str) -> None:
    if kind == "words":
        options: dict[str, Any] = {"tokenizer": tokenise, "token_pattern": None}
        options |= {"lowercase": False, "ngram_range": (1, 2)}
    else:
        options = {"analyzer": "char_wb", "ngram_range": (2, 5)}
    theirs = TfidfVectorizer(min_df=2, sublinear_tf=True, **options).fit(TRAIN.texts)
    ours = tfidf.fit(TRAIN.texts, TRAIN.labels, kind=kind)
    assert ours._counter.vocabulary == theirs.vocabulary_
    features = tfidf._features(ours._counter.transform(TEST.texts), ours._idf)
    np.testing.assert_allclose(
        features.toarray(), theirs.transform(TEST.texts).toarray(), atol=1e-6
    )


def test_unlabelled_texts_add_to_document_frequencies_only() -> None:
    texts, labels = ["good one", "bad two", "good three", "bad four"], ["p", "n", "p", "n"]
    alone = tfidf.fit(texts, labels)
    more = ["one new word"] * 3 + ["good"]
    helped = tfidf.fit(texts, labels, unlabelled=iter(more))
    assert set(alone._counter.vocabulary) == {"good", "bad"}
    # "one" now stands in enough texts; words that no label came with stay out.
    assert set(helped._counter.vocabulary) == {"good", "bad", "one"}
    weights = dict(zip(sorted(helped._counter.vocabulary), helped._idf.tolist(), strict=True))
    assert weights["good"] == pytest.approx(1 + np.log((1 + 8) / (1 + 3)))
    assert weights["one"] == pytest.approx(1 + np.log((1 + 8) / (1 + 4)))


def test_texts_without_a_common_term_keep_all_of_them() -> None:
    model = tfidf.fit(["up", "down"], ["p", "n"])
    assert model.predict_proba(["up", "down"]).argmax(-1).tolist() == [1, 0]


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from chargen.sentiment import metrics

    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'chargen\[sentiment\]'"):
        tfidf.fit(["a", "b"], ["p", "n"])
