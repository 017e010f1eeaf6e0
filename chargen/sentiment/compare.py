"""Comparison of chargen's classifiers with TF-IDF and logistic regression on the same texts.

The baseline is scikit-learn's; Wang & Manning 2012 ("Baselines and bigrams") show how good such
linear models are at sentiment.
"""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.runtime.device import restored_settings, set_threads
from chargen.runtime.seeds import sklearn_seed
from chargen.sentiment import metrics
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import OURS, CompareConfig, ExamplesConfig
from chargen.sentiment.examples import Examples
from chargen.sentiment.finetune import finetune
from chargen.sentiment.splitting import subset
from chargen.training.reporting import Reporter

STRENGTH = 10.0
"""Inverse regularisation strength (C) unless cross-validation chooses it."""

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
FEW_LABELS = 2000
"""With fewer labels, cross-validation chooses C from `STRENGTHS`."""


@dataclass(frozen=True)
class Row:
    """The results of one system."""

    model: str
    accuracy: float  # accuracy to ece: on the test texts, see `metrics.evaluate`
    macro_f1: float
    log_loss: float
    ece: float
    # labelled texts given to the system, including those for validation; for an already trained
    # classifier, the number that it learnt from, or None if its checkpoint does not state it
    labels: int | None
    parameters: int  # learnt numbers; for a probe, including those of the encoder
    train_seconds: float | None  # without the training of the encoder; None if unknown
    texts_per_second: float  # speed of prediction, from texts to probabilities

    def __str__(self) -> str:
        return (
            f"{self.model}: accuracy {self.accuracy:.4f}, macro-F1 {self.macro_f1:.4f}, "
            f"{self.texts_per_second:,.0f} texts/s"
        )


@restored_settings()
def compare(
    train: Examples,
    test: Examples,
    config: CompareConfig,
    reporter: Reporter | None = None,
    reading: ExamplesConfig | None = None,
) -> list[Row]:
    """Train each system on the same texts and evaluate it on the same test texts.

    Parameters
    ----------
    train : Examples
        `config.labels` of these texts are used; chargen's classifiers, except the probe, hold back
        a part of them for validation.
    test : Examples
        Used only for the figures.
    config : CompareConfig
    reporter : Reporter, optional
    reading : ExamplesConfig, optional
        How `train` and `test` were read; the unlabelled texts are read in the same way.

    Raises
    ------
    CheckpointError, ConfigError, CorpusError, TrainingError, MissingExtraError
    """
    reporter, reading = reporter or Reporter(), reading or ExamplesConfig()
    metrics.require_sklearn("a comparison")
    set_threads(config.threads)
    for name in ("feature_extraction.text", "linear_model", "model_selection"):
        importlib.import_module(f"sklearn.{name}")  # takes seconds, which are not those of training
    trained = [Classifier.load(path, config.device) for path in config.classifier]
    for path, classifier in zip(config.classifier, trained, strict=True):
        _check_labels(path, classifier, test)
        if set(classifier.labels) != set(train.classes):
            reporter.note(
                f"{path} has {len(classifier.labels)} labels and {train.source} has "
                f"{len(train.classes)}, and they differ: each macro-F1 is a mean over its own "
                "classes"
            )
    if config.labels is not None:
        train = subset(train, config.labels, config.seed)
    rows: list[Row] = []

    def add(row: Row) -> None:
        reporter.note(str(row))  # at once: a long comparison may be stopped early
        rows.append(row)

    for name in config.systems:
        reporter.note(f"{name}: {len(train):,} labelled texts")
        if name in OURS:
            add(_chargen_row(name, train, test, config, reading, reporter))
        else:
            add(_tfidf_row(name, train, test, config.seed))
    for path, classifier in zip(config.classifier, trained, strict=True):
        add(_trained_row(path, classifier, test, reading))
    return rows


