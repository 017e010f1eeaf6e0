"""Draw an explanation as an HTML page or a picture.

A page needs no other files: no scripts, fonts or pictures. Its charts are inline SVG that stretches
to the width of its box. They contain no text, which would be stretched too; their labels are HTML
around them. Pictures are PNG, drawn by matplotlib (`MissingExtraError` without it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.plotting import painting
from chargen.plotting.painting import (
    LINE_HEIGHT,
    STEPS,
    PaintedText,
    escape_controls,
    scale_end,
    scale_legend,
    scale_steps,
    scale_style,
    shade,
    spans,
    to_html,
    whole_page,
)
from chargen.plotting.style import MONOSPACED, drawing, png
from chargen.sentiment.explain import Explanation, SentimentUnit, Word

TABLE_WORDS = 12
"""Number of words in the table."""

WIDTH, HEIGHT = 1000.0, 200.0
"""Size of a chart in its own units."""

TEXT_LINES = 40
"""Most lines of text in a picture; a longer text is cut, and the title says so."""

_BELOW, _ABOVE = np.array([painting.BELOW, painting.ABOVE]) / 255

_PAGE_STYLE = """
:root { color-scheme: light dark; --ink: #1b1d20; --paper: #fdfdfb; --faint: #6a6f76;
  --line: #d9dadd; --card: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9eaec; --paper: #14161a; --faint: #9aa0a8; --line: #33373e; --card: #1b1e23; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 46rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.6 system-ui, sans-serif; overflow-wrap: anywhere; }
"""

_SECTION_STYLE = """
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .75rem; }
h2 { font-size: 1.05rem; margin: 2.25rem 0 .25rem; }
p { margin: .25rem 0 .75rem; }
.note, figcaption, .legend, th { color: var(--faint); font-size: .875rem; }
.text { white-space: pre-wrap; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; padding: .75rem 1rem; line-height: 1.9; max-height: 32rem;
  overflow-y: auto; }
.text span { border-radius: .2rem; padding: .1em 0; }
.fine span { border-radius: 0; }
.legend { display: flex; align-items: center; gap: .5rem; flex-wrap: wrap; margin: .5rem 0; }
.scale { display: inline-flex; }
.scale span { width: 1.1rem; height: .9rem; border: 1px solid var(--line); border-width: 1px 0; }
.key { display: inline-block; width: .9rem; height: .9rem; border-radius: .2rem; }
.bars { display: grid; grid-template-columns: minmax(3rem, max-content) 1fr max-content;
  gap: .3rem .75rem; align-items: center; }
.bars i { display: block; height: .6rem; border-radius: .3rem; background: var(--line); }
.bars i b { display: block; height: 100%; border-radius: .3rem; background: var(--faint); }
figure { margin: .5rem 0; display: grid; grid-template-columns: 3.2rem 1fr; gap: .25rem .5rem; }
figure svg { width: 100%; height: 10rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; display: block; }
.up { display: flex; flex-direction: column; justify-content: space-between; text-align: right; }
.along span, .up span { white-space: nowrap; }
.along { grid-column: 2; display: flex; justify-content: space-between; }
svg polyline { fill: none; stroke: currentColor; stroke-width: 1.5; stroke-linejoin: round;
  vector-effect: non-scaling-stroke; }
svg polyline.faint { stroke: var(--faint); stroke-width: .5; }
svg line { stroke: var(--faint); stroke-dasharray: 4 4; vector-effect: non-scaling-stroke; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .5rem .25rem 0; border-bottom: 1px solid var(--line);
  font-weight: normal; }
