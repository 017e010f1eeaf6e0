"""Texts that end a sample, found while it is being written and never shown in part."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Passes text on, holds back what may be the beginning of a stop text, and notices whole ones.

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
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Take the next text; return what is now certain to come before any stop text."""
        if not self._stops:
            return text
        held = self._held + text
        found = [at for at in (held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return held[: min(found)]
        keep = self._possible_beginning(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """What was held back, once no more text will come."""
        held, self._held = self._held, ""
        return held

    def _possible_beginning(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop text begins."""
        longest = max(map(len, self._stops)) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
