"""How the verdict on a text changes from character to character and from word to word.

A trace gives, after each character, **the verdict that the text would get if it ended there**. The
move of a character is the change of the log-odds, so the moves add up to the difference between the
verdicts on the whole text and on the empty text. Means and maxima over few characters vary widely:
the first words have large moves whatever they mean, while late in a long text even a strong word
has a small one. `leave_out` measures the effect of a word on the verdict on the whole text.

`find_unit` looks for the sentiment unit of an encoder (Radford et al. 2017,
https://arxiv.org/abs/1704.01444): of all units of the last layer, each pooled in two ways, the one
whose values best separate a class from the others.
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
from chargen.text.config import matching_label

if TYPE_CHECKING:
    from chargen.sentiment.classifier import Classifier

MAX_CHARACTERS = 20_000
"""Maximum length of an explained text in characters: the verdict after each of them is kept."""

MAX_CHARACTERS_BACKWARD = 5_000
"""The maximum with an encoder that reads from the end: for each word it reads a prefix anew."""

MAX_QUICK_COST = 200_000
"""Words times characters of a text up to which `leave_out` takes a few seconds."""

MOST_WORDS = 1_000
"""Maximum number of words to leave out one by one: each requires one more classification."""

PROBABILITY_MARGIN = 1e-6
"""Minimum distance of a probability from 0 and from 1 when log-odds are computed."""

POOLINGS = ("last", "mean")
"""Poolings of a unit's values over a text: the last value, and the mean."""

# Scripts without spaces between words: each character counts as a word.
_UNSPACED = "\u2e80-\u30ff\u31f0-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Marks that follow such a character: tones, sound marks of kana, and selectors of its variant.
_MARKS = "\u302a-\u302f\u3099\u309a\ufe00-\ufe0f\U000e0100-\U000e01ef"
_WORD = re.compile(rf"[{_UNSPACED}][{_MARKS}]*|[^\s{_UNSPACED}]+")


@dataclass(frozen=True)
class Word:
    """A word and the space up to the next word, which shows that the word is complete."""

    start: int  # start and end in characters of the text
    end: int
    text: str  # without the space around the word
    move: float  # sum of the moves of its characters, in nats
    left_out: float | None = None  # drop of the log-odds without the word, in nats (`leave_out`)

    @property
    def weight(self) -> float:
        """The strength of the word: `left_out` if it was measured, otherwise `move`."""
        return self.move if self.left_out is None else self.left_out


