"""Texts painted by the steps of a scale of colours, as HTML and in figures of matplotlib.

The scale here has two sides: orange stands for below and blue for above, the pair that people of
every kind of colour vision tell apart (Okabe & Ito 2008). Terminal, page and picture paint with the
same steps.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import escaped

STEPS = 5
"""Shades on each side of the middle, 1 to `STEPS`; 0 is not painted."""

BELOW, ABOVE = (230, 97, 1), (30, 120, 210)
"""Red, green and blue of both sides, up to 255."""

_SHADES = (0.0, 0.13, 0.25, 0.38, 0.52, 0.68)

COLUMNS = 88
"""Of a text in a figure."""

LINE_HEIGHT = 0.19
"""Of its lines, in inches."""

_JOINER = "\u200d"

_TOKEN = re.compile(r"([^\s]*)([^\S\n]*)(\n?)")
"""A word, the space after it, and the line's end if it comes next."""


def step_of(values: NDArray[np.floating], middle: float, low: float, high: float) -> list[int]:
    """The step of each value, from -`STEPS` at `low` over 0 at `middle` to `STEPS` at `high`."""
    values = np.asarray(values, np.float64) - middle
    sides = np.where(values < 0, max(middle - low, 1e-9), max(high - middle, 1e-9))
    steps: list[int] = np.clip(np.rint(values / sides * STEPS), -STEPS, STEPS).astype(int).tolist()
    return steps


def scale_end(values: Sequence[float] | NDArray[np.floating]) -> float:
    """The end of a scale for values on both sides of 0: one in twenty may lie beyond it.

    A single value that is far from all others would otherwise leave these without colour.
    """
    return float(np.quantile(np.abs(values), 0.95)) if len(values) else 0.0


def shade(step: int) -> NDArray[np.float64]:
    """Red, green and blue of a step on white paper, up to 1: (3,)."""
    return 1 - _SHADES[abs(step)] * (1 - np.array(ABOVE if step > 0 else BELOW) / 255)


def scale_style() -> str:
    """The rules of CSS for `spans`, on light and dark pages."""
    below, above = (" ".join(map(str, side)) for side in (BELOW, ABOVE))
    rules = [
        f".{letter}{step} {{ background: rgb({colour} / {_SHADES[step]}); }}"
        for letter, colour in (("b", below), ("a", above))
        for step in range(1, STEPS + 1)
    ]
    rules += [
        f"svg .{name} {{ fill: rgb({colour} / .5); }} "
        f".key.{name} {{ background: rgb({colour} / .6); }}"
        for name, colour in (("below", below), ("above", above))
    ]
    return "\n".join(rules) + "\n"


def scale_legend(low: str, high: str) -> str:
    """The scale between what its ends mean, as HTML; both are escaped by the caller."""
    boxes = "".join(
        f'<span class="{side_of(step)}"></span>' if step else "<span></span>"
        for step in range(-STEPS, STEPS + 1)
    )
    return (
        f'<p class="legend"><span>{low}</span><span class="scale">{boxes}</span>'
        f"<span>{high}</span></p>\n"
    )


def side_of(step: int) -> str:
    """The class of a step in HTML: b5 to b1 below, a1 to a5 above."""
    return f"{'a' if step > 0 else 'b'}{abs(step)}"


def spans(text: str, steps: Sequence[int], kind: Callable[[int], str] = side_of) -> str:
    """The text as HTML, escaped; what has a step in a ``<span>`` of the class of that `kind`."""
    return "".join(
        f'<span class="{kind(step)}">{safe(piece)}</span>' if step else safe(piece)
        for piece, step in runs(text, steps)
    )


def whole_page(title: str, style: str, body: str) -> str:
    """One HTML page that needs nothing else and may fetch nothing; all is escaped by the caller."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n</body>\n"
        "</html>\n"
    )


class PaintedText:
    """The first lines of a text, at most `most_lines`, for a figure, with the steps to paint it in.

    `cut` is what a title says of a text that was cut.
    """

    def __init__(self, text: str, steps: Sequence[int], fewest_lines: int, most_lines: int) -> None:
        self._text, self._steps = text, steps
        spans = list(lines_of(text, COLUMNS))
        filled = [index for index, (start, end) in enumerate(spans, 1) if end > start]
        self._spans = spans[:most_lines]
        self.lines = max([fewest_lines, *(index for index in filled if index <= most_lines)])
        self.cut = " (its beginning)" if filled and filled[-1] > most_lines else ""

    def draw(self, axes: Any, colours: Mapping[int, Any]) -> None:
        """Draw it on the axes, each step in its colour: red, green and blue up to 1."""
        axes.set(xlim=(0, COLUMNS), ylim=(self.lines, 0))
        axes.axis("off")
        paper = np.ones((self.lines, COLUMNS, 3))
        for line, (start, end) in enumerate(self._spans):
            column = 0
            for character, step in zip(self._text[start:end], self._steps[start:end], strict=True):
                shown = " " if character == "\t" else harmless(character, "")
                shown = shown if len(shown) == 1 else "\ufffd"  # what acts is not drawn
                width = width_of(character)
                paper[line, column : column + width] = colours[step]
                if shown.strip():
                    place = (column + max(width, 1) / 2, line + 0.52)
                    axes.text(*place, shown, ha="center", va="center", fontsize=8.5)
                column += width
        extent = (0, COLUMNS, self.lines, 0)
        axes.imshow(paper, extent=extent, aspect="auto", interpolation="nearest")


def runs(text: str, steps: Sequence[int]) -> Iterator[tuple[str, int]]:
    """A text in pieces of one step each.

    A mark or the second half of a joined sign is painted as what it stands on, so that no letter
    is torn apart.
    """
    begin, current = 0, 0
    for index, (character, step) in enumerate(zip(text, steps, strict=True)):
        joined = index > begin and (
            unicodedata.category(character).startswith("M")
            or character == _JOINER
            or text[index - 1] == _JOINER
        )
        if joined or (index > begin and step == current):
            continue
        if index > begin:
            yield text[begin:index], current
        begin, current = index, step
    if begin < len(text):
        yield text[begin:], current


def lines_of(text: str, columns: int) -> Iterator[tuple[int, int]]:
    """Where each line of a text wrapped to so many columns begins and ends.

    The space and the line break at a line's end belong to none.
    """
    begin = end = column = 0
    for token in _TOKEN.finditer(text):
        word = token[1]
        if column and column + sum(map(width_of, word)) > columns:
            yield begin, end
            begin, column = token.start(), 0
        end = token.start()
        for character in word:
            width = width_of(character)
            if column + width > columns:  # a word longer than a line
                yield begin, end
                begin, column = end, 0
            end += 1
            column += width
        column += len(token[2])
        if token[3]:
            yield begin, end
            begin = end = token.end()
            column = 0
    yield begin, max(begin, end)


def width_of(character: str) -> int:
    """Columns that a character takes as it is shown (`harmless`)."""
    if unicodedata.category(character).startswith("M"):
        return 0
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    return 1 if character.isprintable() else len(harmless(character))


def harmless(text: str, keep: str = "\n\t") -> str:
    """The text with whatever is not drawn but acts (control, direction, line) as an escape."""
    return escaped(text, lambda character: character not in keep + " " and _acts(character))


def safe(text: str) -> str:
    """The text for a page: harmless, and with what HTML would read as its own escaped."""
    return html.escape(harmless(text))


def _acts(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cf":
        return character not in ("\u200c", _JOINER, "\u00ad")  # they shape and join letters
    return category in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp")
