"""Logistic regressions on fixed features of texts, and what they say of texts they did not see.

Features are what a frozen encoder holds of a text (a probe: Radford et al. 2017,
https://arxiv.org/abs/1704.01444, read sentiment off a character model so), or counts.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import MissingExtraError

FOLDS = 5
"""Parts of cross-validation, of each of which the others' texts learn to judge it."""

PROBE_STRENGTHS = tuple(2.0**power for power in range(-12, 5, 2))
"""Inverse strengths of regularisation that a probe tries."""

USUAL_STRENGTH = 2.0**-4
"""Where nothing can be held out to try any."""

ABSENT = -20.0
"""Logit of a class without a single text."""


@dataclass(frozen=True)
class Linear:
    """A fitted regression.

    Attributes
    ----------
    weights : (C, F)
    biases : (C,)
    """

    weights: NDArray[Any]
    biases: NDArray[Any]

    def evidence(self, features: Any, prior: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits (N, C) of features (N, F) beyond the prior (C,).

        Zeros of what has no feature with a weight: a text of which nothing is known.
        """
        found: NDArray[np.float64] = np.asarray(features @ self.weights.T) + (self.biases - prior)
        known = np.asarray((features != 0) @ self.weights.any(0).astype(np.float32)) > 0
        return np.where(known[:, None], found, 0.0)

    def weighed(self, factor: float, prior: NDArray[np.float64]) -> Linear:
        """One whose logits are those beyond the prior (C,), times a factor."""
        return Linear(self.weights * factor, (self.biases - prior) * factor)


@dataclass(frozen=True)
class Labels:
    """What regressions are to find.

    Attributes
    ----------
    targets : (N,) int64
        Classes.
    weights : (N,) float32
        How much each text counts.
    num_classes : int
        C.
    """

    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    num_classes: int

    @property
    def prior(self) -> NDArray[np.float64]:
        """Logarithm of the share of each class, (C,), each text counted by its weight."""
        shares = np.bincount(self.targets, self.weights, self.num_classes) / self.weights.sum()
        found: NDArray[np.float64] = np.log(shares.clip(np.exp(ABSENT)))
        return found


class Regression:
    """Multinomial logistic regression on features that are fixed.

    Parameters
    ----------
    features : (N, F), an array or a sparse matrix
    strengths : sequence of float
        Inverse strengths of regularisation to choose from.
    penalty : {"l2", "l1"}
        l1 leaves few features.
    seed : int
    """

    def __init__(
        self, features: Any, strengths: Sequence[float], penalty: str = "l2", seed: int = 0
    ) -> None:
        self.features = features
        self.strengths = tuple(strengths)
        self.penalty = penalty
        self.seed = seed

    def fit(
        self, labels: Labels, strength: float, rows: NDArray[np.int64] | slice = slice(None)
    ) -> Linear:
        """Learn from the texts at `rows`; all by default.

        Raises
        ------
        MissingExtraError
            Without scikit-learn.
        """
        try:
            from sklearn.exceptions import ConvergenceWarning
            from sklearn.linear_model import LogisticRegression
        except ImportError as error:
            raise MissingExtraError("learning from labels", "sentiment") from error

        model = LogisticRegression(
            C=strength,
            solver="saga" if self.penalty == "l1" else "lbfgs",
            max_iter=200,
            random_state=self.seed,
            **_penalty(self.penalty, signature(LogisticRegression).parameters),
        )
        with warnings.catch_warnings():
            # The weakest regularisation would take long to converge, and is not what is chosen.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(self.features[rows], labels.targets[rows], labels.weights[rows])
        weights, biases = row_a_class(model.coef_, model.intercept_)
        all_weights = np.zeros((labels.num_classes, weights.shape[1]), weights.dtype)
        all_biases = np.full(labels.num_classes, ABSENT, weights.dtype)
        all_weights[model.classes_] = weights
        all_biases[model.classes_] = biases
        return Linear(all_weights, all_biases)

    def out_of_fold(
        self, labels: Labels, folds: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], float]:
        """What a regression says of each text that learnt from the other folds.

        Parameters
        ----------
        labels : Labels
        folds : (N,) int64
            As `fold_numbers` gives them.

        Returns
        -------
        evidence : (N, C)
            Logits beyond the prior; zeros of what is never held out.
        strength : float
            The one of least loss, whose logits they are.
        """
        best: tuple[float, NDArray[np.float64], float] | None = None
        held, prior = folds >= 0, labels.prior
        for strength in self.strengths:  # from the strongest regularisation on
            found = np.zeros((len(folds), labels.num_classes))
            for fold in range(int(folds.max()) + 1):
                part = np.flatnonzero(folds == fold)
                linear = self.fit(labels, strength, np.flatnonzero(folds != fold))
                found[part] = linear.evidence(self.features[part], prior)
            losses = log_losses(prior + found[held], labels.targets[held])
            loss = float(np.average(losses, weights=labels.weights[held]))
            if best is not None and loss > best[0]:
                break  # a weaker one fits more closely still
            best = (loss, found, strength)
        assert best is not None
        return best[1], best[2]


class NaiveBayesRegression(Regression):
    """One class against the rest, on features that a text has or not, times log count ratios.

    So is a word that stands in few texts but only in those of a class worth more (Wang & Manning
    2012). Of more than two classes each has ratios of its own.
    """

    def fit(
        self, labels: Labels, strength: float, rows: NDArray[np.int64] | slice = slice(None)
    ) -> Linear:
        try:
            from sklearn.linear_model import LogisticRegression
        except ImportError as error:
            raise MissingExtraError("learning from labels", "sentiment") from error

        features, targets = self.features[rows], labels.targets[rows]
        classes = np.unique(targets)
        all_weights = np.zeros((labels.num_classes, features.shape[1]))
        all_biases = np.full(labels.num_classes, ABSENT)
        for number in classes[1:] if len(classes) == 2 else classes:
            inside = targets == number
            counts = [1 + np.asarray(features[side].sum(0)).ravel() for side in (inside, ~inside)]
            ratios = np.log(counts[0] / counts[0].sum()) - np.log(counts[1] / counts[1].sum())
            model = LogisticRegression(
                C=strength, solver="liblinear", dual=True, max_iter=200, random_state=self.seed
            )
            scaled = features.multiply(ratios).tocsr()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(scaled, inside, labels.weights[rows])
            all_weights[number] = model.coef_[0] * ratios
            all_biases[number] = model.intercept_[0]
        if len(classes) == 2:
            weights, biases = row_a_class(all_weights[classes[1:]], all_biases[classes[1:]])
            all_weights[classes], all_biases[classes] = weights, biases
        return Linear(all_weights, all_biases)


def fold_numbers(texts: Sequence[str], labels: Labels, seed: int, most: int = FOLDS) -> Any:
    """The fold of each text, (N,) int64: each class is spread over all of them as far as it goes.

    Equal texts are in one fold. What has no equal in its class is never held out, and has the
    number -1: without it, there would be nothing to know the class by.
    """
    groups: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        groups.setdefault(text, []).append(place)
    by_class: dict[int, list[list[int]]] = {}
    for group in groups.values():
        by_class.setdefault(int(labels.targets[group[0]]), []).append(group)
    found = np.full(len(texts), -1, np.int64)
    count = min(most, max(map(len, by_class.values())))
    turn = 0
    for number in sorted(by_class):
        own = by_class[number]
        random.Random(f"folds {seed} {number}").shuffle(own)
        for group in own if len(own) > 1 else ():
            found[group] = turn % count
            turn += 1
    # A class of few texts must not have them all in one fold, which `turn` sees to; folds that
    # nothing fell into are closed.
    used = np.unique(found[found >= 0])
    renumbered = np.searchsorted(used, found)
    return np.where(found < 0, -1, renumbered)


def log_losses(logits: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Nats of each target (N,) under logits (N, C)."""
    shifted = logits - logits.max(-1, keepdims=True)
    total = np.log(np.exp(shifted).sum(-1))
    found: NDArray[np.float64] = total - shifted[np.arange(len(targets)), targets]
    return found


def row_a_class(weights: NDArray[Any], biases: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """A regression's weights (C, F) and biases (C,): of two classes it has the second's alone."""
    if len(weights) > 1:
        return weights, biases
    return np.vstack([-weights, weights]) / 2, np.r_[-biases, biases] / 2


def _penalty(name: str, known: Any) -> dict[str, Any]:
    """How scikit-learn is told the penalty: since 1.8 as the share of l1."""
    by_name = known["penalty"].default == "l2"
    return {"penalty": name} if by_name else {"l1_ratio": 1.0 if name == "l1" else 0.0}
