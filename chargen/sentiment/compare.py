"""TF-IDF with logistic regression, and ours, on the same labelled texts.

TF-IDF is the measure: Wang & Manning 2012 ("Baselines and bigrams") show how much of sentiment it
finds. Scikit-learn computes it.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.sentiment import metrics
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import OURS, CompareConfig, ExamplesConfig
from chargen.sentiment.examples import Examples
from chargen.sentiment.finetune import finetune
from chargen.sentiment.splitting import subset
from chargen.training.reporting import Reporter

STRENGTH = 10.0
"""Inverse strength of regularisation (C) where there are labels enough."""

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
FEW_LABELS = 2000
"""With fewer labels, cross-validation on them chooses among `STRENGTHS`."""


@dataclass(frozen=True)
class Row:
    """What one system came to."""

    model: str
    accuracy: float  # this and the next three on the test texts, as `metrics.evaluate` has them
    macro_f1: float
    log_loss: float
    ece: float
    # labelled texts that it was given, also to validate; of a trained classifier those that it
    # learnt from, None where it is silent
    labels: int | None
    parameters: int  # numbers that were learnt; of a probe those of the encoder too
    train_seconds: float | None  # from texts to the model, the encoder's own training not counted
    texts_per_second: float  # of prediction, from texts to probabilities

    def __str__(self) -> str:
        return (
            f"{self.model}: accuracy {self.accuracy:.4f}, macro-F1 {self.macro_f1:.4f}, "
            f"{self.texts_per_second:,.0f} texts/s"
        )


def compare(
    train: Examples,
    test: Examples,
    config: CompareConfig,
    reporter: Reporter | None = None,
    reading: ExamplesConfig | None = None,
) -> list[Row]:
    """Fit each system on the same labelled texts and evaluate it on the same others.

    Parameters
    ----------
    train : Examples
        `config.labels` of them are used; ours hold a part of those back for validation.
    test : Examples
        Read for the figures only.
    config : CompareConfig
    reporter : Reporter, optional
    reading : ExamplesConfig, optional
        How both were read; the unlabelled texts are read in the same way.

    Raises
    ------
    CheckpointError, ConfigError, CorpusError, TrainingError, MissingExtraError
    """
    reporter, reading = reporter or Reporter(), reading or ExamplesConfig()
    metrics.require("a comparison")
    trained = [Classifier.load(path, config.device) for path in config.classifier]
    for path, classifier in zip(config.classifier, trained, strict=True):
        _check_labels(path, classifier, test)
        if set(classifier.labels) != set(train.classes):
            reporter.note(
                f"{path} has {len(classifier.labels)} labels and {train.source} "
                f"{len(train.classes)}, not the same: each macro-F1 is a mean over its own classes"
            )
    if config.labels is not None:
        train = subset(train, config.labels, config.seed)
    rows: list[Row] = []

    def add(row: Row) -> None:
        reporter.note(str(row))  # a long comparison may not come to its table
        rows.append(row)

    for name in config.systems:
        reporter.note(f"{name}: {len(train):,} labelled texts")
        if name in OURS:
            add(_ours_row(name, train, test, config, reading, reporter))
        else:
            add(_tfidf_row(name, train, test, config.seed))
    for path, classifier in zip(config.classifier, trained, strict=True):
        add(_trained_row(path, classifier, test, reading))
    return rows


def tfidf(texts: Sequence[str], labels: Sequence[str], *, characters: bool, seed: int) -> Any:
    """Learn TF-IDF with logistic regression, a pipeline of scikit-learn's.

    It counts words and pairs of words, or runs of 2 to 5 characters within words. With few labels
    cross-validation, whose folds the seed draws, chooses the regularisation.

    Raises
    ------
    MissingExtraError
        Without scikit-learn.
    """
    metrics.require("TF-IDF with logistic regression")
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
        folds = StratifiedKFold(min(5, fewest), shuffle=True, random_state=seed)
        strengths = {"C": STRENGTHS}
        regression = GridSearchCV(regression, strengths, scoring="neg_log_loss", cv=folds)
    counter = TfidfVectorizer(min_df=2, sublinear_tf=True, dtype=np.float32, **terms)
    model = make_pipeline(counter, regression)
    try:
        return model.fit(texts, labels)
    except ValueError:  # no term stands in two texts
        return model.set_params(tfidfvectorizer__min_df=1).fit(texts, labels)


# ---------------------------------------------------------------- rows


def _row(
    name: str,
    predict: Callable[[Sequence[str]], NDArray[Any]],
    classes: Sequence[str],
    test: Examples,
    labels: int | None,
    parameters: int,
    seconds: float | None,
) -> Row:
    """Predict, with a look at the clock, and evaluate."""
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
    return _row(name, model.predict_proba, classes, test, len(train), parameters, seconds)


def _ours_row(
    name: str,
    train: Examples,
    test: Examples,
    config: CompareConfig,
    reading: ExamplesConfig,
    reporter: Reporter,
) -> Row:
    """What `chargen sentiment train` makes of the same texts; its files are not kept."""
    with tempfile.TemporaryDirectory(prefix="chargen-compare-") as folder:
        run = finetune(
            train,
            config.encoder,
            Path(folder) / "classifier",
            reading=reading,
            reporter=reporter,
            method="probe" if name == "probe" else "finetune",
            from_scratch=name == "scratch",
            unlabelled=None if name == "scratch" else config.unlabelled,
            valid_fraction=None if name == "probe" else config.valid_fraction,
            minutes=config.minutes,
            epochs=config.epochs,
            seed=config.seed,
            device=config.device,
        )
    if not run.finished:  # it stops softly at Ctrl-C; half a run is no row of a table
        raise KeyboardInterrupt
    made = run.classifier
    predict = partial(made.predict_proba, cleaned=True)  # as they were read
    size = made.parameters
    return _row(f"ours, {name}", predict, made.labels, test, len(train), size, run.seconds)


def _trained_row(path: str, classifier: Classifier, test: Examples, reading: ExamplesConfig) -> Row:
    def predict(texts: Sequence[str]) -> NDArray[Any]:
        # Cleaned once, by the reader or as in its training; what is empty then is judged too.
        once = texts if reading.clean else map(classifier.cleaned, texts)
        return classifier.predict_proba(once, cleaned=True)

    stored = classifier.checkpoint
    results = stored.document("config").get("results", {}) if stored is not None else {}
    labels, seconds = results.get("labels_used"), results.get("seconds")
    known = labels if isinstance(labels, int) else None
    spent = float(seconds) if isinstance(seconds, int | float) else None
    return _row(path, predict, classifier.labels, test, known, classifier.parameters, spent)


def _check_labels(path: str, classifier: Classifier, test: Examples) -> None:
    """Before the long work: can this classifier be right about these texts at all?"""
    strange = [label for label in test.classes if label not in classifier.labels]
    if strange:
        raise CorpusError(
            f"{test.source} has the labels {', '.join(map(repr, strange))}, which the classifier "
            f"{path} does not know; its own are {', '.join(map(repr, classifier.labels))}"
        )
