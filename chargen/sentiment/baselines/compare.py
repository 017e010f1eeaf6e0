"""All systems on the same texts: the textbook's, and ours beside them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.sentiment import metrics
from chargen.sentiment.baselines.config import NETWORKS, OURS, CompareConfig, WordConfig
from chargen.sentiment.baselines.fitting import make
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.examples import Examples, split, subset
from chargen.training.reporting import Reporter


@dataclass(frozen=True)
class Row:
    """What one system came to.

    Attributes
    ----------
    model : str
    accuracy, macro_f1, log_loss, ece : float
        On the test texts (see `chargen.sentiment.metrics.evaluate`).
    labels : int or None
        Labelled texts that it was given, those it validated on among them; None where a trained
        classifier does not tell.
    parameters : int
        Numbers that were learnt; of a probe those of the encoder too.
    train_seconds : float or None
        From texts to the finished model, the encoder's own training not counted.
    texts_per_second : float
        Of prediction, from texts to probabilities.
    """

    model: str
    accuracy: float
    macro_f1: float
    log_loss: float
    ece: float
    labels: int | None
    parameters: int
    train_seconds: float | None
    texts_per_second: float

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.model}: accuracy {self.accuracy:.4f}, macro-F1 {self.macro_f1:.4f}, "
            f"{self.texts_per_second:,.0f} texts/s"
        )


def compare(
    train: Examples,
    test: Examples,
    config: CompareConfig,
    words: WordConfig | None = None,
    reporter: Reporter | None = None,
) -> list[Row]:
    """Fit each system on the same labelled texts and evaluate it on the same others.

    Parameters
    ----------
    train : Examples
        `config.labels` of them are used; a part of those is held back for validation by the
        systems that need it.
    test : Examples
        Read for the figures only.
    config : CompareConfig
    words : WordConfig, optional
        Of the networks; its budget, seed and device are also those of ours.
    reporter : Reporter, optional

    Returns
    -------
    list of Row

    Raises
    ------
    CheckpointError, ConfigError, CorpusError, TrainingError, MissingExtraError
    """
    words = words or WordConfig()
    reporter = reporter or Reporter()
    metrics.require("a comparison")
    trained = [Classifier.load(path, words.device) for path in config.classifier]
    for path, classifier in zip(config.classifier, trained, strict=True):
        _check_labels(path, classifier, test)
    if config.labels is not None:
        train = subset(train, config.labels, words.seed)
    rows: list[Row] = []

    def add(row: Row) -> None:
        reporter.note(str(row))  # a long comparison may not come to its table
        rows.append(row)

    for name in config.systems:
        reporter.note(f"{name}: {len(train):,} labelled texts")
        if name in OURS:
            add(_ours_row(name, train, test, config, words, reporter))
        else:
            add(_textbook_row(name, train, test, config, words, reporter))
    for path, classifier in zip(config.classifier, trained, strict=True):
        add(_trained_row(path, classifier, test))
    return rows


# ---------------------------------------------------------------- rows


class _Predictor(Protocol):
    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


def _row(
    name: str,
    predictor: _Predictor,
    classes: Sequence[str],
    test: Examples,
    labels: int | None,
    parameters: int,
    seconds: float | None,
) -> Row:
    """Predict, with a look at the clock, and evaluate."""
    began = time.perf_counter()
    probabilities = predictor.predict_proba(test.texts)
    spent = max(time.perf_counter() - began, 1e-9)
    figures = metrics.evaluate(test.labels, probabilities, classes)
    return Row(
        name,
        figures["accuracy"],
        figures["macro_f1"],
        figures["log_loss"],
        figures["ece"],
        labels,
        parameters,
        seconds,
        len(test) / spent,
    )


def _textbook_row(
    name: str,
    train: Examples,
    test: Examples,
    config: CompareConfig,
    words: WordConfig,
    reporter: Reporter,
) -> Row:
    learnt, valid = train, None
    if name in NETWORKS:
        learnt, valid = split(train, config.valid_fraction, words.seed)
    baseline = make(name, words, reporter)
    began = time.perf_counter()
    try:
        baseline.fit(learnt, valid)
    finally:
        reporter.close()
    seconds = time.perf_counter() - began
    return _row(
        name, baseline, baseline.classes, test, len(train), baseline.num_parameters, seconds
    )


def _ours_row(
    name: str,
    train: Examples,
    test: Examples,
    config: CompareConfig,
    words: WordConfig,
    reporter: Reporter,
) -> Row:
    budget = {"minutes": words.minutes, "epochs": words.epochs}
    run = ours(
        train,
        config.encoder,
        method="probe" if name == "probe" else "finetune",
        from_scratch=name == "scratch",
        unlabelled=config.unlabelled if name == "finetuned" else None,
        valid_fraction=config.valid_fraction,
        seed=words.seed,
        device=words.device,
        reporter=reporter,
        **budget,
    )
    classifier = run.classifier
    return _row(
        f"ours, {name}",
        classifier,
        classifier.labels,
        test,
        len(train),
        _parameters(classifier),
        run.seconds,
    )


def ours(train: Examples, encoder: Sequence[str], *, reporter: Reporter, **options: Any) -> Any:
    """What `chargen sentiment train` makes of the same texts; its files are not kept.

    Parameters
    ----------
    train : Examples
        Those for validation among them.
    encoder : sequence of str
        Checkpoints of one or two language models.
    reporter : Reporter
    **options
        Fields of `chargen.sentiment.config.FinetuneConfig`.

    Returns
    -------
    chargen.sentiment.finetune.FinetuneRun
        With `classifier` and `seconds`.
    """
    from chargen.sentiment.finetune import finetune

    with tempfile.TemporaryDirectory(prefix="chargen-compare-") as folder:
        run = finetune(train, encoder, Path(folder) / "classifier", reporter=reporter, **options)
    if not run.finished:  # it stops softly at Ctrl-C; half a run is no row of a table
        raise KeyboardInterrupt
    return run


# ---------------------------------------------------------------- trained classifiers


def _trained_row(path: str, classifier: Classifier, test: Examples) -> Row:
    stored = classifier.checkpoint
    results = stored.document("config").get("results", {}) if stored is not None else {}
    labels, seconds = results.get("labels_used"), results.get("seconds")
    return _row(
        path,
        classifier,
        classifier.labels,
        test,
        labels if isinstance(labels, int) else None,
        _parameters(classifier),
        float(seconds) if isinstance(seconds, int | float) else None,
    )


def _parameters(classifier: Classifier) -> int:
    count = sum(parameter.numel() for parameter in classifier.network.parameters())
    if classifier.ngrams is not None:
        count += classifier.ngrams.weights.size + classifier.ngrams.biases.size
    return int(count)


def _check_labels(path: str, classifier: Classifier, test: Examples) -> None:
    """Before the long work: can this classifier be right about these texts at all?"""
    strange = [label for label in test.classes if label not in classifier.labels]
    if strange:
        raise CorpusError(
            f"{test.source} has the labels {', '.join(map(repr, strange))}, which the classifier "
            f"{path} does not know; its own are {', '.join(map(repr, classifier.labels))}"
        )
