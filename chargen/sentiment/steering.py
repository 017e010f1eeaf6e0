"""Text of a chosen class: what a language model holds is kept on that class's side as it writes.

After each step the output of the last layer is moved along one direction, to the side where texts
of the class lie: from there the next character is read, and there the next step starts. The
direction is the difference of the classes' means, shrunk where outputs vary most, or one unit (the
"sentiment neuron" of Radford et al. 2017), or a probe's weights. Fitting lies in
`chargen.sentiment.directions`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.errors import CheckpointError, ConfigError, did_you_mean
from chargen.language_model import LanguageModel
from chargen.sampling.decoder import Move

DOCUMENT = "steering"
"""Name of the checkpoint's document."""


@dataclass(frozen=True, eq=False)
class Steering:
    """For each class a direction in what the last layer holds, and where its texts lie along it.

    Attributes
    ----------
    labels : tuple of str, C of them
    directions : (C, H) float32
        Each of length 1.
    values : (C,) float32
        Where the last layer's output is held at strength 1: its product with the direction, one
        standard deviation (from character to character) to the class's side of `neutral`.
    neutral : (C,) float32
        Its mean over texts of all classes.
    source : str
        What the directions are, in words.
    """

    labels: tuple[str, ...]
    directions: NDArray[np.float32]
    values: NDArray[np.float32]
    neutral: NDArray[np.float32]
    source: str

    def steered(self, lm: LanguageModel, label: str, strength: float = 1.0) -> LanguageModel:
        """The same language model, writing texts of a class; it reads and scores as before.

        Parameters
        ----------
        lm : LanguageModel
        label : str
        strength : float
            1 holds the state at the class's value, 2 twice as far from the average; 0.5 goes half
            the way there from wherever the state is, 0 leaves it alone, and below 0 it is held on
            the other side.

        Raises
        ------
        ConfigError
            Where there is no such label, the strength is no number, or the directions are those of
            another model.
        """
        check_wish(label, strength, self.labels)
        size = self.directions.shape[1]
        if size != lm.model.hidden_size:
            raise ConfigError(
                f"the steering is for a model of {size} hidden units; "
                f"this one has {lm.model.hidden_size}"
            )
        if strength == 0:
            return lm
        other = copy.copy(lm)
        # What `LanguageModel.decoder` caches.
        other.__dict__["decoder"] = lm.decoder.steered(
            self._move(self.labels.index(label), strength, lm.decoder.device)
        )
        return other

    def _move(self, index: int, strength: float, device: torch.device) -> Move:
        direction = torch.from_numpy(self.directions[index]).to(device)
        neutral = float(self.neutral[index])
        reach = max(abs(strength), 1.0) * math.copysign(1.0, strength)
        target = neutral + reach * (float(self.values[index]) - neutral)
        share = min(abs(strength), 1.0)

        def move(outputs: Tensor) -> None:
            # Row by row, so that a stream's numbers do not depend on the others.
            place = (outputs * direction).sum(-1, keepdim=True)
            outputs.add_(direction * (share * (target - place)))

        return move

    # ---------------------------------------------------------------- documents

    def to_document(self) -> dict[str, Any]:
        """Plain lists, for the checkpoint."""
        return {
            "labels": list(self.labels),
            "source": self.source,
            "values": self.values.tolist(),
            "neutral": self.neutral.tolist(),
            "directions": [_rounded(row) for row in self.directions.tolist()],
        }

    @classmethod
    def from_document(cls, document: Any, where: str) -> Steering:
        """Read what `to_document` gave.

        Raises
        ------
        CheckpointError
            Beginning with `where`, for anything else.
        """
        fields = {"labels", "source", "values", "neutral", "directions"}
        if not isinstance(document, dict) or document.keys() != fields:
            raise CheckpointError(f"{where} must be an object with {', '.join(sorted(fields))}")
        labels, source = document["labels"], document["source"]
        if (
            not isinstance(labels, list)
            or len(labels) < 2
            or not all(isinstance(label, str) for label in labels)
            or len(set(labels)) < len(labels)
        ):
            raise CheckpointError(f"{where}: labels must be two distinct texts or more")
        if not isinstance(source, str):
            raise CheckpointError(f"{where}: source must be text")
        count = len(labels)
        rows = document["directions"]
        if not isinstance(rows, list) or len(rows) != count or not rows[0]:
            raise CheckpointError(f"{where}: directions must be {count} lists, one a label")
        size = len(rows[0]) if isinstance(rows[0], list) else 0
        directions = np.stack([_numbers(row, size, f"{where}: directions") for row in rows])
        lengths = np.linalg.norm(directions, axis=1)
        if not np.allclose(lengths, 1, atol=1e-3):
            raise CheckpointError(f"{where}: directions must each have length 1")
        return cls(
            tuple(labels),
            directions,
            _numbers(document["values"], count, f"{where}: values"),
            _numbers(document["neutral"], count, f"{where}: neutral"),
            source,
        )


def check_wish(label: str, strength: float, labels: Sequence[str]) -> None:
    """Refuse a label that is not there and a strength that is no number.

    Raises
    ------
    ConfigError
    """
    if label not in labels:
        known = ", ".join(map(repr, labels))
        hint = did_you_mean(label, labels)
        raise ConfigError(f"--steer {label!r} is none of the labels {known}{hint}")
    if not math.isfinite(strength):
        raise ConfigError(f"--strength must be a number, got {strength}")


def _rounded(row: list[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in row]


def _numbers(values: Any, count: int, where: str) -> NDArray[np.float32]:
    """A list of so many finite numbers, as (count,) float32."""
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        or not all(abs(v) < 1e6 for v in values)
    ):
        raise CheckpointError(f"{where} must be a list of {count} numbers")
    return np.array(values, np.float32)