td.n, th.n { text-align: right; padding-right: 0; width: 5rem; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
code { color: var(--faint); }
"""


def page(
    explanation: Explanation,
    unit: SentimentUnit | None = None,
    unit_values: NDArray[np.float32] | None = None,
) -> str:
    """Return the HTML page of an explanation.

    Parameters
    ----------
    explanation : Explanation, of N characters
    unit : SentimentUnit, optional
        Unit to show with its histogram.
    unit_values : (N + 1,) array, optional
        Value of the unit after each character.
    """
    body = sections(explanation)
    if unit is not None:
        body += "\n" + _unit_section(explanation.text, unit, unit_values)
    title = f"{to_html(explanation.verdict)}, {percent(explanation.probability)}"
    return whole_page(title, _PAGE_STYLE + style(), f"<main>\n{body}\n</main>")


def sections(explanation: Explanation) -> str:
    """Return the sections of an explanation as HTML, for a page that has `style`."""
    parts = (
        verdict(explanation.probabilities),
        _curve_section(explanation),
        _words_section(explanation),
    )
    return "\n".join(parts)


def style() -> str:
    """Return the CSS for `sections`, which uses the colours --ink, --faint, --line and --card."""
    return _SECTION_STYLE + scale_style()


def verdict(probabilities: Mapping[str, float]) -> str:
    """Return the likeliest label and a bar per label as HTML, for a page that has `style`."""
    label = max(probabilities, key=lambda name: probabilities[name])
    rows = [
        f'<span>{to_html(name)}</span><i><b style="width:{share:.2%}"></b></i>'
        f"<span>{percent(share)}</span>"
        for name, share in probabilities.items()
    ]
    heading = f"<h1>{to_html(label)}, {percent(probabilities[label])}</h1>"
    return f'{heading}\n<div class="bars">{"".join(rows)}</div>'


def percent(probability: float) -> str:
    """Return a probability as a percentage, which is 0.0% or 100.0% only if that is exact."""
    rounded = f"{probability:.1%}"
    if rounded == "100.0%" and probability < 1:
        return "over 99.9%"
    return "under 0.1%" if rounded == "0.0%" and probability > 0 else rounded


def _curve_section(explanation: Explanation) -> str:
    label = to_html(explanation.label)
    return (
        "<h2>The verdict so far</h2>\n"
        '<p class="note">The colour of a character shows the verdict that the text would get '
        "if it ended there. Over the first few characters the verdict swings, whatever they say. "
        "The strong line below joins the ends of words.</p>\n"
        + scale_legend(f"{to_html(explanation.others)} 100%", f"{label} 100%")
        + _text(explanation.text, curve_steps(explanation), "text fine") + "\n"
        + _chart(
            "curve", f"probability of {label} along the text", _curve(explanation),
            (f"{label}<br>100%", "0%"), ("start", f"{len(explanation.text):,} characters"),
        )
    )  # fmt: skip


def _words_section(explanation: Explanation) -> str:
    label, (steps, top) = to_html(explanation.label), _word_steps(explanation)
    limit = f"{top:.2f} or more"
    left_out = any(word.left_out is not None for word in explanation.words)
    meaning = (
        "The colour of a word shows how far the verdict on the whole text falls if the word is "
        "left out."
        if left_out
        else "The colour of a word shows how far it moves the log-odds of the verdict, in nats. "
        "Early words move them, whatever they say."
    )
    return (
        f'<h2>Word by word</h2>\n<p class="note">{meaning}</p>\n'
        + scale_legend(f"away from {label}: −{limit}", f"towards {label}: +{limit}")
        + _text(explanation.text, steps)
        + _table(explanation.strongest(TABLE_WORDS), left_out)
    )


def _table(words: Sequence[Word], left_out: bool) -> str:
    heads = ("move", "left out") if left_out else ("move",)
    rows = [
        f"<td>{to_html(word.text)}</td>"
        + "".join(
            f'<td class="n">{value:+.2f}</td>'.replace("-", "−")
            for value in (word.move, word.left_out)
            if value is not None
        )
        for word in words
    ]
    return (
        "\n<table><thead><tr><th>word</th>"
        + "".join(f'<th class="n">{head}</th>' for head in heads)
        + f"</tr></thead><tbody><tr>{'</tr><tr>'.join(rows)}</tr></tbody></table>"
    )


def _unit_section(text: str, unit: SentimentUnit, values: NDArray[np.float32] | None) -> str:
    label, others = to_html(unit.label), to_html(unit.others)
    painted = ""
    if values is not None and len(text):
        painted = scale_legend(f"the side of {others}", f"the side of {label}")
        painted += _text(text, _unit_steps(unit, values), "text fine")
    pooling = {"last": "value at the end of a text", "mean": "mean over a text"}[unit.pooling]
    edges, drawn = _histogram(unit)
    return (
        "<h2>The most telling unit</h2>\n"
        f'<p class="note">Unit {unit.index} of the encoder, by its {pooling}: alone it has a '
        f"balanced accuracy of {unit.accuracy:.1%} on labelled texts. The colours show its value "
        f"after each character.</p>\n{painted}"
        + _chart(
            "histogram", f"histogram of unit {unit.index}", drawn,
            ("texts", "0"), (f"{edges[0]:.3f}", f"{edges[1]:.3f}"),
        )
        + f'<p class="legend"><span class="key above"></span>{label}'
        f'<span class="key below"></span>{others}</p>'
    )  # fmt: skip


def _text(text: str, steps: Sequence[int], kind: str = "text") -> str:
    return f'<div class="{kind}" dir="auto" tabindex="0">{spans(text, steps)}</div>'


# ---------------------------------------------------------------- steps of the colour scale


def curve_steps(explanation: Explanation) -> list[int]:
    """Return the steps of the N characters according to the curve."""
    return scale_steps(explanation.curve[1:], explanation.middle, 0.0, 1.0)


def _word_steps(explanation: Explanation) -> tuple[list[int], float]:
    """Return the steps (N) according to the words' weights, and the weight at the scale's end."""
    weights = np.array([word.weight for word in explanation.words])
    top = scale_end(weights)
    steps = [0] * len(explanation.text)
    for word, step in zip(explanation.words, scale_steps(weights, 0.0, -top, top), strict=True):
        begin = explanation.text.find(word.text, word.start)
        steps[begin : begin + len(word.text)] = [step] * len(word.text)
    return steps, top


def _unit_steps(unit: SentimentUnit, trace: NDArray[np.float32]) -> list[int]:
    """Return the steps (N) of a unit's values (N + 1,), above 0 on the side of its label."""
    offsets = (1 if unit.above else -1) * (trace[1:] - unit.threshold)
    top = scale_end(offsets)
    return scale_steps(offsets, 0.0, -top, top)


# ---------------------------------------------------------------- charts


def _chart(
    kind: str,
    label: str,
    svg_content: str,
    vertical_ends: tuple[str, str],
    horizontal_ends: tuple[str, str],
) -> str:
    """Return a figure with labels for the ends of the vertical and the horizontal axis."""
    return (
        f'<figure><div class="up note"><span>{vertical_ends[0]}</span>'
        f"<span>{vertical_ends[1]}</span></div>"
        f'<svg class="{kind}" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" '
        f'role="img" aria-label="{label}">{svg_content}</svg>'
        f'<figcaption class="along"><span>{horizontal_ends[0]}</span>'
        f"<span>{horizontal_ends[1]}</span></figcaption>"
        "</figure>"
    )


def _curve(explanation: Explanation) -> str:
    """Return the curve of the probability as SVG, coloured where it leaves the middle.

    A strong line joins the ends of words, and a faint line all characters.
    """
    values = explanation.curve.astype(np.float64)

    def points(places: Sequence[int]) -> str:
        last = max(1, len(values) - 1)
        return " ".join(f"{WIDTH * i / last:.1f},{HEIGHT * (1 - values[i]):.1f}" for i in places)

    strong, line = points(explanation.word_ends), HEIGHT * (1 - explanation.middle)
    area = f"0,{line:.1f} {strong} {WIDTH:g},{line:.1f}"
    return (
        f'<clipPath id="above"><rect width="{WIDTH:g}" height="{line:.1f}"/></clipPath>'
        f'<clipPath id="below"><rect y="{line:.1f}" width="{WIDTH:g}" '
        f'height="{HEIGHT - line:.1f}"/></clipPath>'
        f'<polygon class="above" clip-path="url(#above)" points="{area}"/>'
        f'<polygon class="below" clip-path="url(#below)" points="{area}"/>'
        f'<line x1="0" x2="{WIDTH:g}" y1="{line:.1f}" y2="{line:.1f}"/>'
        f'<polyline class="faint" points="{points(range(len(values)))}"/>'
        f'<polyline points="{strong}"/>'
    )


def _histogram(unit: SentimentUnit) -> tuple[tuple[float, float], str]:
    """Return the ends of the axis, and both histograms with the threshold as SVG."""
    edges, inside, outside = unit.histogram()
    top = max(float(inside.max()), float(outside.max())) or 1.0
    width = WIDTH / len(inside)
    bars = [
        f'<rect class="{kind}" x="{index * width:.1f}" width="{width:.1f}" '
        f'y="{HEIGHT * (1 - share / top):.1f}" height="{HEIGHT * share / top:.1f}"/>'
        for kind, shares in (("below", outside), ("above", inside))
        for index, share in enumerate(shares)
        if share
    ]
    at = WIDTH * (unit.threshold - edges[0]) / (edges[-1] - edges[0])
    line = f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{HEIGHT:g}"/>'
    return (edges[0], edges[-1]), "".join(bars) + line


# ---------------------------------------------------------------- pictures


def explanation_figure(explanation: Explanation) -> bytes:
    """Draw the text coloured by the verdict so far, and the curve of that verdict."""
    text = PaintedText(explanation.text, curve_steps(explanation), 1, TEXT_LINES)
    height = LINE_HEIGHT * text.lines
    with drawing("--png", fonts=MONOSPACED) as figures:
        figure = figures(figsize=(9.5, height + 3.4))
        top, axes = figure.subplots(
            2, gridspec_kw={"height_ratios": [max(height, 0.2), 2.1], "hspace": 0.15}
        )
        text.draw(top, {step: shade(step) for step in range(-STEPS, STEPS + 1)})
        top.set_title(
            f"{escape_controls(explanation.verdict, '')}, {percent(explanation.probability)}: "
            f"the verdict if the text ended there{text.cut_note}",
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
        ylabel=f"probability of {escape_controls(explanation.label, '')}",
    )
    axes.spines[["top", "right"]].set_visible(False)
    # The colour scale of the text, along the axis of the probability.
    for step in range(-STEPS, STEPS + 1):
        low = middle + (step - 0.5) / STEPS * (middle if step <= 0 else 1 - middle)
        high = middle + (step + 0.5) / STEPS * (middle if step < 0 else 1 - middle)
        axes.axhspan(
            max(low, 0), min(high, 1), xmin=1.01, xmax=1.03, color=shade(step), clip_on=False
        )


def unit_histogram(unit: SentimentUnit) -> bytes:
    """Draw the histograms of a sentiment unit for its class and for the other classes."""
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
                edgecolor=(*colour, 1.0), label=escape_controls(name, "").lstrip("_"),
            )  # fmt: skip
        axes.axvline(unit.threshold, color="0.3", linestyle="--", linewidth=1)
        axes.set_title(
            f"unit {unit.index}, {unit.pooling} value: balanced accuracy {unit.accuracy:.1%}",
            fontsize=11,
        )
        axes.set(xlabel="value", ylabel="share of texts")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        return png(figure)
