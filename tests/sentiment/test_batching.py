"""Texts as ids, and batches in which every text stands once beside others of like length."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.sentiment.network import (
    EncodedTexts,
    TextEncoding,
    sorted_batches,
    text_encodings,
)
from chargen.sentiment.text_classification import shuffled_batches
from chargen.text.symbols import SEPARATOR
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary

from .making import BYTES, CHARS, make_lm, make_network

LENGTHS = st.lists(st.integers(1, 3000), max_size=200)


def shuffled(lengths: list[int], batch_size: int, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return shuffled_batches(np.array(lengths, np.int64), batch_size, generator)


# ---------------------------------------------------------------- ids


def test_texts_stand_after_the_start_symbol() -> None:
    assert TextEncoding(CHARS, False).encode("ab").tolist() == [CHARS.start_id, *CHARS.encode("ab")]
    assert TextEncoding(CHARS, True).encode("ab").tolist() == [CHARS.start_id, *CHARS.encode("ba")]
    assert TextEncoding(BYTES, False).encode("é").tolist() == [10, 0xC3, 0xA9]
    assert TextEncoding(BYTES, True).encode("aé").tolist() == [10, 0xA9, 0xC3, ord("a")]
    for vocabulary in (CHARS, BYTES, ByteVocabulary(documents=True)):
        assert TextEncoding(vocabulary, True).encode("").tolist() == [vocabulary.start_id]


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", f"{SEPARATOR}x", "é\udc80"])
def test_lone_surrogates_are_read_as_replacement_characters(text: str) -> None:
    plain = text.encode("utf-8", "replace").decode().replace("?", "\ufffd")
    for vocabulary in (
        BYTES,
        ByteVocabulary(documents=True),
        CHARS,
        CharVocabulary("ab\ufffd", documents=True),
    ):
        found = TextEncoding(vocabulary, False).encode(text)
        assert found.tolist() == TextEncoding(vocabulary, False).encode(plain).tolist()
        assert vocabulary.separator_id not in found[1:].tolist()  # not taken for an end


def test_unknown_characters_are_read_as_such() -> None:
    assert TextEncoding(CHARS, False).encode("a★b")[2] == CHARS.unknown_id


def test_eyes_follow_the_encoders() -> None:
    network = make_network(make_lm(), make_lm(BYTES, direction="backward"))
    encodings = text_encodings(network, [CHARS, BYTES])
    assert [(encoding.vocabulary, encoding.backward) for encoding in encodings] == [
        (CHARS, False),
        (BYTES, True),
    ]
    with pytest.raises(ValueError, match="zip"):
        text_encodings(network, [CHARS])


def test_readings_are_padded_at_the_end() -> None:
    encoded = EncodedTexts(
        ["abc", "", "é"], [TextEncoding(CHARS, False), TextEncoding(BYTES, True)]
    )
    assert len(encoded) == 3
    assert encoded.lengths.tolist() == [4, 1, 3]  # the longer of both ways of reading
    characters, data = encoded.inputs([2, 0], "cpu")
    start = CHARS.start_id
    a, b, c, e = CHARS.encode("abcé").tolist()
    assert characters.ids.T.tolist() == [[start, e, start, start], [start, a, b, c]]
    assert characters.lengths.tolist() == [2, 4]
    assert data.ids.T.tolist() == [[10, 0xA9, 0xC3, 10], [10, *b"cba"]]
    assert data.lengths.tolist() == [3, 4]
    assert characters.ids.dtype == characters.lengths.dtype == torch.int64
    assert len(EncodedTexts([], [TextEncoding(CHARS, False)])) == 0


# ---------------------------------------------------------------- batches


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(2, 40), st.integers(0, 9))
def test_an_epoch_has_every_text_once(lengths: list[int], batch_size: int, seed: int) -> None:
    batches = shuffled(lengths, batch_size, seed)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) <= batch_size + 1 for batch in batches)
    if len(lengths) > 1:
        assert all(len(batch) > 1 for batch in batches)  # batch normalisation needs two


def test_epochs_differ_and_come_back() -> None:
    lengths = list(range(1, 101))
    assert shuffled(lengths, 8, 3) == shuffled(lengths, 8, 3)
    assert shuffled(lengths, 8, 3) != shuffled(lengths, 8, 4)
    firsts = {shuffled(lengths, 8, seed)[0][0] for seed in range(10)}
    assert len(firsts) > 3  # not the shortest first


def test_texts_of_like_length_stand_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 2000, 3000)
    batches = shuffled(lengths.tolist(), 32)
    padded = sum(lengths[batch].max() * len(batch) for batch in batches)
    assert padded < 1.1 * lengths.sum()


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 40), st.integers(1, 9000))
def test_sorted_batches(lengths: list[int], batch_size: int, symbols: int) -> None:
    batches = list(sorted_batches(np.array(lengths, np.int64), batch_size, symbols))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for batch, length in zip(batches, longest, strict=True):
        assert len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * length <= symbols
