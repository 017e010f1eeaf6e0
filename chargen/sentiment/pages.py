"""An explanation as one HTML page that needs nothing else: no scripts, fonts or pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chargen.plotting.painting import STEPS, probability_steps, runs, safe, scale_end, step_of
from chargen.sentiment import drawings
from chargen.sentiment.explain import Explanation, Word, weight
from chargen.sentiment.sentiment_unit import SentimentUnit

STRONGEST = 12
"""Words in the table."""

_SHADES = (0.13, 0.25, 0.38, 0.52, 0.68)
_BELOW, _ABOVE = "230 97 1", "30 120 210"

_PAGE = """
:root { color-scheme: light dark; --ink: #1b1d20; --paper: #fdfdfb; --faint: #6a6f76;
  --line: #d9dadd; --card: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9eaec; --paper: #14161a; --faint: #9aa0a8; --line: #33373e; --card: #1b1e23; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 46rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.6 system-ui, sans-serif; overflow-wrap: anywhere; }
"""

_PARTS = """
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
    """The page.

    Parameters
    ----------
    explanation : Explanation
        Of N characters.
    unit : SentimentUnit, optional
        Shown with its histogram.
    unit_values : (N + 1,) array, optional
        That unit after each character.
    """
    title = f"{safe(explanation.verdict)}, {explanation.probability:.1%}"
    body = sections(explanation)
    if unit is not None:
        body += "\n" + _unit(explanation.text, unit, unit_values)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n"
        f"<style>{_PAGE}{style()}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def sections(explanation: Explanation) -> str:
    """What an explanation shows, as HTML for a page that has `style`."""
    label = safe(explanation.label)
    parts = (
        verdict(explanation.probabilities),
        _so_far(explanation, label),
        _word_by_word(explanation, label),
    )
    return "\n".join(parts)


def style() -> str:
    """The rules of CSS for `sections`; they use the colours --ink, --faint, --line and --card."""
    rules = [
        f".{side}{step} {{ background: rgb({colour} / {shade}); }}"
        for side, colour in (("b", _BELOW), ("a", _ABOVE))
        for step, shade in enumerate(_SHADES, 1)
    ]
    rules += [
        f"svg .{name} {{ fill: rgb({colour} / .5); }} "
        f".key.{name} {{ background: rgb({colour} / .6); }}"
        for name, colour in (("below", _BELOW), ("above", _ABOVE))
    ]
    return _PARTS + "\n".join(rules) + "\n"


def verdict(probabilities: Mapping[str, float]) -> str:
    """The likeliest label and the probability of each as a bar, for a page that has `style`."""
    label = max(probabilities, key=lambda name: probabilities[name])
    rows = [
        f'<span>{safe(name)}</span><i><b style="width:{share:.2%}"></b></i><span>{share:.1%}</span>'
        for name, share in probabilities.items()
    ]
    heading = f"<h1>{safe(label)}, {probabilities[label]:.1%}</h1>"
    return f'{heading}\n<div class="bars">{"".join(rows)}</div>'


def _so_far(explanation: Explanation, label: str) -> str:
    count = len(explanation.labels)
    steps = probability_steps(explanation.curve[1:], count)
    return (
        "<h2>The verdict so far</h2>\n"
        '<p class="note">Each character is painted with the verdict that the text would get if it '
        "ended there. Over the first few characters it swings whatever they say. The strong line "
        "below joins the ends of words.</p>\n"
        + _legend(f"{safe(explanation.others)} 100%", f"{label} 100%")
        + _text(runs(explanation.text, steps), fine=True)
        + '\n<figure><div class="up note">'
        f"<span>{label}<br>100%</span><span>0%</span></div>"
        + drawings.curve(
            explanation.curve,
            explanation.word_ends,
            1 / count,
            f"probability of {label} along the text",
        )
        + f'<figcaption class="along"><span>start</span><span>{len(explanation.text):,} '
        "characters</span></figcaption></figure>"
    )


def _word_by_word(explanation: Explanation, label: str) -> str:
    words = explanation.words
    top = scale_end([weight(word) for word in words])
    steps = [0] * len(explanation.text)
    for word, step in zip(
        words, step_of(np.array([weight(w) for w in words]), 0.0, -top, top), strict=True
    ):
        begin = explanation.text.find(word.text, word.start)
        steps[begin : begin + len(word.text)] = [step] * len(word.text)
    left_out = any(word.left_out is not None for word in words)
    meaning = (
        "Each word is painted by how far the verdict on the whole text falls where it is left out."
        if left_out
        else "Each word is painted by how far it moves the verdict from what it was before, in a "
        "logarithmic measure: the log-odds, in nats. Early words move it whatever they say."
    )
    return (
        f'<h2>Word by word</h2>\n<p class="note">{meaning}</p>\n'
        + _legend(f"away from {label}: −{top:.2f} or more", f"towards {label}: +{top:.2f} or more")
        + _text(runs(explanation.text, steps))
        + _table(explanation.strongest(STRONGEST), left_out)
    )


def _table(words: Sequence[Word], left_out: bool) -> str:
    if not words:
        return ""
    heads = '<th>word</th><th class="n">move</th>' + (
        '<th class="n">left out</th>' if left_out else ""
    )
    rows = "".join(
        f'<tr><td>{safe(word.text)}</td><td class="n">{_signed(word.move)}</td>'
        + (f'<td class="n">{_signed(word.left_out)}</td>' if word.left_out is not None else "")
        + "</tr>"
        for word in words
    )
    return f"\n<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _unit(text: str, unit: SentimentUnit, values: NDArray[np.float32] | None) -> str:
    label, others = safe(unit.label), safe(unit.others)
    # Blue is the label, whichever side of the threshold it lies on.
    sign = 1 if unit.above else -1
    edges, inside, outside = unit.histogram()
    painted = ""
    if values is not None and len(text):
        offsets = sign * (values[1:] - unit.threshold)
        top = scale_end(offsets.tolist())
        painted = _legend(f"the side of {others}", f"the side of {label}") + _text(
            runs(text, step_of(offsets, 0.0, -top, top)), fine=True
        )
    return (
        "<h2>The most telling unit</h2>\n"
        f'<p class="note">Unit {unit.index} of the encoder, by its {_POOLING[unit.pooling]}: alone '
        f"it tells {unit.accuracy:.1%} of labelled texts apart. The text is painted with its value "
        "after each character.</p>\n"
        + painted
        + '<figure><div class="up note"><span>texts</span><span>0</span></div>'
        + drawings.histogram(
            edges, inside, outside, unit.threshold, f"histogram of unit {unit.index}"
        )
        + f'<figcaption class="along"><span>{edges[0]:.3f}</span><span>{edges[-1]:.3f}</span>'
        "</figcaption></figure>"
        f'<p class="legend"><span class="key above"></span>{label}'
        f'<span class="key below"></span>{others}</p>'
    )


_POOLING = {"last": "value at the end of a text", "mean": "mean over a text"}


def _legend(low: str, high: str) -> str:
    boxes = "".join(f"<span{_kind(step)}></span>" for step in range(-STEPS, STEPS + 1))
    return (
        f'<p class="legend"><span>{low}</span><span class="scale">{boxes}</span>'
        f"<span>{high}</span></p>\n"
    )


def _text(pieces: Iterable[tuple[str, int]], fine: bool = False) -> str:
    painted = "".join(
        f"<span{_kind(step)}>{safe(piece)}</span>" if step else safe(piece)
        for piece, step in pieces
    )
    kind = "text fine" if fine else "text"
    return f'<div class="{kind}" dir="auto" tabindex="0">{painted}</div>'


def _kind(step: int) -> str:
    return f' class="{"a" if step > 0 else "b"}{abs(step)}"' if step else ""


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
