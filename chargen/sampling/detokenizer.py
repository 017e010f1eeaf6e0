"""Conversion of a stream's ids to text, with log-probabilities and the reason why the text ends.

Bytes must form well-formed UTF-8 (The Unicode Standard, table 3-7): no overlong forms, no
surrogates, nothing above U+10FFFF.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from chargen.sampling.config import SamplingConfig
from chargen.text.vocabulary import Vocabulary

ENDED_LENGTH = "length"
"""`Sample.ended` of a text that reached the requested number of characters."""
ENDED_DOCUMENT = "end"
"""`Sample.ended` of a text whose document the model ended."""
ENDED_STOP = "stop"
"""`Sample.ended` of a text that ended before a stop text."""


class StopMatcher:
    """Filter that ends a text before a stop text, and holds back what may be a stop text's prefix.

    Examples
    --------
    >>> matcher = StopMatcher(["END"])
    >>> [matcher.feed(c) for c in "an EN."]
    ['a', 'n', ' ', '', '', 'EN.']
    >>> matcher.feed("END"), matcher.stopped
    ('', True)
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._pending = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Add text; return the part that is now certain to precede any stop text."""
        if not self._stops:
            return text
        held = self._pending + text
        starts = [start for start in (held.find(stop) for stop in self._stops) if start >= 0]
        if starts:
            self.stopped = True
            self._pending = ""
            return held[: min(starts)]
        keep = self._stop_prefix_length(held)
        self._pending = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """Return the text that was held back, if no more text will be added."""
        held, self._pending = self._pending, ""
        return held

    def _stop_prefix_length(self, text: str) -> int:
        """Return the length of the longest suffix of `text` that is a prefix of a stop text."""
        longest = max(map(len, self._stops)) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0


class Detokenizer:
    """Incremental conversion of a stream's ids to complete characters.

    `character` returns the text of an id; streams share it, so that each id is looked up once.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: SamplingConfig,
        seed: int,
        character: Callable[[int], str],
    ) -> None:
        self.seed = seed  # of the random numbers that draw the ids
        self._character = character
        self._end_id = None if config.ignore_end else vocabulary.separator_id
        self._bytes: bytearray | None = bytearray() if vocabulary.level == "byte" else None
        self._max_chars = config.max_chars
        self._matcher = StopMatcher(config.stop)
        self._emitted: list[str] = []
        self._num_ids = 0
        self._character_ends: list[int] = []  # number of ids fed when each character was complete
        self._id_log_probs: list[float] = []
        self.utf8_state = BOUNDARY  # byte level: the position in a UTF-8 character
        # why the text has ended; None until it ends
        self.ended: str | None = ENDED_LENGTH if config.max_chars == 0 else None

    @property
    def text(self) -> str:
        return "".join(self._emitted)

    @property
    def log_probs(self) -> list[float]:
        """Log-probability of each drawn character in nats, after `add_log_probs` received all ids.

        The first ``len(text)`` belong to `text`. For a character of several bytes, it is the sum.
        """
        sums = np.cumsum([0.0, *self._id_log_probs])
        log_probs: list[float] = np.diff(sums[[0, *self._character_ends]]).tolist()
        return log_probs

    def add_log_probs(self, log_probs: Sequence[float]) -> None:
        """Record the log-probabilities of the next ids that were fed."""
        self._id_log_probs.extend(log_probs)

    def feed(self, drawn: int) -> str:
        """Add a drawn id; return the text that is now certain (usually one character).

        Text that may be the prefix of a stop text is held back until it turns out not to be.
        """
        self._num_ids += 1
        if drawn == self._end_id:
            self.ended = ENDED_DOCUMENT
            return self._emit(self._matcher.flush())
        if self._bytes is not None and drawn < 256:
            self.utf8_state = TRANSITIONS[self.utf8_state][drawn]
            self._bytes.append(drawn)
            if self.utf8_state != BOUNDARY:
                return ""
            character = self._bytes.decode()
            self._bytes.clear()
        else:
            character = self._character(drawn)
        self._character_ends.append(self._num_ids)
        certain = self._matcher.feed(character)
        if self._matcher.stopped:
            self.ended = ENDED_STOP
        elif len(self._character_ends) >= self._max_chars:
            self.ended = ENDED_LENGTH
            certain += self._matcher.flush()
        return self._emit(certain)

    def _emit(self, text: str) -> str:
        if text:
            self._emitted.append(text)
        return text


# ---------------------------------------------------------------- UTF-8

BOUNDARY = 0
"""State between two characters, where text may end."""

INVALID = -1

# States 1, 2, 3: that many continuation bytes (80..BF) are still due. The other four states follow
# a first byte after which the second byte has a narrower range.
_AFTER_E0, _AFTER_ED, _AFTER_F0, _AFTER_F4 = 4, 5, 6, 7
_TRANSITION_ROWS = [
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
    for state, first, last, following in _TRANSITION_ROWS:
        table[state, first : last + 1] = following
    return table


TRANSITIONS: list[list[int]] = _transitions().tolist()
"""``TRANSITIONS[state][byte]`` is the next state, or `INVALID`."""


def forbidden_ids(size: int) -> NDArray[np.bool_]:
    """Return a mask (states, size) of the ids that may not come next in each state.

    Symbols that are not bytes are forbidden inside a character.
    """
    mask = np.ones((8, size), dtype=np.bool_)
    mask[:, :256] = _transitions() == INVALID
    mask[BOUNDARY, 256:] = False
    return mask
