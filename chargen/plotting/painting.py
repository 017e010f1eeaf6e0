"""Values as steps of a two-sided scale of colours, and a text cut into runs of one step.

Orange stands for below and blue for above: the pair that people of every kind of colour vision
tell apart (Okabe & Ito 2008). Terminal, page and picture paint with the same steps.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

STEPS = 5
"""Shades on each side of the middle, 1 to `STEPS`; 0 is not painted."""

_JOINER = "\u200d"

_TOKEN = re.compile(r"([^\s]*)([^\S\n]*)(\n?)")
"""A word, the space after it, and the line's end if it comes next."""


def step_of(values: NDArray[np.floating], middle: float, low: float, high: float) -> list[int]:
    """The step of each value, from -`STEPS` at `low` over 0 at `middle` to `STEPS` at `high`."""
    values = np.asarray(values, np.float64) - middle
    sides = np.where(values < 0, max(middle - low, 1e-9), max(high - middle, 1e-9))
    steps: list[int] = np.clip(np.rint(values / sides * STEPS), -STEPS, STEPS).astype(int).tolist()
    return steps


def probability_steps(curve: NDArray[np.floating], classes: int) -> list[int]:
    """Steps of probabilities, whose middle is that of a guess among so many classes."""
    return step_of(curve, 1 / classes, 0.0, 1.0)


def scale_end(values: Sequence[float]) -> float:
    """The end of a scale for values on both sides of 0: one in twenty may lie beyond it.

    A single value that is far from all others would otherwise leave these without colour.
    """
    return float(np.quantile(np.abs(values), 0.95)) if len(values) else 0.0


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


def cells(
    text: str, steps: Sequence[int], columns: int, lines: int
) -> Iterator[tuple[int, int, str, int, int]]:
    """(line, column, what stands there, its width, step) of the characters of the first lines."""
    for line, (start, end) in enumerate(islice(lines_of(text, columns), lines)):
        column = 0
        for index in range(start, end):
            shown = " " if text[index] == "\t" else harmless(text[index], "")
            if len(shown) > 1:
                shown = "\ufffd"  # something that acts and is not drawn
            width = width_of(text[index])
            yield line, column, shown, width, steps[index]
            column += width


def is_cut(text: str, columns: int, lines: int) -> bool:
    """Whether a text has characters beyond its first lines."""
    return any(end > begin for begin, end in islice(lines_of(text, columns), lines, None))


def width_of(character: str) -> int:
    """Columns that a character takes as it is shown (`harmless`)."""
    if unicodedata.category(character).startswith("M"):
        return 0
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    return 1 if character.isprintable() else len(harmless(character))


def harmless(text: str, keep: str = "\n\t") -> str:
    """The text with whatever is not drawn but acts (control, direction, line) as an escape."""
    return "".join(
        character
        if character in keep or character == " " or not _acts(character)
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def safe(text: str) -> str:
    """The text for a page: harmless, and with what HTML would read as its own escaped."""
    return html.escape(harmless(text))


def _acts(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cf":
        return character not in ("\u200c", _JOINER, "\u00ad")  # they shape and join letters
    return category in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp")
