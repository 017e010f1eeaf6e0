"""Arithmetic coding: symbols with given probabilities as bytes, and back.

A message is a number in [0, 1). Each symbol narrows the interval in which the number lies to the
share that is the symbol's probability (Witten, Neal & Cleary 1987,
https://doi.org/10.1145/214762.214771); here with integers of 64 bits whose leading bytes are
written as soon as they are settled (Martin 1979, "Range encoding"). Knows nothing of models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BITS = 24
"""Frequencies add up to ``2 ** BITS``."""

_TOP = 1 << 64
_SMALLEST = 1 << 48
"""The interval is never narrower; so a frequency of 1 is some 2 ** 24 numbers wide."""


def frequencies(logits: NDArray[np.floating]) -> NDArray[np.int64]:
    """Whole numbers (B, V) in proportion to the probabilities, and no smaller than 1.

    Of probabilities p, the softmax of the logits (B, V) in float64, each symbol gets
    ``1 + floor(p (2 ** BITS - V))``, and the likeliest one what is left to ``2 ** BITS``.
    """
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    p = np.exp(shifted)
    p /= p.sum(-1, keepdims=True)
    found: NDArray[np.int64] = 1 + (p * ((1 << BITS) - logits.shape[-1])).astype(np.int64)
    found[np.arange(len(found)), logits.argmax(-1)] += (1 << BITS) - found.sum(-1)
    return found


class Encoder:
    """Narrows the interval symbol by symbol.

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

    def encode(self, start: int, frequency: int, bits: int = BITS) -> None:
        """Code a symbol of some frequency, 1 or more, which add up to ``2 ** bits``.

        `start` is the sum of the frequencies of the symbols before it.
        """
        step = self._range >> bits
        self._low += step * start
        self._range = step * frequency
        self._carry()
        while self._range < _SMALLEST:
            self._out.append(self._low >> 56)
            self._low = self._low << 8 & _TOP - 1
            self._range <<= 8

    def finish(self) -> bytes:
        """The bytes: as few as still lead into the interval where zeros follow them."""
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
            place = len(self._out) - 1
            while self._out[place] == 255:
                self._out[place] = 0
                place -= 1
            self._out[place] += 1


class Decoder:
    """Finds the symbols in what `Encoder.finish` gave, with the same frequencies in their order."""

    def __init__(self, data: bytes) -> None:
        self._data, self._read = data, 8
        self._code = int.from_bytes(data[:8].ljust(8, b"\0"), "big")  # less the interval's start
        self._range = _TOP

    def find(self, bits: int = BITS) -> int:
        """A number from the symbol's start to less than its start and frequency."""
        return min(self._code // (self._range >> bits), (1 << bits) - 1)

    def take(self, start: int, frequency: int, bits: int = BITS) -> None:
        """Go on behind the symbol that was found; see `Encoder.encode`."""
        step = self._range >> bits
        self._code -= step * start
        self._range = step * frequency
        while self._range < _SMALLEST:
            following = self._data[self._read] if self._read < len(self._data) else 0
            self._code = self._code << 8 | following
            self._range <<= 8
            self._read += 1
