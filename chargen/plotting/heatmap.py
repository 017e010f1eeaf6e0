"""A text coloured by how surprising each character was to a model, as a page or a PNG."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from chargen.plotting import painting
from chargen.plotting.painting import LINE_HEIGHT, PaintedText, escape_controls, whole_page
from chargen.plotting.style import MONOSPACED, drawing, png

# Upper end of each step in bits, and its colour: white to red, the same in all outputs.
STEPS: tuple[tuple[float, str | None], ...] = (
    (1.0, None),
    (2.0, "#fff3c4"),
    (4.0, "#fdd98c"),
    (6.0, "#fdb366"),
    (9.0, "#f7815a"),
    (math.inf, "#e8505b"),
)
FEWEST_LINES, MOST_LINES = 4, 60
"""Lines of a picture: heading and key would stretch a single line; longer texts are cut."""


def surprise_step(bits: float) -> int:
    return next(step for step, (end, _) in enumerate(STEPS) if bits < end or end == math.inf)


def spans(text: str, bits: Sequence[float]) -> str:
    """Return the text as escaped HTML, with steps above 0 in a ``<span>`` of class s1 to s5."""
    return painting.spans(text, [surprise_step(value) for value in bits], "s{}".format)


def style() -> str:
    """Return the CSS rules for `spans`: dark letters on every colour, in light and dark pages."""
    return "".join(
        f".s{step}{{background:{colour};color:#1b1d20}}"
        for step, (_, colour) in enumerate(STEPS)
        if colour
    )


def legend() -> str:
    """Return the meaning of the colours as HTML."""
    names = [f"below {STEPS[0][0]:g} bit"]
    names += [f"{STEPS[i - 1][0]:g} to {STEPS[i][0]:g}" for i in range(1, len(STEPS) - 1)]
    names.append(f"above {STEPS[-2][0]:g}")
    return " ".join(f'<span class="s{step}">{name}</span>' for step, name in enumerate(names))


def page(text: str, bits: Sequence[float], title: str) -> str:
    """Return an HTML page that needs no other files: no scripts, fonts or pictures."""
    mean = sum(bits) / len(bits)
    heading = html.escape(escape_controls(title, ""))
    rules = (
        ":root{color-scheme:light dark}body{font:1rem/1.6 system-ui,sans-serif;"
        "max-width:52rem;margin:0 auto;padding:1.5rem 1rem}pre{white-space:pre-wrap;"
        "overflow-wrap:anywhere;font:.95rem/1.8 ui-monospace,monospace}"
        ".key span{padding:.1em .5em;white-space:nowrap}"
    )
    body = (
        f"<h1>{heading}</h1>"
        f"<p>{mean:.3f} bits per character over {len(bits):,} characters. The colour shows "
        f'how many bits each character took.</p><p class="key">{legend()}</p>'
        # A browser drops a newline that directly follows the tag.
        f'<pre lang="und" dir="auto">\n{spans(text, bits)}</pre>'
    )
    return whole_page(heading, rules + style(), body)


def picture(text: str, bits: Sequence[float], title: str) -> bytes:
    painted = PaintedText(text, [surprise_step(value) for value in bits], FEWEST_LINES, MOST_LINES)
    mean = sum(bits) / len(bits)
    with drawing("--png", fonts=MONOSPACED) as figures:
        from matplotlib.colors import to_rgb

        figure = figures(figsize=(9.5, LINE_HEIGHT * painted.lines + 0.9))
        axes = figure.subplots()
        painted.draw(axes, {i: to_rgb(colour or "white") for i, (_, colour) in enumerate(STEPS)})
        axes.set_title(
            f"{escape_controls(title, '')}: {mean:.3f} bits per character{painted.cut_note}",
            fontsize=11,
        )
        _draw_legend(axes)
        return png(figure)


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
