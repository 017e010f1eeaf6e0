"""What a verdict is made of: how it moves from character to character and from word to word.

After each character stands **what the verdict would be had the text ended there**, and a
character's move is how far it shifts that verdict. So the moves of a text add up to its verdict;
but over few characters a mean or a maximum swings widely: the first words move much whatever they
say, and late in a long text a strong word moves little. What a word does to the verdict on the
whole text is another question, which `leave_out` answers.

`find_unit` looks for the sentiment unit of an encoder (Radford et al. 2017,
https://arxiv.org/abs/1704.01444): of the units of the last layer, each pooled in two ways, the one
whose values tell a class from the others best.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.errors import ConfigError, CorpusError, did_you_mean
from chargen.sentiment.members import NetworkMember
from chargen.sentiment.network import EncodedTexts, pooled_features

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

POOLINGS = ("last", "mean")
"""How a unit's values over a text become one: at its end, or on average."""

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
    text : str, as cleaned
    labels : tuple of str, C
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
        return _against(self.label, self.labels)

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
        """Rows of the trace at which no word is cut, where the verdict would flicker; 0 is one."""
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
                {name: value for name, value in vars(word).items() if value is not None}
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
    pairs = zip(words, odds[0] - odds[1:], strict=True)
    found = tuple(replace(word, left_out=float(value)) for word, value in pairs)
    return replace(explanation, words=found)


def is_quick(explanation: Explanation) -> bool:
    """Whether leaving out each word takes seconds rather than minutes."""
    return len(explanation.words) * len(explanation.text) <= QUICK


def _against(label: str, labels: Sequence[str]) -> str:
    others = [name for name in labels if name != label]
    return others[0] if len(others) == 1 else f"not {label}"


def word_spans(text: str) -> list[tuple[int, int]]:
    """Spans that cover a text, one a word; what comes before the first word belongs to it."""
    starts = [0, *[match.start() for match in _WORD.finditer(text)][1:]]
    return list(zip(starts, [*starts[1:], len(text)], strict=True)) if text else []


