"""Plots of a classifier's quality: confusion matrix, and accuracy against confidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.plotting.painting import escape_controls
from chargen.plotting.style import COLOURS, LINES, drawing, png
from chargen.sentiment.metrics import CALIBRATION_BINS, confidence_bin

_MAX_NUMBERED_CLASSES = 15
"""Most classes for which numbers fit into the squares of a confusion matrix."""


def confusion_matrix(metrics: dict[str, Any]) -> bytes:
    """Draw the confusion matrix of `chargen.sentiment.metrics.evaluate`, with shares per row."""
    counts = np.array(metrics["confusion"], np.float64)  # (C, C)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    labels = [escape_controls(label, "")[:24] for label in metrics["labels"]]
    size = min(12.0, 3.2 + 0.55 * len(labels))
    with drawing("--confusion") as figures:
        figure = figures(figsize=(size + 0.8, size))
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(labels)), labels, rotation=0 if len(labels) < 5 else 60)
        axes.set_yticks(range(len(labels)), labels)
        axes.set(xlabel="predicted label", ylabel="true label")
        axes.set_title(f"{metrics['texts']:,} texts, accuracy {metrics['accuracy']:.3f}")
        if len(labels) <= _MAX_NUMBERED_CLASSES:
            for (row, column), share in np.ndenumerate(shares):
                axes.text(
                    column, row, f"{int(counts[row, column]):,}\n{share:.0%}",
                    ha="center", va="center", fontsize=9, color="white" if share > 0.6 else "black",
                )  # fmt: skip
        figure.colorbar(image, ax=axes, label="share of the true label", fraction=0.046)
        return png(figure)


def reliability_diagram(
    metrics: dict[str, Any], labels: Sequence[str], probabilities: NDArray[Any]
) -> bytes:
    """Draw accuracy by confidence (Niculescu-Mizil & Caruana 2005) and a histogram of confidence.

    `metrics` is the result of `evaluate` for the true labels (N) and probabilities (N, C).
    """
    confidence, classes = probabilities.max(-1), metrics["labels"]
    correct = np.array(labels) == np.array(classes)[probabilities.argmax(-1)]
    bins = confidence_bin(confidence)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    filled = counts > 0
    mean = np.bincount(bins, confidence, CALIBRATION_BINS)[filled] / counts[filled]
    accuracy = np.bincount(bins, correct, CALIBRATION_BINS)[filled] / counts[filled]
    low, high = wilson_interval(accuracy, counts[filled])
    margins = np.maximum([accuracy - low, high - accuracy], 0)  # rounding
    marks = {"color": COLOURS[0], "marker": "o", "capsize": 3, "label": "this classifier, 95 %"}
    with drawing("--reliability", LINES) as figures:
        figure = figures(figsize=(6, 6.4))
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        top.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="perfect calibration")
        top.errorbar(mean, accuracy, margins, **marks)
        top.set(xlim=(1 / len(classes) - 0.02, 1.02), ylim=(0, 1.02), ylabel="accuracy")
        top.set_title(f"expected calibration error {metrics['ece']:.3f}")
        top.legend(loc="upper left")
        below.bar(
            (np.arange(CALIBRATION_BINS) + 0.5) / CALIBRATION_BINS,
            counts,
            width=0.9 / CALIBRATION_BINS,
            color=COLOURS[0],
        )
        below.set(xlabel="confidence: probability of the predicted label", ylabel="texts")
        return png(figure)


def wilson_interval(
    shares: NDArray[np.float64], counts: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the 95 % intervals of shares of `counts` texts (Wilson 1927).

    Unlike the normal approximation, the interval of a share of 0 or 1 has a width.
    """
    weight = 1.96**2 / counts
    centre = (shares + weight / 2) / (1 + weight)
    half = np.sqrt(weight * (shares * (1 - shares) + weight / 4)) / (1 + weight)
    return centre - half, centre + half
