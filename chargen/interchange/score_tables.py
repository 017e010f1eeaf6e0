"""Scores as rows: a document, a word or a character each; and tables of rows in files.

Bits are whole multiples of 1/2**24, far finer than a model's own rounding: sums of them are exact,
so that those of words and of characters are those of their document to the last digit.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError, shown
from chargen.lm.evaluation import Score
from chargen.storage.whole_files import whole_file
from chargen.text.files import endings
from chargen.text.formats import DELIMITERS, TABLES

Row = Mapping[str, Any]

_FINEST = 2.0**24
_WORD = re.compile(r"(\S*)(\s?)(\s*)")


def surprise(score: Score) -> NDArray[np.float64]:
    """Bits of each character, (N,)."""
    bits: NDArray[np.float64] = score.log_probs.astype(np.float64) * (-_FINEST / math.log(2))
    return np.rint(bits) / _FINEST + 0.0  # no -0.0


def document_row(score: Score) -> dict[str, Any]:
    """Return the figures of a document: in total and per character."""
    bits, characters = float(surprise(score).sum()), len(score.text)
    return {
        "characters": characters,
        "bits": bits,
        "nats": bits * math.log(2),
        "bits_per_char": bits / characters,
        "perplexity": score.perplexity,
    }


def word_rows(score: Score) -> Iterator[dict[str, Any]]:
    """Yield a row for each word; a word is the text between white space.

    `bits` is the sum from its first letter to its last. Only the next character shows that the word
    has ended (Pimentel & Meister 2024); its bits are `end_bits`. `space_bits` are those of further
    white space. White space at the beginning of a document belongs to a word without letters.
    """
    bits = surprise(score)
    for number, found in enumerate(_WORD.finditer(score.text), 1):
        if found.end() > found.start():
            parts = (float(bits[slice(*found.span(group))].sum()) for group in (1, 2, 3))
            names = ("bits", "end_bits", "space_bits")
            yield {"word": number, "text": found[1], **dict(zip(names, parts, strict=True))}


def character_rows(score: Score) -> Iterator[dict[str, Any]]:
    """Yield a row for each character."""
    for number, (character, bits) in enumerate(zip(score.text, surprise(score), strict=True), 1):
        yield {"character": number, "text": character, "bits": float(bits)}


ROWS: dict[str, Callable[[Score], Iterable[dict[str, Any]]]] = {
    "documents": lambda score: [document_row(score)],
    "words": word_rows,
    "characters": character_rows,
}
"""What a row is, and the rows of a document."""


def delimiter_of(output: str, option: str, *others: str) -> str:
    """What separates the columns of a table with this name, which may be compressed; else raises
    `ConfigError`. The option takes `others` too, endings that the caller has looked for.
    """
    ending, _ = endings(Path(output))
    found = DELIMITERS.get(TABLES.get(ending, ""))
    if found is None:
        *first, last = *others, ".csv", ".tsv"
        words = f"{', '.join(first)} or {last}"
        raise ConfigError(f"{option} must end in {words}, got {shown(output)}")
    return found


def write_rows(output: str, delimiter: str, rows: Iterable[Row]) -> None:
    """Write a table in UTF-8, its header the names of the first row, or raise `CorpusError`."""
    rows = iter(rows)
    first = next(rows, {})
    with whole_file(output) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        # Where rows end in "\r\n", a field with either character is quoted; here they end in "\n".
        ended: Any = SimpleNamespace(write=lambda row: text.write(row.removesuffix("\r\n") + "\n"))
        writer = csv.DictWriter(ended, list(first), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(chain([first] if first else [], rows))
        text.detach()
