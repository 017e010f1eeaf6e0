"""Turn scores into rows, one per document, word or character, and write tables of rows.

Bits are whole multiples of 1/2**24, far finer than a model's own rounding. Sums of bits are
therefore exact: words and characters add up to their document to the last digit.
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

from chargen.errors import ConfigError, printable
from chargen.lm.evaluation import Score
from chargen.storage.whole_files import atomic_write
from chargen.text.files import endings
from chargen.text.formats import DELIMITERS, TABLES

Row = Mapping[str, Any]

_STEPS_PER_BIT = 2.0**24
_WORD = re.compile(r"(\S*)(\s?)(\s*)")


def surprise(score: Score) -> NDArray[np.float64]:
    """Return the bits of each character: (N,)."""
    bits: NDArray[np.float64] = score.log_probs.astype(np.float64) * (-_STEPS_PER_BIT / math.log(2))
    return np.rint(bits) / _STEPS_PER_BIT + 0.0  # no -0.0


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
    for number, match in enumerate(_WORD.finditer(score.text), 1):
        if match.end() > match.start():
            parts = (float(bits[slice(*match.span(group))].sum()) for group in (1, 2, 3))
            names = ("bits", "end_bits", "space_bits")
            yield {"word": number, "text": match[1], **dict(zip(names, parts, strict=True))}


def character_rows(score: Score) -> Iterator[dict[str, Any]]:
    """Yield a row for each character."""
    for number, (character, bits) in enumerate(zip(score.text, surprise(score), strict=True), 1):
        yield {"character": number, "text": character, "bits": float(bits)}


ROWS: dict[str, Callable[[Score], Iterable[dict[str, Any]]]] = {
    "documents": lambda score: [document_row(score)],
    "words": word_rows,
    "characters": character_rows,
}
"""The kinds of rows, each with the function that makes the rows of a document."""


def table_delimiter(output: str, option: str, *others: str) -> str:
    """Return the delimiter for a table's file name, or raise `ConfigError` for a wrong suffix.

    A compression suffix may follow. `others` are further suffixes that the option accepts and
    the caller handles; only the message uses them.
    """
    ending, _ = endings(Path(output))
    delimiter = DELIMITERS.get(TABLES.get(ending, ""))
    if delimiter is None:
        *first, last = *others, ".csv", ".tsv"
        words = f"{', '.join(first)} or {last}"
        raise ConfigError(f"{option} must end in {words}, got {printable(output)}")
    return delimiter


def write_rows(output: str, delimiter: str, rows: Iterable[Row]) -> None:
    """Write a UTF-8 table whose header is the keys of the first row, or raise `CorpusError`."""
    rows = iter(rows)
    first = next(rows, {})
    with atomic_write(output) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        # csv quotes a field with "\r" or "\n" if rows end in "\r\n"; the file's rows end in "\n".
        sink: Any = SimpleNamespace(write=lambda row: text.write(row.removesuffix("\r\n") + "\n"))
        writer = csv.DictWriter(sink, list(first), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(chain([first] if first else [], rows))
        text.detach()
