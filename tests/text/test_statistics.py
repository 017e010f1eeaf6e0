"""Figures of a text, against counts by hand."""

from __future__ import annotations

import lzma
import math
import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.errors import CorpusError
from chargen.text.statistics import entropies, statistics, xz_bits_per_char
from chargen.text.symbols import SEPARATOR


def conditional(text: str, order: int) -> float:
    """Entropy of a character given `order` before it, by the definition."""
    pairs = Counter((text[i - order : i], text[i]) for i in range(order, len(text)))
    contexts: Counter[str] = Counter()
    for (context, _), times in pairs.items():
        contexts[context] += times
    total = sum(pairs.values())
    return -sum(n / total * math.log2(n / contexts[context]) for (context, _), n in pairs.items())


@given(st.text(alphabet="ab\u00e9\U0001f600\n", min_size=5, max_size=200))
def test_entropies_are_those_of_the_definition(text: str) -> None:
    expected = [conditional(text, order) for order in range(4)]
    assert entropies(text) == pytest.approx(expected, abs=1e-9)


def test_entropies_of_many_characters() -> None:
    text = "".join(map(chr, random.Random(1).sample(range(0x20000), 50_000))).replace("\ud800", "")
    text = "".join(c for c in text if not 0xD800 <= ord(c) < 0xE000)
    assert entropies(text)[0] == pytest.approx(math.log2(len(text)))
    assert entropies(text)[1] == pytest.approx(0.0, abs=1e-9)


def test_pieces_do_not_matter() -> None:
    text = "to be or not to be\n" * 50 + "\u00e9!"
    whole = statistics([text])
    assert whole == statistics([text[:7], text[7:400], text[400:]])
    assert whole.characters == len(text)
    assert whole.lines == 50
    assert whole.distinct == len(set(text))
    assert whole.rarest[:2] == (("!", 1), ("\u00e9", 1))
    assert whole.once == 2


def test_xz_is_that_of_the_bytes() -> None:
    text = "to be or not to be\n" * 50 + "\u732b \U0001f600"
    packed = lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)
    assert xz_bits_per_char(text) == 8 * len(packed) / len(text)
    documents = text.replace("\n", SEPARATOR)
    assert xz_bits_per_char(documents) == xz_bits_per_char(text)
    assert statistics([text]).xz == statistics([documents]).xz == xz_bits_per_char(text)
    assert statistics([documents]).characters == len(text) - 50


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("caf\u00c3\u00a9 " * 20, "read as latin-1"),
        ("caf\ufffd", r"U\+FFFD"),
        ("a\x93b\x94", "2 control characters"),
        ("cafe\u0301 caf\u00e9", "--normalize NFC"),
        ("\ue000", "private use"),
    ],
)
def test_suspicions(text: str, said: str) -> None:
    (found,) = statistics([text]).suspicions
    assert re.search(said, found)


def test_honest_texts_are_not_suspected() -> None:
    assert not statistics(
        ["na\u00efve caf\u00e9, \u4f60\u597d, \u00ab\u00c3o\u00bb\n\t" * 30]
    ).suspicions


def test_no_text() -> None:
    with pytest.raises(CorpusError, match="no text"):
        statistics([])
