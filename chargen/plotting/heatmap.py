"""A text painted by how surprising each of its characters was to a model: as a page, as a PNG."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from chargen.plotting.painting import cells, harmless, is_cut, runs, safe
from chargen.plotting.style import MONOSPACED, drawing, png

# Upper ends of the steps in bits, and the colour of each: white to red, the same in all outputs.
STEPS: tuple[tuple[float, str | None], ...] = (
    (1.0, None),
    (2.0, "#fff3c4"),
    (4.0, "#fdd98c"),
    (6.0, "#fdb366"),
    (9.0, "#f7815a"),
    (math.inf, "#e8505b"),
)
COLUMNS, LINES = 88, 60
"""Of a picture; what is longer is cut there and said to be."""

FEWEST_LINES = 4
"""That a picture has room for: heading and key would stretch a single one."""


def step_of(bits: float) -> int:
    """The step of a surprise, from 0 to 5."""
    return next(step for step, (end, _) in enumerate(STEPS) if bits < end or end == math.inf)


def spans(text: str, bits: Sequence[float]) -> str:
    """The text as HTML, escaped; what is above step 0 in a ``<span>`` of class ``s1`` to ``s5``."""
    steps = [step_of(value) for value in bits]
    return "".join(
        f'<span class="s{step}">{safe(piece)}</span>' if step else safe(piece)
        for piece, step in runs(text, steps)
    )


def style() -> str:
    """The rules of CSS for `spans`: dark letters on every colour, in light and dark pages."""
    return "".join(
        f".s{step}{{background:{colour};color:#1b1d20}}"
        for step, (_, colour) in enumerate(STEPS)
        if colour
    )


def legend() -> str:
    """What the colours mean, as HTML."""
    names = [f"below {STEPS[0][0]:g} bit"]
    names += [f"{STEPS[i - 1][0]:g} to {STEPS[i][0]:g}" for i in range(1, len(STEPS) - 1)]
    names.append(f"above {STEPS[-2][0]:g}")
    return " ".join(f'<span class="s{step}">{name}</span>' for step, name in enumerate(names))


def page(text: str, bits: Sequence[float], title: str) -> str:
    """One HTML page that needs nothing else: no scripts, fonts or pictures."""
    mean = sum(bits) / len(bits)
    return (
        '<!doctype html><html lang="und"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(harmless(title, ''))}</title>"
        "<style>:root{color-scheme:light dark}body{font:1rem/1.6 system-ui,sans-serif;"
        "max-width:52rem;margin:0 auto;padding:1.5rem 1rem}pre{white-space:pre-wrap;"
        "overflow-wrap:anywhere;font:.95rem/1.8 ui-monospace,monospace}"
        ".key span{padding:.1em .5em;white-space:nowrap}"
        f"{style()}</style>"
        f"<h1>{html.escape(harmless(title, ''))}</h1>"
        f"<p>{mean:.3f} bits per character over {len(bits):,} characters. The colour is how many "
        f'bits a character took.</p><p class="key">{legend()}</p>'
        f"<pre>{spans(text, bits)}</pre></html>\n"
    )


def picture(text: str, bits: Sequence[float], title: str) -> bytes:
    """The text as a PNG.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    with drawing("--png", fonts=MONOSPACED) as figures:
        drawn = list(cells(text, [step_of(value) for value in bits], COLUMNS, LINES))
        lines = max(FEWEST_LINES, 1 + max((line for line, *_ in drawn), default=0))
        figure = figures(figsize=(9.5, 0.19 * lines + 0.9))
        axes = figure.subplots()
        _draw(axes, drawn, lines)
        cut = " (its beginning)" if is_cut(text, COLUMNS, LINES) else ""
        mean = sum(bits) / len(bits)
        axes.set_title(
            f"{harmless(title, '')}: {mean:.3f} bits per character{cut}",
            loc="left",
            fontsize=11,
            parse_math=False,
        )
        _draw_legend(axes)
        return png(figure)


def _draw(axes: Any, drawn: list[tuple[int, int, str, int, int]], lines: int) -> None:
    from matplotlib.patches import Rectangle

    axes.set(xlim=(0, COLUMNS), ylim=(lines, 0))
    axes.axis("off")
    for line, column, shown, width, step in drawn:
        colour = STEPS[step][1]
        if colour and width:
            axes.add_patch(Rectangle((column, line), width, 1, color=colour, linewidth=0))
        if shown.strip():
            axes.text(
                column + max(width, 1) / 2, line + 0.52, shown, ha="center", va="center",
                fontsize=8.5, parse_math=False,
            )  # fmt: skip


def _draw_legend(axes: Any) -> None:
    from matplotlib.patches import Patch

    names = ["1", *(f"{STEPS[i][0]:g}" for i in range(1, len(STEPS) - 1))]
    patches = [
        Patch(color=colour, label=f"from {name} bits" if i == 0 else f"from {name}")
        for i, (name, (_, colour)) in enumerate(zip(names, STEPS[1:], strict=True))
    ]
    axes.legend(
        handles=patches, loc="upper left", bbox_to_anchor=(0, 0), ncols=len(patches),
        frameon=False, fontsize=8, handlelength=1.2, borderaxespad=0.2,
    )  # fmt: skip
