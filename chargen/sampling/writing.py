"""Ids become text: one stream's characters, their log-probabilities, and where it ends."""

from __future__ import annotations

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


class Writer:
    """Takes a stream's ids one by one and gives out whole characters.

    Attributes
    ----------
    seed : int
        Of the random numbers that draw its ids.
    text : str
        What has been given out.
    log_probs : list of float
        One for each character drawn, in nats; the first ``len(text)`` belong to `text`. Of a
        character of several bytes it is the sum over them.
    utf8_state : int
        Byte level: where the automaton of `chargen.sampling.utf8` stands.
    ended : str or None
        Why no more is to be drawn.
    """

    def __init__(self, vocabulary: Vocabulary, config: SamplingConfig, seed: int) -> None:
        self.seed = seed
        self._vocabulary = vocabulary
        self._end_id = None if config.ignore_end else vocabulary.separator_id
        self._bytes: bytearray | None = bytearray() if vocabulary.level == "byte" else None
        self._byte_log_prob = 0.0
        self._max_chars = config.max_chars
        self._matcher = StopMatcher(config.stop)
        self._characters: dict[int, str] = {}
        self._given: list[str] = []
        self.log_probs: list[float] = []
        self.utf8_state = BOUNDARY
        self.ended: str | None = ENDED_LENGTH if config.max_chars == 0 else None

    @property
    def text(self) -> str:
        return "".join(self._given)

    def feed(self, drawn: int, log_prob: float) -> str:
        """Take the id that was drawn; return the text that it makes certain (often one character).

        With a stop text some is held back, and given out as soon as it proves harmless.
        """
        if drawn == self._end_id:
            self.ended = ENDED_DOCUMENT
            return self._give(self._matcher.flush())
        if self._bytes is not None and drawn < 256:
            self.utf8_state = TRANSITIONS[self.utf8_state][drawn]
            self._bytes.append(drawn)
            self._byte_log_prob += log_prob
            if self.utf8_state != BOUNDARY:
                return ""
            character, log_prob = self._bytes.decode(), self._byte_log_prob
            self._bytes.clear()
            self._byte_log_prob = 0.0
        else:
            character = self._characters.get(drawn) or self._look_up(drawn)
        self.log_probs.append(log_prob)
        certain = self._matcher.feed(character)
        if self._matcher.stopped:
            self.ended = ENDED_STOP
        elif len(self.log_probs) >= self._max_chars:
            self.ended = ENDED_LENGTH
            certain += self._matcher.flush()
        return self._give(certain)

    def _give(self, text: str) -> str:
        if text:
            self._given.append(text)
        return text

    def _look_up(self, drawn: int) -> str:
        character = self._vocabulary.decode([drawn])
        self._characters[drawn] = character
        return character
