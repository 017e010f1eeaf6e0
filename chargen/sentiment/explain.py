"""What a verdict is made of: how it moves from character to character and from word to word.

After each character stands **what the verdict would be had the text ended there**, and a
character's move is how far it shifts that verdict. Two things follow. The moves of a text add up
to its verdict, and they are what a reader going along the text would feel. But they depend on the
place: over few characters a mean or a maximum swings widely, so the first words move much
whatever they say, and late in a long text a strong word moves little. What a word does to the
verdict on the whole text is another question, which `leave_out` answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from chargen.sentiment.classifier import Classifier

LONGEST = 20_000
"""Most characters of a text that is explained: what stands after each of them is kept."""

LONGEST_BACKWARD = 5_000
"""The same with an encoder that reads from the end, for which each word end is another text."""

QUICK = 200_000
"""Characters in all that are read again in a few seconds, to leave out one word after another."""

MOST_WORDS = 1_000
"""Most words that are left out one by one: each of them is another text to classify."""

SURE = 1e-6
"""Log-odds count a probability nearer to 0 or 1 than this as this far away."""

# Scripts that leave no space between words: one character stands for a word.
_UNSPACED = "\u2e80-\u30ff\u31f0-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


@dataclass(frozen=True)
class Word:
    """A word and all that follows it up to the next: only there is it known to be whole."""

    start: int  # in characters of the text
    end: int
    text: str  # without the space around it
    move: float  # sum of the moves of its characters, in nats
    left_out: float | None = None  # how far the text's log-odds fall without it (`leave_out`)

    @property
    def weight(self) -> float:
        """What stands beside it: what leaving it out does where that is known, else its move."""
        return self.move if self.left_out is None else self.left_out


@dataclass(frozen=True, eq=False)
class Explanation:
    """How a classifier came to its verdict on a text of N characters.

    Attributes
    ----------
    text : str
        As cleaned.
    labels : tuple of str
        C of them.
    trace : (N + 1, C) float32
        Probabilities had the text ended after each character; row 0 has read nothing.
    label : str
        The label that curve and moves are about.
    words : tuple of Word
        All words; their spans cover the text, so their moves add up to those of the characters.
    """

    text: str
    labels: tuple[str, ...]
    trace: NDArray[np.float32]
    label: str
    words: tuple[Word, ...]

    @property
    def verdict(self) -> str:
        """The likeliest label of the whole text."""
        return self.labels[int(self.trace[-1].argmax())]

    @property
    def probability(self) -> float:
        """Of the verdict."""
        return float(self.trace[-1].max())

    @property
    def probabilities(self) -> dict[str, float]:
        """Of each label, for the whole text."""
        return dict(zip(self.labels, map(float, self.trace[-1]), strict=True))

    @property
    def others(self) -> str:
        """What stands against `label`: the other of two labels, else "not LABEL"."""
        others = [name for name in self.labels if name != self.label]
        return others[0] if len(others) == 1 else f"not {self.label}"

    @property
    def curve(self) -> NDArray[np.float32]:
        """Probability of `label` had the text ended after each character: (N + 1,)."""
        column: NDArray[np.float32] = self.trace[:, self.labels.index(self.label)]
        return column

    @property
    def middle(self) -> float:
        """Probability of a label where nothing is known."""
        return 1 / len(self.labels)

    @property
    def word_ends(self) -> list[int]:
        """Rows of the trace at which no word is cut: 0, and the end of each word's span.

        Within a word the verdict flickers: hardly a text ends there.
        """
        return [0, *(word.end for word in self.words)]

    @property
    def moves(self) -> NDArray[np.float64]:
        """How far each character moves the log-odds of `label`, in nats: (N,)."""
        moves: NDArray[np.float64] = np.diff(_log_odds(self.curve))
        return moves

    def strongest(self, count: int = 10) -> list[Word]:
        """The words that count most: by what leaving them out does, else by their moves."""
        return sorted(self.words, key=lambda word: -abs(word.weight))[:count]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "text": self.text,
            "label": self.verdict,
            "probabilities": self.probabilities,
            "about": self.label,
            "curve": [round(value, 6) for value in self.curve.tolist()],
            "moves": [round(value, 6) for value in self.moves.tolist()],
            "words": [
                {"start": word.start, "end": word.end, "text": word.text, "move": word.move}
                | ({} if word.left_out is None else {"left_out": word.left_out})
                for word in self.words
            ],
        }


def explain(classifier: Classifier, text: str, label: str | None = None) -> Explanation:
    """Follow the verdict along a text.

    An encoder that reads from the end would read another text for each character, so with one the
    verdict is taken at the end of each word and stands still in between.

    Parameters
    ----------
    classifier : Classifier
    text : str
    label : str, optional
        What curve and moves are about; by default the second of two labels, so that texts can be
        compared, and of more labels the verdict.

    Raises
    ------
    ConfigError
        Where there is no such label, or the text is longer than `LONGEST` characters
        (`LONGEST_BACKWARD` with an encoder that reads from the end).
    """
    if label is not None and label not in classifier.labels:
        known = ", ".join(map(repr, classifier.labels))
        hint = did_you_mean(label, classifier.labels)
        raise ConfigError(f"there is no label {label!r} among {known}{hint}")
    text = classifier.cleaned(text)
    encodings = classifier.network.encodings if classifier.network else ()
    backward = any(encoding.backward for encoding in encodings)
    most = LONGEST_BACKWARD if backward else LONGEST
    if len(text) > most:
        raise ConfigError(
            f"the text has {len(text):,} characters; at most {most:,} can be explained at once: "
            "give a part of it"
        )
    spans = word_spans(text)
    if backward:  # taken at the end of each word, and held until the next
        ends = [0, *(end for _, end in spans)]
        found = classifier.predict_proba((text[:end] for end in ends), cleaned=True)
        trace = np.repeat(found, np.diff([*ends, len(text) + 1]), axis=0)
    else:
        trace = classifier.trace(text, cleaned=True)
    if label is None:
        two = len(classifier.labels) == 2
        label = classifier.labels[1 if two else int(trace[-1].argmax())]
    odds = _log_odds(trace[:, classifier.labels.index(label)])
    words = tuple(
        Word(start, end, text[start:end].strip(), float(odds[end] - odds[start]))
        for start, end in spans
    )
    return Explanation(text, classifier.labels, trace, label, words)


def leave_out(classifier: Classifier, explanation: Explanation) -> Explanation:
    """Find out what each word does to the verdict on the whole text, by leaving it out.

    The words of what is returned have `left_out` set: above 0 where one speaks for the label.

    Raises
    ------
    ConfigError
        Where the text has more than `MOST_WORDS` words.
    """
    words, text = explanation.words, explanation.text
    if len(words) > MOST_WORDS:
        raise ConfigError(
            f"the text has {len(words):,} words; at most {MOST_WORDS:,} can be left out one by one"
        )
    without = [text[: word.start] + text[word.end :] for word in words]
    column = explanation.labels.index(explanation.label)
    # The whole text in the same batch: what the rounding of another batch adds is no word's doing.
    odds = _log_odds(classifier.predict_proba([text, *without], cleaned=True)[:, column])
    return replace(
        explanation,
        words=tuple(
            replace(word, left_out=float(odds[0] - value))
            for word, value in zip(words, odds[1:], strict=True)
        ),
    )


def is_quick(explanation: Explanation) -> bool:
    """Whether leaving out each word takes seconds rather than minutes."""
    return len(explanation.words) * len(explanation.text) <= QUICK


def word_spans(text: str) -> list[tuple[int, int]]:
    """Spans that cover a text, one a word; what comes before the first word belongs to it."""
    starts = [0, *[match.start() for match in _WORD.finditer(text)][1:]]
    return list(zip(starts, [*starts[1:], len(text)], strict=True)) if text else []


def _log_odds(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    held = np.clip(probabilities.astype(np.float64), SURE, 1 - SURE)
    odds: NDArray[np.float64] = np.log(held) - np.log1p(-held)
    return odds
