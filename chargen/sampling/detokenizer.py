"""Ids become text: one stream's characters, their log-probabilities, and where it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from chargen.sampling.config import SamplingConfig
from chargen.sampling.stopping import StopMatcher
from chargen.sampling.utf8 import BOUNDARY, TRANSITIONS
from chargen.text.vocabulary import Vocabulary

ENDED_LENGTH = "length"
"""`Sample.ended` of a text that reached the number of characters asked for."""
ENDED_DOCUMENT = "end"
"""`Sample.ended` of a text whose document the model ended."""
ENDED_STOP = "stop"
"""`Sample.ended` of a text before a stop text."""


class Detokenizer:
    """Takes a stream's ids one by one and gives out whole characters.

    `character` gives the text of an id; streams share it, so that each id is looked up once.

    Attributes
    ----------
    seed : int
        Of the random numbers that draw its ids.
    utf8_state : int
        Byte level: where the automaton of `chargen.sampling.utf8` stands.
    ended : str or None
        Why no more is to be drawn.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: SamplingConfig,
        seed: int,
        character: Callable[[int], str],
    ) -> None:
        self.seed = seed
        self._character = character
        self._end_id = None if config.ignore_end else vocabulary.separator_id
        self._bytes: bytearray | None = bytearray() if vocabulary.level == "byte" else None
        self._max_chars = config.max_chars
        self._matcher = StopMatcher(config.stop)
        self._given: list[str] = []
        self._fed = 0
        self._ends: list[int] = []  # ids fed when each character was whole
        self._id_log_probs: list[float] = []
        self.utf8_state = BOUNDARY
        self.ended: str | None = ENDED_LENGTH if config.max_chars == 0 else None

    @property
    def text(self) -> str:
        return "".join(self._given)

    @property
    def log_probs(self) -> list[float]:
        """One for each character drawn, in nats, as far as `credit` was told of their ids.

        The first ``len(text)`` belong to `text`. Of a character of several bytes it is the sum.
        """
        sums = np.cumsum([0.0, *self._id_log_probs])
        log_probs: list[float] = np.diff(sums[[0, *self._ends]]).tolist()
        return log_probs

    def credit(self, log_probs: Sequence[float]) -> None:
        """Take the log-probabilities of the next ids that were fed."""
        self._id_log_probs.extend(log_probs)

    def feed(self, drawn: int) -> str:
        """Take the id that was drawn; return the text that it makes certain (often one character).

        With a stop text some is held back, and given out as soon as it proves harmless.
        """
        self._fed += 1
        if drawn == self._end_id:
            self.ended = ENDED_DOCUMENT
            return self._give(self._matcher.flush())
        if self._bytes is not None and drawn < 256:
            self.utf8_state = TRANSITIONS[self.utf8_state][drawn]
            self._bytes.append(drawn)
            if self.utf8_state != BOUNDARY:
                return ""
            character = self._bytes.decode()
            self._bytes.clear()
        else:
            character = self._character(drawn)
        self._ends.append(self._fed)
        certain = self._matcher.feed(character)
        if self._matcher.stopped:
            self.ended = ENDED_STOP
        elif len(self._ends) >= self._max_chars:
            self.ended = ENDED_LENGTH
            certain += self._matcher.flush()
        return self._give(certain)

    def _give(self, text: str) -> str:
        if text:
            self._given.append(text)
        return text