@dataclass(frozen=True, eq=False)
class Explanation:
    """How a classifier came to its verdict on a text of N characters.

    Attributes
    ----------
    text : str, as cleaned
    labels : tuple of str, C
    trace : (N + 1, C) float32
        Probabilities if the text ended after each character; row 0 is for the empty text.
    label : str
        The label to which `curve` and `moves` refer.
    words : tuple of Word
        All words. Their spans cover the text, so their moves and `moves` have the same sum.
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
        """Probability of the verdict."""
        return float(self.trace[-1].max())

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each label for the whole text."""
        return dict(zip(self.labels, map(float, self.trace[-1]), strict=True))

    @property
    def others(self) -> str:
        """The other of two labels, or "not LABEL" if there are more."""
        return _name_of_others(self.label, self.labels)

    @property
    def curve(self) -> NDArray[np.float32]:
        """Probability of `label` if the text ended after each character: (N + 1,)."""
        column: NDArray[np.float32] = self.trace[:, self.labels.index(self.label)]
        return column

    @property
    def middle(self) -> float:
        """Probability of each label if all labels are equally likely."""
        return 1 / len(self.labels)

    @property
    def word_ends(self) -> list[int]:
        """Row 0 and the rows of the trace where words end; within words the verdict fluctuates."""
        return [0, *(word.end for word in self.words)]

    @property
    def moves(self) -> NDArray[np.float64]:
        """Change of the log-odds of `label` by each character, in nats: (N,)."""
        moves: NDArray[np.float64] = np.diff(_log_odds(self.curve))
        return moves

    def strongest(self, count: int = 10) -> list[Word]:
        """Return the `count` words of largest absolute `Word.weight`, the largest first."""
        return sorted(self.words, key=lambda word: -abs(word.weight))[:count]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
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
    """Trace the verdict along a text.

    An encoder that reads from the end must read every prefix anew. With such an encoder the verdict
    is computed only at the end of each word, and is constant in between.

    Parameters
    ----------
    classifier : Classifier
    text : str
    label : str, optional
        The label to which `curve` and `moves` refer. By default the second of two labels, so that
        texts can be compared; with more than two labels, the verdict.

    Raises
    ------
    ConfigError
        If there is no such label, or the text is longer than `MAX_CHARACTERS` characters
        (`MAX_CHARACTERS_BACKWARD` with an encoder that reads from the end).
    """
    label = matching_label(label, classifier.labels)
    if label is not None and label not in classifier.labels:
        known = ", ".join(map(repr, classifier.labels))
        hint = did_you_mean(str(label), classifier.labels)
        raise ConfigError(f"there is no label {label!r} among {known}{hint}")
    text = classifier.cleaned(text)
    encodings = classifier.network.encodings if classifier.network else ()
    backward = any(encoding.backward for encoding in encodings)
    limit = MAX_CHARACTERS_BACKWARD if backward else MAX_CHARACTERS
    if len(text) > limit:
        raise ConfigError(
            f"the text has {len(text):,} characters; at most {limit:,} can be explained at once: "
            "give a part of it"
        )
    spans = word_spans(text)
    if backward:  # computed at the end of each word, and kept until the next end
        ends = [0, *(end for _, end in spans)]
        at_ends = classifier.predict_proba((text[:end] for end in ends), cleaned=True)
        trace = np.repeat(at_ends, np.diff([*ends, len(text) + 1]), axis=0)
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
    """Measure the effect of each word on the verdict on the whole text, by leaving the word out.

    The words of the returned explanation have `left_out` set. It is above 0 if a word supports the
    explanation's label.

    Raises
    ------
    ConfigError
        If the text has more than `MOST_WORDS` words.
    """
    words, text = explanation.words, explanation.text
    if len(words) > MOST_WORDS:
        raise ConfigError(
            f"the text has {len(words):,} words; at most {MOST_WORDS:,} can be left out one by one"
        )
    without = [text[: word.start] + text[word.end :] for word in words]
    column = explanation.labels.index(explanation.label)
    # All in one batch: a difference in rounding between batches would be attributed to the words.
    odds = _log_odds(classifier.predict_proba([text, *without], cleaned=True)[:, column])
    pairs = zip(words, odds[0] - odds[1:], strict=True)
    measured = tuple(replace(word, left_out=float(value)) for word, value in pairs)
    return replace(explanation, words=measured)


def is_quick(explanation: Explanation) -> bool:
    """Return whether leaving out each word takes seconds rather than minutes."""
    return len(explanation.words) * len(explanation.text) <= MAX_QUICK_COST


def _name_of_others(label: str, labels: Sequence[str]) -> str:
    others = [name for name in labels if name != label]
    return others[0] if len(others) == 1 else f"not {label}"


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return spans that cover a text, one per word; the first also covers leading space."""
    starts = [0, *[match.start() for match in _WORD.finditer(text)][1:]]
    return list(zip(starts, [*starts[1:], len(text)], strict=True)) if text else []


def _log_odds(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    clipped = np.clip(probabilities.astype(np.float64), PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
    odds: NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return odds


@dataclass(frozen=True, eq=False)
class SentimentUnit:
    """One unit of an encoder, and how well it alone separates a class from the others."""

    index: int  # among the H units of the last layer
    pooling: str  # "last" or "mean"
    label: str  # the class that the unit separates from the others
    others: str  # the other of two classes, or "not LABEL" if there are more
    above: bool  # whether values above the threshold mean `label`
    threshold: float
    # balanced accuracy (mean over `label` and the others) on texts that were not used to choose the
    # unit and the threshold
    accuracy: float
    values: NDArray[np.float32]  # (N,), one per text
    is_label: NDArray[np.bool_]  # (N,), whether each text has `label`

    def histogram(
        self, bins: int = 40
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the edges of the bins, and the histograms of `label` and of the others.

        The shapes are (bins + 1,), (bins,) and (bins,). Each histogram sums to 1. The few values
        far outside are counted in the nearest bin.
        """
        low, high = np.quantile(self.values, [0.002, 0.998]).astype(float)
        pad = 0.02 * (high - low) or 0.5
        edges = np.linspace(low - pad, high + pad, bins + 1)
        limited = np.clip(self.values, edges[0], edges[-1])
        sides = (self.is_label, ~self.is_label)
        inside, outside = (np.histogram(limited[side], edges)[0] / side.sum() for side in sides)
        return edges, inside, outside

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        fields = {n: v for n, v in vars(self).items() if n not in ("values", "is_label")}
        return fields | {"texts": len(self.values)}


