"""An explanation and a unit's histogram as PNG, drawn by matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chargen.plotting.painting import STEPS, cells, harmless, is_cut, probability_steps
from chargen.plotting.style import MONOSPACED, drawing, png
from chargen.sentiment.explain import Explanation

if TYPE_CHECKING:
    from chargen.sentiment.sentiment_unit import SentimentUnit

COLUMNS = 88
LINES = 40
"""Of painted text; what is longer is cut there and said to be."""

_BELOW, _ABOVE = np.array([230, 97, 1]) / 255, np.array([30, 120, 210]) / 255
_SHADES = (0.0, 0.13, 0.25, 0.38, 0.52, 0.68)


def picture(explanation: Explanation) -> bytes:
    """The text painted by the verdict so far, and the curve of it, as a PNG.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    with drawing("--png", fonts=MONOSPACED) as figures:
        steps = probability_steps(explanation.curve[1:], len(explanation.labels))
        drawn = list(cells(explanation.text, steps, COLUMNS, LINES))
        lines = 1 + max((line for line, *_ in drawn), default=0)
        text_height = 0.19 * lines
        figure = figures(figsize=(9.5, text_height + 3.4))
        top, curve = figure.subplots(
            2, gridspec_kw={"height_ratios": [max(text_height, 0.2), 2.1], "hspace": 0.15}
        )
        _draw_text(top, drawn, lines)
        _draw_curve(curve, explanation)
        cut = " (its beginning)" if is_cut(explanation.text, COLUMNS, LINES) else ""
        top.set_title(
            f"{harmless(explanation.verdict, '')}, {explanation.probability:.1%}: "
            f"the verdict had the text ended there{cut}",
            loc="left", fontsize=11, parse_math=False,
        )  # fmt: skip
        return png(figure)


def unit_picture(unit: SentimentUnit) -> bytes:
    """The histogram of a telling unit over a class and the others, as a PNG.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    with drawing("--histogram") as figures:
        figure = figures(figsize=(7, 3.8))
        axes = figure.subplots()
        edges, inside, outside = unit.histogram()
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
            loc="left", fontsize=11,
        )  # fmt: skip
        axes.set_xlabel("value")
        axes.set_ylabel("share of texts")
        for text in axes.legend(frameon=False).get_texts():
            text.set_parse_math(False)
        axes.spines[["top", "right"]].set_visible(False)
        return png(figure)


def _draw_text(axes: Any, drawn: list[tuple[int, int, str, int, int]], lines: int) -> None:
    axes.set(xlim=(0, COLUMNS), ylim=(lines, 0))
    axes.axis("off")
    colours = np.ones((lines, COLUMNS, 3))
    for line, column, shown, _, step in drawn:
        shade = _SHADES[abs(step)]
        colour = _ABOVE if step > 0 else _BELOW
        if column < COLUMNS:
            colours[line, column] = 1 - shade * (1 - colour)
        if shown != " ":
            axes.text(
                column + 0.5, line + 0.52, shown, ha="center", va="center", fontsize=8.5,
                parse_math=False,
            )  # fmt: skip
    axes.imshow(colours, extent=(0, COLUMNS, lines, 0), aspect="auto", interpolation="nearest")


def _draw_curve(axes: Any, explanation: Explanation) -> None:
    curve, middle = explanation.curve, 1 / len(explanation.labels)
    along, ends = np.arange(len(curve)), np.array(explanation.word_ends)
    for side, colour in ((curve[ends] >= middle, _ABOVE), (curve[ends] <= middle, _BELOW)):
        axes.fill_between(
            ends, curve[ends], middle, where=side, color=tuple(colour), alpha=0.4, lw=0,
            interpolate=True,
        )  # fmt: skip
    axes.plot(along, curve, color="0.6", linewidth=0.4)
    axes.plot(ends, curve[ends], color="0.1", linewidth=1.2)
    axes.axhline(middle, color="0.5", linestyle="--", linewidth=0.8)
    axes.set(
        ylim=(0, 1),
        xlim=(0, max(1, len(curve) - 1)),
        xlabel="characters read (the strong line joins the ends of words)",
    )
    axes.set_ylabel(f"probability of {harmless(explanation.label, '')}", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    # The scale that the text is painted with, along the axis of the probability.
    for step in range(-STEPS, STEPS + 1):
        low = middle + (step - 0.5) / STEPS * (middle if step <= 0 else 1 - middle)
        high = middle + (step + 0.5) / STEPS * (middle if step < 0 else 1 - middle)
        colour = 1 - _SHADES[abs(step)] * (1 - (_ABOVE if step > 0 else _BELOW))
        axes.axhspan(
            max(low, 0), min(high, 1), xmin=1.01, xmax=1.03, color=tuple(colour), clip_on=False
        )