def _log_odds(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    held = np.clip(probabilities.astype(np.float64), SURE, 1 - SURE)
    odds: NDArray[np.float64] = np.log(held) - np.log1p(-held)
    return odds


@dataclass(frozen=True, eq=False)
class SentimentUnit:
    """One unit, and how well it alone tells a class from the others."""

    index: int  # among the H units of the last layer
    pooling: str  # "last" or "mean"
    label: str  # the class that it tells from the others
    others: str  # these by name
    above: bool  # whether `label` lies above the threshold
    threshold: float
    # share of texts on the right side of the threshold, each side counting half; of texts that had
    # no part in choosing unit and threshold
    accuracy: float
    values: NDArray[np.float32]  # (N,), of each text
    is_label: NDArray[np.bool_]  # (N,)

    def histogram(
        self, bins: int = 40
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Shares of the texts of `label` and of the others by value.

        They are returned after the edges (bins + 1,) and add up to 1 each, (bins,); the few values
        far outside are counted with the nearest bin.
        """
        low, high = np.quantile(self.values, [0.002, 0.998]).astype(float)
        pad = 0.02 * (high - low) or 0.5
        edges = np.linspace(low - pad, high + pad, bins + 1)
        held = np.clip(self.values, edges[0], edges[-1])
        sides = (self.is_label, ~self.is_label)
        inside, outside = (np.histogram(held[side], edges)[0] / side.sum() for side in sides)
        return edges, inside, outside

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        shown = {n: v for n, v in vars(self).items() if n not in ("values", "is_label")}
        return shown | {"texts": len(self.values)}


def find_unit(
    features: NDArray[np.float32], labels: Sequence[str], label: str | None = None
) -> SentimentUnit:
    """Choose the unit whose values for one class lie farthest from those for the others.

    Unit and threshold are chosen on every other text of each class, by the difference of the means
    in units of the spread; the rest of the texts measures how well that does.

    Parameters
    ----------
    features : (N, 3 H)
        Last, mean and largest outputs (of which the first two count), as `encoder_features` and
        `LanguageModel.encode` give them.
    labels : sequence of str, N
    label : str, optional
        The class to tell; the last in sorted order by default.

    Raises
    ------
    ConfigError
        Where no text has that label.
    CorpusError
        Where there are fewer than two texts on either side.
    """
    classes = sorted(set(labels))
    label = classes[-1] if label is None else label
    if label not in classes:
        known = ", ".join(map(repr, classes))
        raise ConfigError(f"no text has the label {label!r}; the labels are {known}")
    truth = np.array([name == label for name in labels])
    if min(truth.sum(), (~truth).sum()) < 2:
        raise CorpusError(
            f"finding a unit needs at least two texts with the label {label!r}, and two without"
        )
    choosing = np.where(truth, truth.cumsum(), (~truth).cumsum()) % 2 == 1  # the first among them
    units = features.shape[1] // 3
    pooled = features[:, : 2 * units]
    distance = _distances(pooled[choosing], truth[choosing])
    best = int(np.abs(distance).argmax())
    values = pooled[:, best]
    above = bool(distance[best] > 0)
    threshold = _threshold(values[choosing], truth[choosing], above)
    rest = ~choosing
    right = (values[rest] > threshold) == (truth[rest] == above)
    accuracy = (right[truth[rest]].mean() + right[~truth[rest]].mean()) / 2
    return SentimentUnit(
        best % units, POOLINGS[best // units], label, _against(label, classes), above, threshold,
        float(accuracy), values, truth,
    )  # fmt: skip


def encoder_features(member: NetworkMember, texts: Sequence[str]) -> NDArray[np.float32]:
    """Last, mean and largest outputs of the first encoder over each text: (N, 3 H), in batches."""
    found = pooled_features(member.network, EncodedTexts(texts, member.encodings))
    return found[:, : 3 * member.network.lm_encoders()[0].hidden_size]


@torch.no_grad()
def unit_trace(member: NetworkMember, text: str, index: int) -> NDArray[np.float32]:
    """A unit of the first encoder after each character of a text, (N + 1,).

    Row 0 has read nothing. With an encoder that reads from the end it is the last row that has, and
    row i has read all from character i on.
    """
    encoding, network = member.encodings[0], member.network
    ids = encoding.encode(text)
    outputs = network.outputs(0, torch.from_numpy(ids.astype(np.int64)).to(network.device))
    values = outputs[:, index].float().cpu().numpy()
    found: NDArray[np.float32] = values[encoding.whole(ids)]
    return found


def _distances(values: NDArray[np.float32], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Difference of the class means in units of the spread within the classes, by column."""
    inside, outside = values[truth].astype(np.float64), values[~truth].astype(np.float64)
    spread = np.sqrt((inside.var(0) + outside.var(0)) / 2)
    # A unit that never moves tells nothing; rounding would make it infinitely telling.
    floor = 1e-4 * np.abs(values).max(0, initial=1e-6)
    distances: NDArray[np.float64] = (inside.mean(0) - outside.mean(0)) / np.maximum(spread, floor)
    return distances


def _threshold(values: NDArray[np.float32], truth: NDArray[np.bool_], above: bool) -> float:
    """The value that leaves most texts on their side, each side counting half."""
    order = np.argsort(values, kind="stable")
    ordered, inside = values[order].astype(np.float64), truth[order] == above
    # Cutting before place k: what lies below should be outside, what lies above inside.
    below = np.append(0, np.cumsum(~inside)) / (~inside).sum()
    beyond = 1 - np.append(0, np.cumsum(inside)) / inside.sum()
    cut = int((below + beyond)[1:-1].argmax()) + 1
    return float((ordered[cut - 1] + ordered[cut]) / 2)
