"""Character n-grams count what they should, learn from labels, and vote."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chargen.sentiment import ngrams
from chargen.sentiment.ngrams import BITS, NgramModel, features, summed

GOOD = ["a lovely film", "lovely and warm", "so warm, so lovely", "I was warmed by this one"]
BAD = ["a dreadful film", "dreadful and cold", "so cold, so dreadful", "this one is dreadful"]
TEXTS, TARGETS = GOOD + BAD, np.array([1] * 4 + [0] * 4)
EVEN = np.ones(1 << BITS, np.float32)


@pytest.fixture(scope="module", autouse=True)
def _all_buckets() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "BITS", BITS)
        yield


def slow_ngrams(text: str) -> list[str]:
    """Each n-gram as a string, one by one."""
    padded = " " + " ".join(text.lower().split()) + " "
    shortest, longest = ngrams.ORDERS
    return [
        padded[i : i + order]
        for order in range(shortest, longest + 1)
        for i in range(len(padded) - order + 1)
    ]


@given(st.text(max_size=60))
def test_as_many_distinct_buckets_as_distinct_ngrams(text: str) -> None:
    buckets = ngrams._buckets(text)
    expected = slow_ngrams(text)
    assert len(buckets) == len(expected)
    # The same n-gram always falls into the same bucket, wherever it stands.
    by_name: dict[str, int] = {}
    for name, bucket in zip(expected, buckets.tolist(), strict=True):
        assert by_name.setdefault(name, bucket) == bucket
    assert 0 <= buckets.min(initial=0) <= buckets.max(initial=0) < 1 << BITS


@given(st.text(max_size=200))
def test_features_have_length_one(text: str) -> None:
    indices, values = features(text, EVEN)
    assert len(indices) == len(values)
    if len(values):
        assert np.linalg.norm(values) == pytest.approx(1, abs=1e-5)


def test_hardly_two_ngrams_share_a_bucket() -> None:
    text = " ".join(f"{number:x}" for number in range(3000))
    names = set(slow_ngrams(text))
    expected = (1 << BITS) * (1 - np.exp(-len(names) / (1 << BITS)))  # buckets hit by chance
    assert len(set(ngrams._buckets(text).tolist())) == pytest.approx(expected, rel=0.02)


def test_learns_what_words_mean() -> None:
    (model,) = NgramModel.fit(TEXTS, TARGETS, 2)
    found = model.logits(["what a lovely, warm day", "dreadful, cold day", ""])
    assert found.shape == (3, 2)
    assert found[:2].argmax(-1).tolist() == [1, 0]
    assert found.sum(-1) == pytest.approx([0, 0, 0], abs=1e-4)  # no class is favoured as such


def test_agrees_with_scikit_learn() -> None:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    (model,) = NgramModel.fit(TEXTS, TARGETS, 2)
    dense = np.zeros((len(TEXTS), 1 << BITS), np.float32)
    for row, text in enumerate(TEXTS):
        indices, values = features(text, model.idf)
        dense[row, indices] = values
    again = LogisticRegression(C=ngrams.STRENGTH, max_iter=100).fit(csr_matrix(dense), TARGETS)
    logits = torch.from_numpy(model.logits(TEXTS))
    expected = again.predict_proba(csr_matrix(dense))
    assert logits.softmax(-1).numpy() == pytest.approx(expected, abs=1e-4)


def test_unlabelled_texts_spread_what_labels_say() -> None:
    """ "sunny" never has a label, but goes with "lovely" in texts without one."""
    more = ["lovely sunny place", "sunny, lovely", "dreadful gloomy place", "gloomy, dreadful"] * 5
    members = NgramModel.fit(TEXTS, TARGETS, 2, unlabelled=more)
    assert len(members) == 2
    found = members[1].logits(["sunny", "gloomy"])
    assert found.argmax(-1).tolist() == [1, 0]
    alone = members[0].logits(["sunny", "gloomy"])
    gap = found[0, 1] - found[0, 0]
    assert gap > abs(alone[0, 1] - alone[0, 0])


def test_three_classes_and_one_without_a_text() -> None:
    (model,) = NgramModel.fit([*TEXTS, "plain"], np.array([*TARGETS, 2]), 4)
    assert model.logits(["plain", "lovely"]).argmax(-1).tolist() == [2, 1]
    assert model.logits(["anything"]).argmin(-1).tolist() == [3]


def test_summed_is_the_weighted_sum() -> None:
    members = NgramModel.fit(TEXTS, TARGETS, 2, unlabelled=TEXTS)
    both = summed(members, [0.3, 2.0])
    expected = 0.3 * members[0].logits(GOOD) + 2.0 * members[1].logits(GOOD)
    assert both.logits(GOOD) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_there_and_back(dtype: torch.dtype) -> None:
    (model,) = NgramModel.fit(TEXTS, TARGETS, 2)
    stored = {name: value.to(dtype) for name, value in model.to_tensors().items()}
    again = NgramModel.from_tensors(stored, 2)
    assert again.logits(TEXTS) == pytest.approx(model.logits(TEXTS), abs=1e-2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"idf": None}, "tensors"),
        ({"biases": torch.zeros(3)}, "shape"),
        ({"biases": torch.tensor([1, 2])}, "float"),
        ({"biases": torch.tensor([float("nan"), 0.0])}, "finite"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, torch.Tensor | None], words: str) -> None:
    (model,) = NgramModel.fit(TEXTS, TARGETS, 2)
    tensors = {k: v for k, v in (model.to_tensors() | change).items() if v is not None}
    with pytest.raises(ValueError, match=words):
        NgramModel.from_tensors(tensors, 2)
