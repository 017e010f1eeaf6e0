"""Small drawings for a page, as inline SVG that stretches to the width of its box.

They hold no text: letters would be stretched too. What they show is named around them, in HTML.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 1000.0, 200.0

_OPEN = (
    f'<svg class="{{kind}}" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" '
    'role="img" aria-label="{label}">'
)
_POINTS = 2000
"""More than a screen shows side by side."""


def curve(values: NDArray[np.floating], marks: Sequence[int], middle: float, label: str) -> str:
    """Values from 0 to 1 from left to right, painted where they leave the middle.

    Parameters
    ----------
    values : (N,)
    marks : sequence of int
        Places of the values that a strong line joins; a faint one joins all.
    middle : float
        Where a line is drawn.
    label : str
        What a reader is told who does not see it; escaped by the caller.
    """
    exact: NDArray[np.float64] = values.astype(np.float64)
    last = max(1, len(values) - 1)
    faint = _points(_thinned(exact), exact, last)
    strong = _points(marks, exact, last)
    line = HEIGHT * (1 - middle)
    area = f"0,{line:.1f} {strong} {WIDTH:g},{line:.1f}"
    return (
        _OPEN.format(kind="curve", label=label)
        + f'<clipPath id="above"><rect width="{WIDTH:g}" height="{line:.1f}"/></clipPath>'
        + f'<clipPath id="below"><rect y="{line:.1f}" width="{WIDTH:g}" '
        f'height="{HEIGHT - line:.1f}"/></clipPath>'
        + f'<polygon class="above" clip-path="url(#above)" points="{area}"/>'
        + f'<polygon class="below" clip-path="url(#below)" points="{area}"/>'
        + _horizontal(line)
        + f'<polyline class="faint" points="{faint}"/>'
        + f'<polyline points="{strong}"/></svg>'
    )


def histogram(
    edges: NDArray[np.float64],
    above: NDArray[np.float64],
    below: NDArray[np.float64],
    cut: float,
    label: str,
) -> str:
    """Two histograms over one another, and a line that cuts them."""
    top = max(float(above.max()), float(below.max())) or 1.0
    width = WIDTH / len(above)
    bars = [
        f'<rect class="{kind}" x="{index * width:.1f}" width="{width:.1f}" '
        f'y="{HEIGHT * (1 - share / top):.1f}" height="{HEIGHT * share / top:.1f}"/>'
        for kind, shares in (("below", below), ("above", above))
        for index, share in enumerate(shares)
        if share
    ]
    at = WIDTH * (cut - edges[0]) / (edges[-1] - edges[0])
    line = f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{HEIGHT:g}"/>'
    return _OPEN.format(kind="histogram", label=label) + "".join(bars) + line + "</svg>"


def _horizontal(y: float) -> str:
    return f'<line x1="0" x2="{WIDTH:g}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _points(places: Sequence[int], values: NDArray[np.float64], last: int) -> str:
    return " ".join(
        f"{WIDTH * place / last:.1f},{HEIGHT * (1 - values[place]):.1f}" for place in places
    )


def _thinned(values: NDArray[np.float64]) -> list[int]:
    """At most `_POINTS` places, where each stretch's lowest and highest values stand."""
    if len(values) <= _POINTS:
        return list(range(len(values)))
    return [
        int(place)
        for piece in np.array_split(np.arange(len(values)), _POINTS // 2)
        for place in sorted((piece[values[piece].argmin()], piece[values[piece].argmax()]))
    ]
