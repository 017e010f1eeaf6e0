"""Which byte may come next in valid UTF-8: an automaton as two tables.

Only well-formed sequences pass (The Unicode Standard, table 3-7): no overlong forms, no
surrogates, nothing above U+10FFFF.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BOUNDARY = 0
"""The state between two characters: text may end here."""

INVALID = -1

# States 1, 2, 3: that many continuation bytes (80..BF) are still due. The four others follow a
# first byte after which the second has a narrower range.
_AFTER_E0, _AFTER_ED, _AFTER_F0, _AFTER_F4 = 4, 5, 6, 7
_ROWS = [
    # state, first byte, last byte, next state
    (BOUNDARY, 0x00, 0x7F, BOUNDARY),
    (BOUNDARY, 0xC2, 0xDF, 1),
    (BOUNDARY, 0xE0, 0xE0, _AFTER_E0),
    (BOUNDARY, 0xE1, 0xEC, 2),
    (BOUNDARY, 0xED, 0xED, _AFTER_ED),
    (BOUNDARY, 0xEE, 0xEF, 2),
    (BOUNDARY, 0xF0, 0xF0, _AFTER_F0),
    (BOUNDARY, 0xF1, 0xF3, 3),
    (BOUNDARY, 0xF4, 0xF4, _AFTER_F4),
    (1, 0x80, 0xBF, BOUNDARY),
    (2, 0x80, 0xBF, 1),
    (3, 0x80, 0xBF, 2),
    (_AFTER_E0, 0xA0, 0xBF, 1),
    (_AFTER_ED, 0x80, 0x9F, 1),
    (_AFTER_F0, 0x90, 0xBF, 2),
    (_AFTER_F4, 0x80, 0x8F, 2),
]


def _transitions() -> NDArray[np.int8]:
    table = np.full((8, 256), INVALID, dtype=np.int8)
    for state, first, last, following in _ROWS:
        table[state, first : last + 1] = following
    return table


TRANSITIONS: list[list[int]] = _transitions().tolist()
"""``TRANSITIONS[state][byte]`` is the next state, or `INVALID`."""


def forbidden(size: int) -> NDArray[np.bool_]:
    """Which ids of a vocabulary may not come next, in each state: (states, size).

    Symbols that are not bytes are forbidden inside a character.
    """
    mask = np.ones((8, size), dtype=np.bool_)
    mask[:, :256] = _transitions() == INVALID
    mask[BOUNDARY, 256:] = False
    return mask


def state_after(ids: Any) -> int:
    """State after `ids`; a symbol that is not a byte, or an invalid byte, starts afresh."""
    state = BOUNDARY
    for i in ids:
        state = TRANSITIONS[state][i] if i < 256 else BOUNDARY
        if state == INVALID:
            state = max(TRANSITIONS[BOUNDARY][i], BOUNDARY)
    return state
