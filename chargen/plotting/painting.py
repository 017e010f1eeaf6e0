"""Texts coloured by the steps of a colour scale, as HTML and in matplotlib figures.

The scale has two sides: orange for values below the middle and blue for values above, a pair that
people with every kind of colour vision can distinguish (Okabe & Ito 2008). Terminal, page and
picture use the same steps.
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
"""Shades on each side of the middle, 1 to `STEPS`; step 0 has no colour."""

BELOW, ABOVE = (230, 97, 1), (30, 120, 210)
"""Red, green and blue of the two sides, up to 255."""

_SHADES = (0.0, 0.13, 0.25, 0.38, 0.52, 0.68)

COLUMNS = 88
"""Columns of a text in a figure."""

LINE_HEIGHT = 0.19
"""Height of a line of text in a figure, in inches."""

_JOINER = "\u200d"

_TOKEN = re.compile(r"([^\s]*)([^\S\n]*)(\n?)")
"""A word, the space after it, and a line break if it follows directly."""


def scale_steps(values: NDArray[np.floating], middle: float, low: float, high: float) -> list[int]:
    """Return the step of each value: -`STEPS` at `low`, 0 at `middle` and `STEPS` at `high`."""
    values = np.asarray(values, np.float64) - middle
    sides = np.where(values < 0, max(middle - low, 1e-9), max(high - middle, 1e-9))
    steps: list[int] = np.clip(np.rint(values / sides * STEPS), -STEPS, STEPS).astype(int).tolist()
    return steps


def scale_end(values: Sequence[float] | NDArray[np.floating]) -> float:
    """Return the end of a symmetric scale for values; one value in twenty may lie beyond it.

    Otherwise a single extreme value would leave all other values without colour.
    """
    return float(np.quantile(np.abs(values), 0.95)) if len(values) else 0.0


def shade(step: int) -> NDArray[np.float64]:
    """Return the colour of a step on white paper: red, green and blue up to 1, (3,)."""
    return 1 - _SHADES[abs(step)] * (1 - np.array(ABOVE if step > 0 else BELOW) / 255)


def scale_style() -> str:
    """Return the CSS rules for `spans`, on light and dark pages."""
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
    """Return the scale as HTML between labels for its ends, which the caller has escaped."""
    boxes = "".join(
        f'<span class="{step_class(step)}"></span>' if step else "<span></span>"
        for step in range(-STEPS, STEPS + 1)
    )
    return (
        f'<p class="legend"><span>{low}</span><span class="scale">{boxes}</span>'
        f"<span>{high}</span></p>\n"
    )


def step_class(step: int) -> str:
    """Return the HTML class of a step: b5 to b1 below, a1 to a5 above."""
    return f"{'a' if step > 0 else 'b'}{abs(step)}"


def spans(text: str, steps: Sequence[int], class_of: Callable[[int], str] = step_class) -> str:
    """Return the text as HTML, with nonzero steps in a ``<span>`` of class `class_of(step)`."""
    return "".join(
        f'<span class="{class_of(step)}">{to_html(piece)}</span>' if step else to_html(piece)
        for piece, step in pieces_by_step(text, steps)
    )


def whole_page(title: str, style: str, body: str) -> str:
    """Return an HTML page that can load no other files; the caller has escaped all arguments."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n</body>\n"
        "</html>\n"
    )


class PaintedText:
    """The first lines of a text for a figure, at most `most_lines`, with the steps of its colours.

    `cut_note` is a note for the title, which is empty unless the text was cut.
    """

    def __init__(self, text: str, steps: Sequence[int], fewest_lines: int, most_lines: int) -> None:
        self._text, self._steps = text, steps
        line_spans = list(wrapped_lines(text, COLUMNS))
        filled = [index for index, (start, end) in enumerate(line_spans, 1) if end > start]
        self._spans = line_spans[:most_lines]
        self.lines = max([fewest_lines, *(index for index in filled if index <= most_lines)])
        self.cut_note = " (its beginning)" if filled and filled[-1] > most_lines else ""

    def draw(self, axes: Any, colours: Mapping[int, Any]) -> None:
        """Draw the text on the axes, each step in its colour: red, green and blue up to 1."""
        axes.set(xlim=(0, COLUMNS), ylim=(self.lines, 0))
        axes.axis("off")
        paper = np.ones((self.lines, COLUMNS, 3))
        for line, (start, end) in enumerate(self._spans):
            column, letter = 0, None  # the last character that was drawn
            for character, step in zip(self._text[start:end], self._steps[start:end], strict=True):
                shown = " " if character == "\t" else escape_controls(character, "")
                shown = shown if len(shown) == 1 else "\ufffd"  # no room for an escape
                width = column_width(character)
                paper[line, column : column + width] = colours[step]
                if not width and letter:  # a mark belongs to the letter before it
                    letter.set_text(letter.get_text() + shown)
                elif shown.strip():
                    position = (column + (width / 2 or -0.5), line + 0.52)
                    letter = axes.text(*position, shown, ha="center", va="center", fontsize=8.5)
                else:
                    letter = None
                column += width
        extent = (0, COLUMNS, self.lines, 0)
        axes.imshow(paper, extent=extent, aspect="auto", interpolation="nearest")


def pieces_by_step(text: str, steps: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Yield a text in pieces of one step each.

    A combining mark or the second part of a joined character takes the step of the character before
    it, so that no letter is split.
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


def wrapped_lines(text: str, columns: int) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each line of a text that is wrapped to `columns`.

    The space and the line break at the end of a line belong to no line.
    """
    begin = end = column = 0
    for token in _TOKEN.finditer(text):
        word = token[1]
        if column and column + sum(map(column_width, word)) > columns:
            yield begin, end
            begin, column = token.start(), 0
        end = token.start()
        for character in word:
            width = column_width(character)
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


def column_width(character: str) -> int:
    """Return the number of columns that a character takes when shown by `escape_controls`."""
    if unicodedata.category(character).startswith("M"):
        return 0
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    return 1 if character.isprintable() else len(escape_controls(character))


def escape_controls(text: str, keep: str = "\n\t") -> str:
    """Escape characters that act instead of being drawn (control, direction, line), but `keep`."""
    return escaped(text, lambda character: character not in keep + " " and _is_control(character))


def to_html(text: str) -> str:
    """Return the text as HTML: after `escape_controls`, with special characters escaped."""
    return html.escape(escape_controls(text))


def _is_control(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cf":
        return character not in ("\u200c", _JOINER, "\u00ad")  # these shape and join letters
    return category in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp")
