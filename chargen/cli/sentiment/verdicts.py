"""Output of classifiers: a line or a JSON object per text, tables, notes, failures, progress."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import click

from chargen.cli.progress import LINE_SECONDS
from chargen.cli.terminal import say, visible, visible_json
from chargen.errors import ConfigError, printable, spelled


def print_verdict(predictor: Any, verdict: Any, as_json: bool) -> None:
    """Print one verdict of a `Predictor` on stdout."""
    from chargen.sentiment.tables import rounded
    from chargen.text.table_writer import json_line

    label, labels = verdict.label, predictor.classifier.labels
    if as_json:
        values = verdict.probabilities
        probabilities = (
            None if values is None else dict(zip(labels, map(rounded, values), strict=True))
        )
        answer = {"text": verdict.text, "label": label, "probabilities": probabilities}
        click.echo(visible_json(json_line(answer)))
        return
    word = "" if predictor.config.threshold is None else predictor.config.word
    width = max(_columns(visible(each)) for each in (*labels, word))
    best = "    -" if label is None else f"{verdict.probabilities.max():.3f}"
    columns = shutil.get_terminal_size().columns
    text = on_one_line(verdict.text, max(20, columns - width - 10))
    shown = visible(label or "-")
    click.echo(f"{shown}{' ' * (width - _columns(shown))}  {best}  {text}".rstrip())


def on_one_line(text: str, length: int) -> str:
    """Return the beginning of a text as one line of at most `length` columns, safe to print."""
    words = " ".join(text[: 4 * length].split())
    line = visible(words)
    if _columns(line) <= length and len(text) <= 4 * length:
        return line
    ends = accumulate(map(_columns, line))  # the column in which each character ends
    return line[: sum(end < length for end in ends)].rstrip() + "…"


def _columns(text: str) -> int:
    """Return the number of columns that a text takes in a terminal."""
    if text.isascii():
        return len(text)
    from chargen.plotting.painting import column_width

    return sum(map(column_width, text))


def refuse_file(text: str, advice: str) -> None:
    """Raise `ConfigError` if a text is the name of a file, or can hardly be anything else.

    `advice` tells the user how to have the file read.
    """
    from chargen.text.files import endings
    from chargen.text.formats import TABLES

    try:
        is_file = Path(text).is_file()
    except (OSError, ValueError):  # too long or otherwise invalid as a name
        return
    if is_file:
        raise ConfigError(f"{printable(text)} is a file, not a text: {advice}")
    if len(text.split()) == 1 and endings(Path(text))[0] in (*TABLES, ".txt"):
        raise ConfigError(
            f"{printable(text)} looks like the name of a file, but there is no such file"
        )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return a table with its first column left-aligned and the others right-aligned."""
    widths = [max(map(_columns, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        first, *others = ((cell, " " * (width - _columns(cell))) for cell, width in cells)
        lines.append("  ".join(["".join(first), *(blanks + cell for cell, blanks in others)]))
    return "\n".join(lines)


def note_unknown(characters: str) -> None:
    """Note on stderr the characters, if any, that an encoder has never seen."""
    from chargen.sentiment.tables import MAX_UNKNOWN_CHARACTERS as MOST

    if characters:
        listed = spelled(characters[:MOST]) + (" ..." if len(characters) >= MOST else "")
        say(f"note: the encoder has never seen these characters (read as unknown): {listed}")


def report_problems(predictor: Any, noun: str, quiet: bool) -> int:
    """Report on stderr unknown characters, unlikely labels and rows without a prediction.

    Returns
    -------
    int
        The exit code: 1 if a row has no prediction, otherwise 0.
    """
    if not quiet:
        note_unknown(predictor.unknown)
    if predictor.config.threshold is not None and not quiet:
        say(
            f"note: {predictor.unlikely:,} of {predictor.rows:,} {noun} are "
            f"{visible(predictor.config.word)!r}: no label reaches {predictor.config.threshold:g}"
        )
    if not predictor.failures:
        return 0
    say(f"chargen: no prediction for {predictor.failures:,} of {predictor.rows:,} {noun}:")
    for problem in predictor.problems:
        say(f"  {problem}")
    if predictor.failures > len(predictor.problems):
        say(f"  and {predictor.failures - len(predictor.problems):,} more")
    return 1


class RowProgress:
    """Progress through a table: a bar on a terminal, occasional lines elsewhere.

    Parameters
    ----------
    noun : str
        Noun for the rows, in the plural.
    """

    def __init__(self, noun: str = "rows") -> None:
        self._noun = noun
        self._start_time = self._reported_at = time.monotonic()
        self._bar: Any = None

    def __call__(self, rows: int, share: float) -> None:
        """Show that `rows` are done, which are `share` of all (0 if that is unknown)."""
        now = time.monotonic()
        words = f"{rows:,} {self._noun}, {rows / max(now - self._start_time, 1e-9):,.0f}/s"
        if sys.stderr.isatty():
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(
                    total=1.0, bar_format="{percentage:3.0f}%|{bar}| {postfix}", leave=False
                )
            self._bar.n = share
            self._bar.set_postfix_str(words, refresh=True)
        elif now - self._reported_at >= LINE_SECONDS:
            self._reported_at = now
            say(f"{share:.0%}: {words}" if share else words)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
