"""TF-IDF and logistic regression: counts of words, or of characters, and a linear layer.

Wang & Manning 2012 ("Baselines and bigrams") show how much of sentiment this finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.sentiment.baselines.words import tokenise
from chargen.sentiment.metrics import require

KINDS = ("words", "characters")
MIN_TEXTS = 2
"""Terms that stand in fewer texts are left out."""

CHUNK = 2048
"""Texts that are counted together."""

STRENGTH = 10.0
"""Inverse strength of regularisation (C) where there are labels enough."""

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
FEW_LABELS = 2000
"""With fewer labels, cross-validation on them chooses among `STRENGTHS`."""


class TfidfModel:
    """Weights of terms, and a logistic regression on them; made by `fit`.

    A text's features are (1 + ln count) x (1 + ln((1 + n) / (1 + document frequency))) of each
    term, scaled to length 1.

    Attributes
    ----------
    classes : tuple of str
        In the order of the probabilities.
    """

    def __init__(self, counter: Any, idf: NDArray[np.float32], regression: Any) -> None:
        self._counter = counter
        self._idf = idf
        self._regression = regression
        self.classes: tuple[str, ...] = tuple(str(label) for label in regression.classes_)

    def predict_proba(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Probabilities (N, C) of the classes."""
        found = [
            self._regression.predict_proba(_features(self._counter.transform(some), self._idf))
            for some in _chunks(texts)
        ]
        if not found:
            return np.empty((0, len(self.classes)), np.float32)
        return np.concatenate(found).astype(np.float32)

    @property
    def num_parameters(self) -> int:
        """Weights and biases of the regression."""
        return int(self._regression.coef_.size + self._regression.intercept_.size)


def fit(
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    kind: str = "words",
    unlabelled: Iterable[str] = (),
    seed: int = 0,
) -> TfidfModel:
    """Learn from labelled texts.

    Parameters
    ----------
    texts, labels : sequences of str, N
        Two classes or more.
    kind : {"words", "characters"}
        Words and pairs of words, or runs of 2 to 5 characters within words.
    unlabelled : iterable of str
        They only add to the document frequencies of the terms that the labelled texts have.
    seed : int
        Of the folds of cross-validation.

    Raises
    ------
    MissingExtraError
        Without scikit-learn.
    """
    require("TF-IDF with logistic regression")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    counter, counts = _count(texts, kind)
    frequencies = np.bincount(counts.indices, minlength=counts.shape[1])
    number = len(texts)
    for some in _chunks(unlabelled):
        frequencies += np.bincount(counter.transform(some).indices, minlength=counts.shape[1])
        number += len(some)
    kept = _frequent(frequencies)
    counter = _narrowed(counter, kept, kind)
    idf = (1 + np.log((1 + number) / (1 + frequencies[kept]))).astype(np.float32)
    regression = _regression(_features(counts[:, kept], idf), np.array(labels), seed)
    return TfidfModel(counter, idf, regression)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    held: list[str] = []
    for text in texts:
        held.append(text)
        if len(held) == CHUNK:
            yield held
            held = []
    if held:
        yield held


# ---------------------------------------------------------------- terms


def _counter(kind: str, vocabulary: dict[str, int] | None = None) -> Any:
    """What turns texts into a sparse matrix of how often each term stands in each."""
    from sklearn.feature_extraction.text import CountVectorizer

    shared = {"dtype": np.float32, "vocabulary": vocabulary}
    if kind == "words":
        return CountVectorizer(
            tokenizer=tokenise, token_pattern=None, lowercase=False, ngram_range=(1, 2), **shared
        )
    return CountVectorizer(analyzer="char_wb", ngram_range=(2, 5), **shared)


def _count(texts: Sequence[str], kind: str) -> tuple[Any, Any]:
    """A counter of all terms of the texts, and their counts (N, terms)."""
    counter = _counter(kind)
    counts = counter.fit_transform(texts)
    return counter, counts


def _frequent(frequencies: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the terms that stand in enough texts; of all where none does."""
    kept = np.flatnonzero(frequencies >= MIN_TEXTS)
    return kept if len(kept) else np.arange(len(frequencies))


def _narrowed(counter: Any, kept: NDArray[np.int64], kind: str) -> Any:
    """The same counter for the terms that are kept, numbered anew."""
    terms = counter.get_feature_names_out()[kept]
    return _counter(kind, {term: index for index, term in enumerate(terms.tolist())})


def _features(counts: Any, idf: NDArray[np.float32]) -> Any:
    """From counts to the features (N, terms), sparse."""
    from sklearn.preprocessing import normalize

    features = counts.tocsr().astype(np.float32)
    features.data = (1 + np.log(features.data)) * idf[features.indices]
    return normalize(features, copy=False)


# ---------------------------------------------------------------- the regression


def _regression(features: Any, labels: NDArray[np.str_], seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    strength = STRENGTH
    fewest = min(Counter(labels.tolist()).values())
    if len(labels) < FEW_LABELS and fewest >= 2:
        strength = _best_strength(features, labels, min(5, fewest), seed)
    return LogisticRegression(C=strength, max_iter=1000).fit(features, labels)


def _best_strength(features: Any, labels: NDArray[np.str_], folds: int, seed: int) -> float:
    """The strength with the least log loss in cross-validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    losses = {
        strength: -cross_val_score(
            LogisticRegression(C=strength, max_iter=1000),
            features,
            labels,
            cv=parts,
            scoring="neg_log_loss",
        ).mean()
        for strength in STRENGTHS
    }
    return min(losses, key=lambda strength: losses[strength])
