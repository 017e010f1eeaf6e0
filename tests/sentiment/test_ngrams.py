"""N-grams of characters and words count what they should, and learn from labels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chargen.sentiment import members as ngrams
from chargen.sentiment.examples import Examples
from chargen.sentiment.members import BUCKET_BITS, CharacterNgrams, NgramModel, WordNgrams

from .making import count_ngrams

GOOD = ("a lovely film", "lovely and warm", "so warm, so lovely", "I was warmed by this one")
BAD = ("a dreadful film", "dreadful and cold", "so cold, so dreadful", "this one is dreadful")
NAMES = ("character n-grams", "word n-grams")


def examples(texts: tuple[str, ...], labels: str) -> Examples:
    return Examples(texts, tuple(labels), tuple(range(len(texts))), "")


DATA = examples(BAD + GOOD, "00001111")


@pytest.fixture(scope="module", autouse=True)
def _all_buckets() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "BUCKET_BITS", BUCKET_BITS)
        yield


@cache
def empty(kind: type[NgramModel]) -> NgramModel:
    """A model that weighs every n-gram alike."""
    idf = np.ones(1 << BUCKET_BITS, np.float32) if kind.has_idf else None
    return kind(np.ones((2, 1 << BUCKET_BITS), np.float32), np.zeros(2, np.float32), idf)


def slow_ngrams(units: list[str], shortest: int, longest: int) -> list[str]:
    """Each n-gram, one by one."""
    return [
        "\0".join(units[i : i + order])
        for order in range(shortest, longest + 1)
        for i in range(len(units) - order + 1)
    ]


@given(st.text(max_size=60))
def test_each_ngram_of_characters_has_its_bucket(text: str) -> None:
    names = slow_ngrams(list(" " + " ".join(text.lower().split()) + " "), 3, 6)
    indices, values = empty(CharacterNgrams).features(text)
    assert len(indices) == len(values) == len(set(names))
    assert len(values) == 0 or np.linalg.norm(values) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's GOOD, isn\u2019t it?!", ["it's", "good", ",", "isn\u2019t", "it", "?", "!"]),
        ("один два", ["один", "два"]),
        (":-)", [":", "-", ")"]),
        ("\ud800", ["\ud800"]),
        ("", []),
    ],
)
def test_each_ngram_of_words_has_its_bucket(text: str, words: list[str]) -> None:
    model = empty(WordNgrams)
    indices, values = model.features(text)
    assert (values == 1).all()
    # Punctuation counts; letters' case and the space between words do not.
    again, _ = model.features("  ".join(words))
    assert indices.tolist() == again.tolist()
    assert len(indices) == len(set(slow_ngrams(words, 1, 3)))


def test_hardly_two_ngrams_share_a_bucket() -> None:
    text = " ".join(f"{number:x}" for number in range(3000))
    names = set(slow_ngrams(list(f" {text} "), 3, 6))
    expected = (1 << BUCKET_BITS) * (
        1 - np.exp(-len(names) / (1 << BUCKET_BITS))
    )  # buckets hit by chance
    assert len(empty(CharacterNgrams).features(text)[0]) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_learns_what_words_mean(name: str) -> None:
    (model,) = count_ngrams(DATA, name)
    found = model.logits(["what a lovely, warm day", "dreadful, cold day"])
    assert found.shape == (2, 2)
    assert found.argmax(-1).tolist() == [1, 0]
    assert found.sum(-1).tolist() == pytest.approx([0, 0], abs=1e-4)  # no class is favoured as such


def test_words_tell_by_their_order() -> None:
    first = tuple(f"dog {verb} man {n}" for n in range(9) for verb in ("bites", "sees"))
    second = tuple(f"man {verb} dog {n}" for n in range(9) for verb in ("bites", "sees"))
    (model,) = count_ngrams(examples(first + second, "0" * 18 + "1" * 18), "word n-grams")
    assert model.logits(["dog bites man", "man sees dog"]).argmax(-1).tolist() == [0, 1]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_of_which_nothing_is_known_says_nothing(name: str) -> None:
    uneven = DATA.select(range(6))
    (model,) = count_ngrams(uneven, name)
    assert model.logits(["", "ⵣⵣⵣⵣ", "ⵣⵣ ⵣ"]).tolist() == [[0, 0]] * 3
    assert (model.biases != 0).all()


def test_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    (model,) = count_ngrams(DATA, "character n-grams")
    dense = np.zeros((len(DATA), 1 << BUCKET_BITS), np.float32)
    for row, text in zip(dense, DATA.texts, strict=True):
        indices, values = model.features(text)
        row[indices] = values
    dense = dense[:, dense.any(0)]
    again = LogisticRegression(C=ngrams.STRENGTH, max_iter=200).fit(dense, DATA.labels)
    found = model.logits(DATA.texts).softmax(-1).numpy()
    assert found == pytest.approx(again.predict_proba(dense), abs=1e-4)


def test_unlabelled_texts_spread_what_labels_say() -> None:
    """ "sunny" never has a label, but goes with "lovely" in texts without one."""
    more = ["lovely sunny place", "sunny, lovely", "dreadful gloomy place", "gloomy, dreadful"] * 5
    gaps = []
    for name in ("latent features", "character n-grams"):
        (model,) = count_ngrams(DATA, name, unlabelled=more)
        found = model.logits(["sunny", "gloomy"])
        gaps.append(float(found[0, 1] - found[0, 0]))
        assert name == "character n-grams" or found.argmax(-1).tolist() == [1, 0]
    assert gaps[0] > abs(gaps[1])


@pytest.mark.parametrize("name", NAMES)
def test_three_classes_and_one_without_a_text(name: str) -> None:
    more = examples((*DATA.texts, "plain", "plain film"), "0000111122")
    (model,) = count_ngrams(more, name, classes=4)
    assert model.logits(["plain", "lovely"]).argmax(-1).tolist() == [2, 1]
    assert model.logits(["a film"]).argmin(-1).tolist() == [3]


def test_latent_features_and_characters_are_one_model() -> None:
    names = ("character n-grams", "latent features")
    parts = [count_ngrams(DATA, name, unlabelled=GOOD)[0] for name in names]
    (both,) = count_ngrams(DATA, *names, unlabelled=GOOD)
    expected = sum(part.logits(GOOD) for part in parts)
    torch.testing.assert_close(both.logits(GOOD), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_there_and_back(dtype: torch.dtype) -> None:
    for model in count_ngrams(DATA):
        stored = {name: value.to(dtype) for name, value in model.to_tensors().items()}
        again = type(model).from_tensors(stored, 2)
        torch.testing.assert_close(
            again.logits(DATA.texts), model.logits(DATA.texts), atol=1e-2, rtol=1e-2
        )


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
    tensors = empty(CharacterNgrams).to_tensors() | change
    given = {name: value for name, value in tensors.items() if value is not None}
    with pytest.raises(ValueError, match=words):
        CharacterNgrams.from_tensors(given, 2)
