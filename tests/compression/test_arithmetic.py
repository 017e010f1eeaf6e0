"""Symbols come back, and take the bits that their probabilities say."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.compression.arithmetic import TOTAL_BITS, Decoder, Encoder, frequencies

TOTAL = 1 << TOTAL_BITS


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[list[int], int]]:
    """Frequencies that add up to the whole, and a symbol of them, again and again."""
    found = []
    for _ in range(draw(st.integers(0, 25))):
        cuts = draw(st.lists(st.integers(1, TOTAL - 1), max_size=6, unique=True))
        table = np.diff([0, *sorted(cuts), TOTAL]).tolist()
        found.append((table, draw(st.integers(0, len(table) - 1))))
    return found


@settings(max_examples=60, deadline=None)
@given(messages())
def test_symbols_come_back_and_take_their_bits(message: list[tuple[list[int], int]]) -> None:
    encoder = Encoder()
    for table, symbol in message:
        encoder.encode(sum(table[:symbol]), table[symbol])
    data = encoder.finish()

    decoder = Decoder(data)
    for table, symbol in message:
        ends = np.cumsum(table)
        found = int(ends.searchsorted(decoder.target(), "right"))
        decoder.advance(int(ends[found]) - table[found], table[found])
        assert found == symbol

    needed = -sum(math.log2(table[symbol] / TOTAL) for table, symbol in message)
    assert 8 * len(data) <= needed + 9


def test_a_carry_goes_through_all_bytes_that_are_full() -> None:
    # The interval lies around 1/2, so that what is written is 0x7fffff... until the last symbol.
    for last in (0, 1):
        encoder, table = Encoder(), (TOTAL // 2 - 1, 2, TOTAL // 2 - 1)
        for _ in range(40):
            encoder.encode(table[0], table[1])
        encoder.encode((0, TOTAL - 1)[last], 1)
        decoder = Decoder(encoder.finish())
        for _ in range(40):
            assert table[0] <= decoder.target() < table[0] + table[1]
            decoder.advance(table[0], table[1])
        assert decoder.target() == (0, TOTAL - 1)[last]


def test_bytes_of_equal_frequencies_are_their_own_code() -> None:
    data = bytes(range(256)) + b"XX"
    encoder = Encoder()
    for byte in data:
        encoder.encode(byte << 16, 1 << 16)
    assert encoder.finish() == data


def test_nothing_takes_no_byte() -> None:
    assert Encoder().finish() == b""


def test_bytes_are_as_few_as_lead_into_the_interval() -> None:
    first = Encoder()
    first.encode(0, 1 << 8)  # down to the narrowest interval, which begins at 0
    assert first.finish() == b""
    around_half = Encoder()
    for _ in range(40):
        around_half.encode(TOTAL // 2 - 1, 2)
    assert around_half.finish() == b"\x80"
    third = Encoder()
    third.encode(5, 3)
    assert third.finish() == b"\0\0\x05"
    assert Decoder(b"\0\0\x05\xff").target() == 5


def test_a_number_that_no_encoder_gives_is_within_the_whole() -> None:
    # Widths are rounded down, so that the end of an interval is nobody's.
    decoder = Decoder(((TOTAL - 1) ** 2 * (1 << 16) - 1).to_bytes(8, "big"))
    for _ in range(2):
        assert decoder.target() < TOTAL - 1
        decoder.advance(0, TOTAL - 1)
    assert decoder.target() == TOTAL - 1


@given(st.lists(st.floats(-200, 200, width=32), min_size=1, max_size=300))
def test_frequencies_add_up_and_are_in_proportion(logits: list[float]) -> None:
    values = np.array([logits], np.float32)
    found = frequencies(values)
    p = np.exp(values[0].astype(float) - values.max())
    p /= p.sum()
    assert found.sum() == TOTAL
    assert found.min() >= 1
    assert np.abs(found[0] / TOTAL - p).max() <= (len(logits) + 1) / TOTAL


def test_frequencies_are_as_their_formula_says() -> None:
    # 1 + floor(p (2^24 - 3)) by hand, the likeliest with what is left
    logits = np.array([[0, -1, -2], [-3, 5, 4.5], [2, 2, 2]], np.float32)
    expected = [
        [11160891, 4105862, 1510463],
        [3503, 10440955, 6332758],
        [5592406, 5592405, 5592405],
    ]
    assert frequencies(logits).tolist() == expected
    assert frequencies(logits + np.float32([[512], [0], [-512]])).tolist() == expected


@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_frequencies_of_a_row_are_its_own(rows: int, size: int, data: st.DataObject) -> None:
    numbers = st.floats(-30, 30, width=32)
    row = st.lists(numbers, min_size=size, max_size=size)
    values = np.array(data.draw(st.lists(row, min_size=rows, max_size=rows)), np.float32)
    found = frequencies(values)
    assert found.shape == values.shape
    assert found.dtype == np.int64
    for index in range(rows):
        np.testing.assert_array_equal(found[index], frequencies(values[index : index + 1])[0])
