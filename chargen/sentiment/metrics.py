"""Metrics of predicted probabilities, most of them computed by scikit-learn."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError, MissingExtraError

CALIBRATION_BINS = 15
"""Number of bins of the expected calibration error."""


def require_sklearn(feature: str) -> None:
    """Check before long work that scikit-learn, which `feature` needs, is installed.

    Raises
    ------
    MissingExtraError
        If scikit-learn is not installed.
    """
    if find_spec("sklearn") is None:
        raise MissingExtraError(feature, "sentiment")


def evaluate(
    labels: Sequence[str], probabilities: NDArray[Any], classes: Sequence[str]
) -> dict[str, Any]:
    """Compute the metrics of predicted probabilities.

    Parameters
    ----------
    labels : sequence of str
        The true labels, N.
    probabilities : (N, C)
        Probabilities of the classes, in the order of `classes`; each row sums to 1.
    classes : sequence of str

    Returns
    -------
    dict
        ``accuracy``, ``macro_f1`` (mean over all classes), ``log_loss`` in nats, ``ece`` (expected
        calibration error, see `calibration_error`), ``confusion`` (C x C; a row per true class),
        ``labels`` (the classes), ``texts`` (N), and ``per_class``: for each class ``precision``,
        ``recall``, ``f1`` and ``support``. An undefined value, such as the precision of a class
        that was never predicted, is 0. All values are plain numbers, ready for JSON.

    Raises
    ------
    CorpusError
        If there are no labels, a label is not among the classes, or the probabilities have another
        shape or are invalid.
    MissingExtraError
        If scikit-learn is not installed.
    """
    require_sklearn("evaluation")
    from sklearn import metrics

    index_of = {label: i for i, label in enumerate(classes)}
    chances = np.asarray(probabilities, dtype=np.float64)
    _check_probabilities(labels, chances, index_of)
    true = np.array([index_of[label] for label in labels])
    predicted = chances.argmax(-1)
    indices = np.arange(len(classes))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        true, predicted, labels=indices, zero_division=0
    )
    chances = chances / chances.sum(-1, keepdims=True)  # sums of float32 differ from 1 by rounding
    return {
        "accuracy": float(metrics.accuracy_score(true, predicted)),
        "macro_f1": float(np.mean(f1)),
        "log_loss": float(metrics.log_loss(true, chances, labels=indices)),
        "ece": calibration_error(chances.max(-1), predicted == true),
        "confusion": metrics.confusion_matrix(true, predicted, labels=indices).tolist(),
        "labels": list(classes),
        "texts": len(labels),
        "per_class": {
            label: {"precision": p, "recall": r, "f1": f, "support": s}
            for label, p, r, f, s in zip(
                classes,
                precision.tolist(),
                recall.tolist(),
                f1.tolist(),
                support.tolist(),
                strict=True,
            )
        },
    }


def missing_classes_warning(
    source: str, labels: Collection[str], classes: Sequence[str]
) -> str | None:
    """Return a warning if no text of `source` has some of the classes, otherwise None."""
    missing = [label for label in classes if label not in labels]
    if not missing:
        return None
    names = " or ".join(map(repr, missing))
    return f"no text of {source} has the label {names}, so macro-F1 counts an F1 of 0"


def confidence_bin(confidence: NDArray[Any]) -> NDArray[np.int64]:
    """Return the bin of each confidence, (N,); bins have equal width and include the upper end."""
    bins: NDArray[np.int64] = np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1
    return bins.clip(0, CALIBRATION_BINS - 1)


def calibration_error(confidence: NDArray[Any], correct: NDArray[np.bool_]) -> float:
    """Return the expected calibration error (Guo et al. 2017) of N predicted classes.

    It is the mean gap between accuracy and confidence over the bins, weighted by the bins' sizes.
    """
    gaps = np.bincount(
        confidence_bin(confidence), weights=correct - confidence, minlength=CALIBRATION_BINS
    )
    return float(np.abs(gaps).sum() / len(confidence))


def _check_probabilities(
    labels: Sequence[str], probabilities: NDArray[Any], class_indices: dict[str, int]
) -> None:
    if not len(labels):
        raise CorpusError("there are no labelled texts to evaluate on")
    if probabilities.shape != (len(labels), len(class_indices)):
        raise CorpusError(
            f"{len(labels)} labels of {len(class_indices)} classes do not fit probabilities of "
            f"shape {list(probabilities.shape)}"
        )
    for label in labels:
        if label not in class_indices:
            raise CorpusError(
                f"label {label!r} is not one of those of training: "
                f"{', '.join(map(repr, class_indices))}"
            )
    sound = (
        np.isfinite(probabilities).all(-1)
        & (probabilities >= 0).all(-1)
        & (probabilities.sum(-1) > 0)
    )
    if not sound.all():
        text = int(sound.argmin()) + 1
        raise CorpusError(f"the probabilities of text {text} are not numbers from 0 to 1")
