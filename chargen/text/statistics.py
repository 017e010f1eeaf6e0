"""Statistics of a corpus, computed from its text alone, without a model."""

from __future__ import annotations

import lzma
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from chargen.errors import CorpusError
from chargen.text.symbols import SEPARATOR, plain_text

SAMPLE_CHARACTERS = 10_000_000
"""Characters at the beginning used for entropies and compression; using more takes minutes."""

ORDERS = 4
RAREST = 10

# UTF-8 that was read as latin-1 or cp1252 and saved again: what bytes c3, c2 and e2 80 became.
_MOJIBAKE = re.compile("[\u00c2\u00c3][\u0080-\u00bf]|\u00e2\u20ac[\u0098-\u2122]")


@dataclass(frozen=True)
class Statistics:
    """Statistics of a text."""

    characters: int
    lines: int
    documents: int  # number of documents that are kept apart; 0 if none are
    distinct: int  # number of different characters
    rarest: tuple[tuple[str, int], ...]  # the rarest characters and how often they occur
    once: int  # number of characters that occur once
    # number of characters used for `entropy` and `xz`; below `characters` in a large corpus
    looked_at: int
    # bits per character given the 0, 1, 2 and 3 characters before it, from counts (Shannon 1948).
    # Counts are evaluated on the text that they come from, so high orders are too low for short
    # texts
    entropy: tuple[float, ...]
    xz: float  # see `xz_bits_per_char`
    suspicions: tuple[str, ...]  # sentences about signs of a wrong encoding


def statistics(
    pieces: Iterable[str], encoding: str = "utf-8", name: str = "the corpus"
) -> Statistics:
    """Compute the statistics of a text in pieces, where `SEPARATOR` ends a document.

    Separators are not counted as characters. `encoding` is that of the files, "" for raw bytes;
    `name` is used in messages. Raises `CorpusError` if there is no text.
    """
    counts: npt.NDArray[np.int64] = np.zeros(0x110000, np.int64)
    head: list[str] = []
    sampled = mojibake = documents = 0
    for piece in pieces:
        documents += piece.count(SEPARATOR)
        text = piece.replace(SEPARATOR, "")
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        # Counting into an array over all of Unicode for each piece would take longer.
        distinct, times = np.unique(codes, return_counts=True)
        counts[distinct] += times
        mojibake += len(_MOJIBAKE.findall(text))
        if sampled < SAMPLE_CHARACTERS:
            head.append(piece[: SAMPLE_CHARACTERS - sampled])
            sampled += len(head[-1])
    total = int(counts.sum())
    if not total:
        raise CorpusError(f"there is no text in {name}")
    present = np.flatnonzero(counts)
    order = present[np.lexsort((present, counts[present]))]
    sample = "".join(head)
    characters = sample.replace(SEPARATOR, "")
    return Statistics(
        characters=total,
        lines=int(counts[ord("\n")]),
        documents=documents,
        distinct=len(present),
        rarest=tuple((chr(code), int(counts[code])) for code in order[:RAREST]),
        once=int((counts == 1).sum()),
        looked_at=len(characters),
        entropy=entropies(characters),
        xz=xz_bits_per_char(sample, raw=not encoding),
        suspicions=tuple(_suspicions(counts, total, mojibake, encoding)) if encoding else (),
    )


def xz_bits_per_char(text: str, *, raw: bool = False) -> float:
    """Return the bits per character of a text compressed by xz (preset 9, extreme), for comparison.

    The text is compressed as UTF-8, or, if `raw`, as the bytes that its characters stand for. The
    end of a document becomes a newline and counts as a character, since a model predicts it too.
    The header and index of the format, some 60 bytes, are included.
    """
    return _bits_per_char(text, raw, partial(lzma.compress, preset=9 | lzma.PRESET_EXTREME))


def zlib_bits_per_char(text: str, *, raw: bool = False) -> float:
    """Return the bits per character by zlib (level 9), computed as in `xz_bits_per_char`."""
    return _bits_per_char(text, raw, partial(zlib.compress, level=9))


def _bits_per_char(text: str, raw: bool, compress: Callable[[bytes], bytes]) -> float:
    data = plain_text(text).encode("latin-1" if raw else "utf-8", "replace")
    return 8 * len(compress(data)) / len(text)


def entropies(text: str, orders: int = ORDERS) -> tuple[float, ...]:
    """Return conditional entropies in bits per character, from counts, of orders 0 to `orders` - 1.

    Examples
    --------
    >>> entropies("abababab", 2)
    (1.0, 0.0)
    """
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    ranks = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    grams, conditional = ranks, []
    context_entropy = 0.0
    for order in range(orders):
        if order:
            # The number of shorter n-grams times that of characters is far below 2 ** 63.
            grams = grams[:-1] * (int(ranks.max()) + 1) + ranks[order:]
        if not len(grams):
            break
        _, inverse, times = np.unique(grams, return_inverse=True, return_counts=True)
        grams = inverse.astype(np.int64)
        joint = _entropy(times)
        conditional.append(max(0.0, joint - context_entropy))
        # No character follows the last n-gram of the text, so it is not counted as a context.
        context_entropy = _entropy(np.bincount(grams[:-1])) if len(grams) > 1 else 0.0
    return tuple(conditional)


def _entropy(times: npt.NDArray[np.int64]) -> float:
    share = times[times > 0] / times.sum()
    return float(-(share * np.log2(share)).sum())


def _suspicions(
    counts: npt.NDArray[np.int64], total: int, mojibake: int, encoding: str
) -> list[str]:
    notes = []
    if mojibake > max(3, total // 100_000):
        notes.append(
            f"{mojibake:,} places look like UTF-8 that was read as latin-1 or cp1252 (as in "
            "\u00c3\u00a9 for \u00e9)"
        )
    if times := int(counts[0xFFFD]):
        notes.append(f"{times:,} characters are U+FFFD: bytes were lost in an earlier conversion")
    control = sum(
        int(counts[code]) for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\t\n\f"
    )
    if control:
        notes.append(f"{control:,} control characters: is {encoding} the right encoding?")
    private = int(counts[0xE000:0xF900].sum())
    if private:
        notes.append(f"{private:,} characters of private use, which mean nothing without a font")
    combining = sum(int(counts[c]) for c in range(0x300, 0x370))
    composed = sum(int(counts[c]) for c in range(0xC0, 0x180) if unicodedata.decomposition(chr(c)))
    if combining and composed:
        notes.append(
            "accented letters are written in two ways, as one character and as two: use "
            "--normalize NFC"
        )
    return notes
