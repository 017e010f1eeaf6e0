"""The sentiment unit of an encoder, after the "sentiment neuron" of Radford et al. 2017.

Of the H units of the last layer, each pooled in two ways, the one whose values tell a class from
the others best (https://arxiv.org/abs/1704.01444).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.errors import ConfigError, CorpusError
from chargen.sentiment.batching import EncodedTexts, NetworkMember, pooled_features

POOLINGS = ("last", "mean")
"""How a unit's values over a text become one: at its end, or on average."""


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

        Returns
        -------
        edges : (bins + 1,)
            The few values far outside are counted with the nearest bin.
        label, others : (bins,)
            Each adds up to 1.
        """
        low, high = np.quantile(self.values, [0.002, 0.998]).astype(float)
        pad = 0.02 * (high - low) or 0.5
        edges = np.linspace(low - pad, high + pad, bins + 1)
        held = np.clip(self.values, edges[0], edges[-1])
        parts = [held[self.is_label], held[~self.is_label]]
        inside, outside = (np.histogram(part, edges)[0] / len(part) for part in parts)
        return edges, inside, outside

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        shown = [each.name for each in fields(self) if each.name not in ("values", "is_label")]
        return {name: getattr(self, name) for name in shown} | {"texts": len(self.values)}


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
        raise ConfigError(
            f"no text has the label {label!r}; the labels are {', '.join(map(repr, classes))}"
        )
    others = [name for name in classes if name != label]
    truth = np.array([name == label for name in labels])
    if min(truth.sum(), (~truth).sum()) < 2:
        raise CorpusError(
            f"finding a unit needs at least two texts with the label {label!r}, and two without"
        )
    units = features.shape[1] // 3
    choosing = _every_other(truth)
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
        best % units,
        POOLINGS[best // units],
        label,
        others[0] if len(others) == 1 else f"not {label}",
        above,
        threshold,
        float(accuracy),
        values,
        truth,
    )


def encoder_features(member: NetworkMember, texts: Sequence[str]) -> NDArray[np.float32]:
    """Last, mean and largest outputs of the first encoder over each text: (N, 3 H), in batches."""
    units = member.network.lm_encoders()[0].hidden_size
    encoded = EncodedTexts(texts, member.encodings)
    return pooled_features(member.network, encoded)[:, : 3 * units]


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


def _every_other(truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask of every other text of each class, the first one among them."""
    chosen: NDArray[np.bool_] = np.where(truth, truth.cumsum(), (~truth).cumsum()) % 2 == 1
    return chosen


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
