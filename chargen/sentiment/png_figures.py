"""Figures of a classifier as PNG, drawn by matplotlib: what it says of a text, how good it is.

Each function raises MissingExtraError without matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.plotting import painting
from chargen.plotting.painting import LINE_HEIGHT, STEPS, PaintedText, harmless, shade
from chargen.plotting.style import COLOURS, LINES, MONOSPACED, drawing, png
from chargen.sentiment.explain import Explanation
from chargen.sentiment.metrics import BINS, bin_of
from chargen.sentiment.sentiment_unit import SentimentUnit

TEXT_LINES = 40
"""Of painted text; what is longer is cut there and said to be."""

_BELOW, _ABOVE = np.array([painting.BELOW, painting.ABOVE]) / 255

_MOST_NUMBERS = 15
"""Classes up to which numbers fit into the squares of a confusion matrix."""


def explanation_figure(explanation: Explanation) -> bytes:
    """The text painted by the verdict so far, and the curve of it."""
    text = PaintedText(explanation.text, explanation.steps, 1, TEXT_LINES)
    height = LINE_HEIGHT * text.lines
    with drawing("--png", fonts=MONOSPACED) as figures:
        figure = figures(figsize=(9.5, height + 3.4))
        top, axes = figure.subplots(
            2, gridspec_kw={"height_ratios": [max(height, 0.2), 2.1], "hspace": 0.15}
        )
        text.draw(top, {step: shade(step) for step in range(-STEPS, STEPS + 1)})
        top.set_title(
            f"{harmless(explanation.verdict, '')}, {explanation.probability:.1%}: "
            f"the verdict had the text ended there{text.cut}",
            fontsize=11,
        )
        _draw_curve(axes, explanation)
        return png(figure)


def _draw_curve(axes: Any, explanation: Explanation) -> None:
    curve, middle = explanation.curve, explanation.middle
    ends = np.array(explanation.word_ends)
    at_ends = curve[ends]
    for side, colour in ((at_ends >= middle, _ABOVE), (at_ends <= middle, _BELOW)):
        axes.fill_between(
            ends, at_ends, middle, where=side, color=colour, alpha=0.4, lw=0, interpolate=True
        )
    axes.plot(np.arange(len(curve)), curve, color="0.6", linewidth=0.4)
    axes.plot(ends, at_ends, color="0.1", linewidth=1.2)
    axes.axhline(middle, color="0.5", linestyle="--", linewidth=0.8)
    axes.set(
        ylim=(0, 1),
        xlim=(0, max(1, len(curve) - 1)),
        xlabel="characters read (the strong line joins the ends of words)",
        ylabel=f"probability of {harmless(explanation.label, '')}",
    )
    axes.spines[["top", "right"]].set_visible(False)
    # The scale that the text is painted with, along the axis of the probability.
    for step in range(-STEPS, STEPS + 1):
        low = middle + (step - 0.5) / STEPS * (middle if step <= 0 else 1 - middle)
        high = middle + (step + 0.5) / STEPS * (middle if step < 0 else 1 - middle)
        axes.axhspan(
            max(low, 0), min(high, 1), xmin=1.01, xmax=1.03, color=shade(step), clip_on=False
        )


def unit_histogram(unit: SentimentUnit) -> bytes:
    """The histogram of a sentiment unit over a class and the others."""
    edges, inside, outside = unit.histogram()
    with drawing("--histogram") as figures:
        figure = figures(figsize=(7, 3.8))
        axes = figure.subplots()
        for shares, name, colour, hatch in (
            (outside, unit.others, _BELOW, "///"),
            (inside, unit.label, _ABOVE, ""),
        ):
            axes.stairs(
                shares, edges, fill=True, color=(*colour, 0.5), hatch=hatch,
                edgecolor=(*colour, 1.0), label=harmless(name, "").lstrip("_"),
            )  # fmt: skip
        axes.axvline(unit.threshold, color="0.3", linestyle="--", linewidth=1)
        axes.set_title(
            f"unit {unit.index}, {unit.pooling} value: alone it tells {unit.accuracy:.1%} apart",
            fontsize=11,
        )
        axes.set(xlabel="value", ylabel="share of texts")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        return png(figure)


def confusion_matrix(measured: dict[str, Any]) -> bytes:
    """The confusion matrix of `chargen.sentiment.metrics.evaluate`: shares of each row."""
    counts = np.array(measured["confusion"], np.float64)  # (C, C)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    labels = [harmless(label, "")[:24] for label in measured["labels"]]
    size = min(12.0, 3.2 + 0.55 * len(labels))
    with drawing("--confusion") as figures:
        figure = figures(figsize=(size + 0.8, size))
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(labels)), labels, rotation=0 if len(labels) < 5 else 60)
        axes.set_yticks(range(len(labels)), labels)
        axes.set(xlabel="predicted label", ylabel="true label")
        axes.set_title(f"{measured['texts']:,} texts, accuracy {measured['accuracy']:.3f}")
        if len(labels) <= _MOST_NUMBERS:
            for (row, column), share in np.ndenumerate(shares):
                axes.text(
                    column, row, f"{int(counts[row, column]):,}\n{share:.0%}",
                    ha="center", va="center", fontsize=9, color="white" if share > 0.6 else "black",
                )  # fmt: skip
        figure.colorbar(image, ax=axes, label="share of the true label", fraction=0.046)
        return png(figure)


def reliability_diagram(
    measured: dict[str, Any], labels: Sequence[str], probabilities: NDArray[Any]
) -> bytes:
    """Accuracy by confidence (Niculescu-Mizil & Caruana 2005), and how often each occurs.

    `measured` is what `evaluate` found of the true labels (N) and probabilities (N, C).
    """
    confidence, classes = probabilities.max(-1), measured["labels"]
    correct = np.array(labels) == np.array(classes)[probabilities.argmax(-1)]
    place = bin_of(confidence)
    number = np.bincount(place, minlength=BINS)
    there = number > 0
    mean = np.bincount(place, confidence, BINS)[there] / number[there]
    right = np.bincount(place, correct, BINS)[there] / number[there]
    spread = 1.96 * np.sqrt(right * (1 - right) / number[there])
    marks = {"color": COLOURS[0], "marker": "o", "capsize": 3, "label": "this classifier, 95 %"}
    with drawing("--reliability", LINES) as figures:
        figure = figures(figsize=(6, 6.4))
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        top.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="as it should be")
        top.errorbar(mean, right, spread, **marks)
        top.set(xlim=(1 / len(classes) - 0.02, 1.02), ylim=(0, 1.02), ylabel="accuracy")
        top.set_title(f"expected calibration error {measured['ece']:.3f}")
        top.legend(loc="upper left")
        below.bar((np.arange(BINS) + 0.5) / BINS, number, width=0.9 / BINS, color=COLOURS[0])
        below.set(xlabel="confidence: probability of the predicted label", ylabel="texts")
        return png(figure)