def find_unit(
    features: NDArray[np.float32], labels: Sequence[str], label: str | None = None
) -> SentimentUnit:
    """Find the unit whose values differ most between one class and the others.

    The difference is that of the means, divided by the spread within the two groups. The unit and
    its threshold are chosen on every second text of each group; the other texts give the accuracy.

    Parameters
    ----------
    features : (N, 3 H)
        Last, mean and maximum of the outputs, as returned by `encoder_features` and
        `LanguageModel.encode`. The maxima are not used.
    labels : sequence of str, N
    label : str, optional
        The class to separate from the others; by default the last in sorted order.

    Raises
    ------
    ConfigError
        If no text has that label.
    CorpusError
        If fewer than two texts have that label, or fewer than two have another.
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
    choosing = np.where(truth, truth.cumsum(), (~truth).cumsum()) % 2 == 1  # 1st, 3rd, ...
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
        best % units, POOLINGS[best // units], label, _name_of_others(label, classes), above,
        threshold, float(accuracy), values, truth,
    )  # fmt: skip


def encoder_features(member: NetworkMember, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return last, mean and maximum of the first encoder's outputs over each text: (N, 3 H)."""
    features = pooled_features(member.network, EncodedTexts(texts, member.encodings))
    return features[:, : 3 * member.network.lm_encoders()[0].hidden_size]


@torch.no_grad()
def unit_trace(member: NetworkMember, text: str, index: int) -> NDArray[np.float32]:
    """Return the value of a unit of the first encoder after each character of a text: (N + 1,).

    Row 0 is the value before the first character. With an encoder that reads from the end, row i is
    the value after reading back to character i; the last row is the value before any character.
    """
    encoding, network = member.encodings[0], member.network
    ids = encoding.encode(text)
    outputs = network.outputs(0, torch.from_numpy(ids.astype(np.int64)).to(network.device))
    values = outputs[:, index].float().cpu().numpy()
    trace: NDArray[np.float32] = values[encoding.whole(ids)]
    return trace


def _distances(values: NDArray[np.float32], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return, per column, the difference of the class means divided by the spread in classes."""
    inside, outside = values[truth].astype(np.float64), values[~truth].astype(np.float64)
    spread = np.sqrt((inside.var(0) + outside.var(0)) / 2)
    # A constant unit separates nothing, but rounding could give it a huge distance.
    floor = 1e-4 * np.abs(values).max(0, initial=1e-6)
    distances: NDArray[np.float64] = (inside.mean(0) - outside.mean(0)) / np.maximum(spread, floor)
    return distances


def _threshold(values: NDArray[np.float32], truth: NDArray[np.bool_], above: bool) -> float:
    """Return the threshold of highest balanced accuracy."""
    order = np.argsort(values, kind="stable")
    ordered, inside = values[order].astype(np.float64), truth[order] == above
    # For a cut before index k: the shares of `~inside` below it and of `inside` above it.
    below = np.append(0, np.cumsum(~inside)) / (~inside).sum()
    beyond = 1 - np.append(0, np.cumsum(inside)) / inside.sum()
    accuracies = np.where(np.diff(ordered) > 0, (below + beyond)[1:-1], 0.0)  # equals stay together
    cut = int(accuracies.argmax()) + 1
    return float((ordered[cut - 1] + ordered[cut]) / 2)
