"""Arithmetic coding: encode symbols with given probabilities as bytes, and decode them.

A message is a number in [0, 1). Each symbol narrows the interval that contains the number, in
proportion to the symbol's probability (Witten, Neal & Cleary 1987,
https://doi.org/10.1145/214762.214771). The integers here have 64 bits, and their leading bytes are
written as soon as they are settled (Martin 1979, "Range encoding"). Independent of models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOTAL_BITS = 24
"""Frequencies add up to ``2 ** TOTAL_BITS``."""

_TOP = 1 << 64
_MIN_RANGE = 1 << 48
"""Minimum width of the interval, so that a frequency of 1 spans some 2 ** 24 numbers."""


def frequencies(logits: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return integers (B, V) proportional to the probabilities, each at least 1.

    With the probabilities p, the softmax of the logits (B, V) in float64, each symbol gets
    ``1 + floor(p (2 ** TOTAL_BITS - V))``; the likeliest symbol also gets the rest up to
    ``2 ** TOTAL_BITS``.
    """
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    p = np.exp(shifted)
    p /= p.sum(-1, keepdims=True)
    counts: NDArray[np.int64] = 1 + (p * ((1 << TOTAL_BITS) - logits.shape[-1])).astype(np.int64)
    counts[np.arange(len(counts)), logits.argmax(-1)] += (1 << TOTAL_BITS) - counts.sum(-1)
    return counts


class Encoder:
    """An arithmetic encoder, which narrows the interval symbol by symbol.

    Examples
    --------
    >>> encoder = Encoder()
    >>> encoder.encode(1 << 23, 1 << 23)  # the second half of the interval: one bit
    >>> encoder.finish()
    b'\x80'
    """

    def __init__(self) -> None:
        self._low, self._range = 0, _TOP
        self._out = bytearray()

    def encode(self, start: int, frequency: int, bits: int = TOTAL_BITS) -> None:
        """Encode a symbol by its frequency, at least 1; all frequencies sum to ``2 ** bits``.

        `start` is the sum of the frequencies of the symbols with smaller ids.
        """
        step = self._range >> bits
        self._low += step * start
        self._range = step * frequency
        self._carry()
        while self._range < _MIN_RANGE:
            self._out.append(self._low >> 56)
            self._low = self._low << 8 & _TOP - 1
            self._range <<= 8

    def finish(self) -> bytes:
        """Return the fewest bytes that lie in the interval when followed by zeros."""
        for length in range(9):
            unit = _TOP >> 8 * length
            number = -(-self._low // unit) * unit
            if number < self._low + self._range:
                break
        self._low = number
        self._carry()
        return (bytes(self._out) + self._low.to_bytes(8, "big")).rstrip(b"\0")

    def _carry(self) -> None:
        if self._low >= _TOP:
            self._low -= _TOP
            index = len(self._out) - 1
            while self._out[index] == 255:
                self._out[index] = 0
                index -= 1
            self._out[index] += 1


class Decoder:
    """An arithmetic decoder of the bytes from `Encoder.finish`, given the same frequencies."""

    def __init__(self, data: bytes) -> None:
        self._data, self._next_index = data, 8
        self._code = int.from_bytes(data[:8].ljust(8, b"\0"), "big")  # minus the interval's start
        self._range = _TOP

    def target(self, bits: int = TOTAL_BITS) -> int:
        """Return a number in ``[start, start + frequency)`` of the next symbol."""
        return min(self._code // (self._range >> bits), (1 << bits) - 1)

    def advance(self, start: int, frequency: int, bits: int = TOTAL_BITS) -> None:
        """Advance past the symbol that was found; for the arguments see `Encoder.encode`."""
        step = self._range >> bits
        self._code -= step * start
        self._range = step * frequency
        while self._range < _MIN_RANGE:
            following = self._data[self._next_index] if self._next_index < len(self._data) else 0
            self._code = self._code << 8 | following
            self._range <<= 8
            self._next_index += 1