def tfidf(texts: Sequence[str], labels: Sequence[str], *, characters: bool, seed: int) -> Any:
    """Train a scikit-learn pipeline of TF-IDF and logistic regression.

    The features are words and pairs of words, or n-grams of 2 to 5 characters within words. With
    few labels, cross-validation chooses the regularisation strength; the seed draws the folds.

    Raises
    ------
    MissingExtraError
        If scikit-learn is not installed.
    """
    metrics.require_sklearn("TF-IDF with logistic regression")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline

    terms: dict[str, Any] = {"analyzer": "char_wb", "ngram_range": (2, 5)}
    if not characters:  # scikit-learn's own pattern drops "!", "?" and what follows an apostrophe
        terms = {"token_pattern": r"\w+(?:['\u2019]\w+)*|[^\w\s]", "ngram_range": (1, 2)}
    regression: Any = LogisticRegression(C=STRENGTH, max_iter=1000)
    fewest = min(Counter(labels).values())
    if len(labels) < FEW_LABELS and fewest >= 2:
        folds = StratifiedKFold(min(5, fewest), shuffle=True, random_state=sklearn_seed(seed))
        strengths = {"C": STRENGTHS}
        regression = GridSearchCV(regression, strengths, scoring="neg_log_loss", cv=folds)
    counter = TfidfVectorizer(min_df=2, sublinear_tf=True, dtype=np.float32, **terms)
    model = make_pipeline(counter, regression)
    try:
        return model.fit(texts, labels)
    except ValueError:  # no term occurs in two texts
        return model.set_params(tfidfvectorizer__min_df=1).fit(texts, labels)


# ---------------------------------------------------------------- rows


def _evaluated_row(
    name: str,
    predict: Callable[[Sequence[str]], NDArray[Any]],
    classes: Sequence[str],
    test: Examples,
    labels: int | None,
    parameters: int,
    seconds: float | None,
) -> Row:
    """Classify the test texts, measure the time, and evaluate the probabilities."""
    began = time.perf_counter()
    probabilities = predict(test.texts)
    spent = max(time.perf_counter() - began, 1e-9)
    figures = metrics.evaluate(test.labels, probabilities, classes)
    return Row(
        model=name,
        **{key: figures[key] for key in ("accuracy", "macro_f1", "log_loss", "ece")},
        labels=labels,
        parameters=parameters,
        train_seconds=seconds,
        texts_per_second=len(test) / spent,
    )


def _tfidf_row(name: str, train: Examples, test: Examples, seed: int) -> Row:
    began = time.perf_counter()
    characters = name == "tfidf-chars"
    model = tfidf(train.texts, train.labels, characters=characters, seed=seed)
    seconds = time.perf_counter() - began
    regression = getattr(model[-1], "best_estimator_", model[-1])
    parameters = regression.coef_.size + regression.intercept_.size
    classes = [str(label) for label in model.classes_]
    return _evaluated_row(name, model.predict_proba, classes, test, len(train), parameters, seconds)


def _chargen_row(
    name: str,
    train: Examples,
    test: Examples,
    config: CompareConfig,
    reading: ExamplesConfig,
    reporter: Reporter,
) -> Row:
    """Train as `chargen sentiment train` does, but keep no files, and evaluate."""
    probe = name == "probe"
    run = finetune(
        train,
        config.encoder,
        reading=reading,
        reporter=reporter,
        method="probe" if probe else "finetune",
        from_scratch=name == "scratch",
        unlabelled=None if name == "scratch" else config.unlabelled,
        valid_fraction=None if probe else config.valid_fraction,
        minutes=None if probe else config.minutes,
        epochs=None if probe else config.epochs,
        seed=config.seed,
        device=config.device,
    )
    if not run.finished:  # Ctrl-C ends training early, and an incomplete run gets no row
        raise KeyboardInterrupt
    classifier = run.classifier
    predict = partial(classifier.predict_proba, cleaned=True)  # cleaned when they were read
    size = classifier.parameters
    return _evaluated_row(
        f"ours, {name}", predict, classifier.labels, test, len(train), size, run.seconds
    )


def _trained_row(path: str, classifier: Classifier, test: Examples, reading: ExamplesConfig) -> Row:
    def predict(texts: Sequence[str]) -> NDArray[Any]:
        # Texts are cleaned only once, when read or as in training, and may be empty afterwards.
        cleaned = texts if reading.clean else map(classifier.cleaned, texts)
        return classifier.predict_proba(cleaned, cleaned=True)

    stored = classifier.checkpoint
    results = stored.document("config").get("results", {}) if stored is not None else {}
    labels, seconds = results.get("labels_used"), results.get("seconds")
    count = labels if isinstance(labels, int) else None
    spent = float(seconds) if isinstance(seconds, int | float) else None
    return _evaluated_row(
        path, predict, classifier.labels, test, count, classifier.parameters, spent
    )


def _check_labels(path: str, classifier: Classifier, test: Examples) -> None:
    """Refuse test texts with labels that the classifier does not have."""
    unknown = [label for label in test.classes if label not in classifier.labels]
    if unknown:
        raise CorpusError(
            f"{test.source} has the labels {', '.join(map(repr, unknown))}, on which the "
            f"classifier {path} was not trained; its labels are "
            f"{', '.join(map(repr, classifier.labels))}"
        )
