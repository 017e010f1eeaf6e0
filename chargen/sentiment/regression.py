"""Logistic regressions on fixed features of texts, and what they say of texts they did not see.

Features are what a frozen encoder holds of a text (a probe: Radford et al. 2017,
https://arxiv.org/abs/1704.01444, read sentiment off a character model so), or counts.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import MissingExtraError

ABSENT = -20.0
"""Logit of a class without a single text."""

Rows = NDArray[np.int64] | slice


@dataclass(frozen=True)
class Linear:
    """A fitted regression: weights (C, F) and biases (C,)."""

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
class Targets:
    """What regressions are to find."""

    classes: NDArray[np.int64]  # (N,)
    weights: NDArray[np.float32]  # (N,): how much each text counts
    num_classes: int  # C

    @property
    def prior(self) -> NDArray[np.float64]:
        """Logarithm of the share of each class, (C,), each text counted by its weight."""
        shares = np.bincount(self.classes, self.weights, self.num_classes) / self.weights.sum()
        found: NDArray[np.float64] = np.log(shares.clip(np.exp(ABSENT)))
        return found

    def at(self, rows: NDArray[Any]) -> Targets:
        """Those of some texts, by places or by a mask."""
        return Targets(self.classes[rows], self.weights[rows], self.num_classes)


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

    def fit(self, targets: Targets, strength: float, rows: Rows = slice(None)) -> Linear:
        """Learn from the texts at `rows`; all by default.

        Raises
        ------
        MissingExtraError
            Without scikit-learn.
        """
        try:
            import sklearn  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("learning from labels", "sentiment") from error

        classes = targets.classes[rows]
        with warnings.catch_warnings():
            # The weakest regularisation would take long to converge, and is not what is chosen.
            warnings.simplefilter("ignore")
            weights, biases = self._solve(
                self.features[rows], classes, targets.weights[rows], strength
            )
        if len(weights) == 1:  # of two classes it has the second's alone
            weights = np.vstack([-weights, weights]) / 2
            biases = np.r_[-biases, biases] / 2
        present = np.unique(classes)
        all_weights = np.zeros((targets.num_classes, weights.shape[1]), weights.dtype)
        all_biases = np.full(targets.num_classes, ABSENT, weights.dtype)
        all_weights[present], all_biases[present] = weights, biases
        return Linear(all_weights, all_biases)

    def _solve(
        self, features: Any, classes: NDArray[np.int64], weights: Any, strength: float
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Weights (C', F) and biases (C',) of the classes that are there; of two, the second's."""
        from sklearn.linear_model import LogisticRegression

        # Scikit-learn is told the penalty as the share of l1 since 1.8.
        by_name = signature(LogisticRegression).parameters["penalty"].default == "l2"
        share = {"l1_ratio": 1.0 if self.penalty == "l1" else 0.0}
        model = LogisticRegression(
            C=strength,
            solver="saga" if self.penalty == "l1" else "lbfgs",
            max_iter=200,
            random_state=self.seed,
            **({"penalty": self.penalty} if by_name else share),
        ).fit(features, classes, weights)
        return model.coef_, model.intercept_

    def out_of_fold(
        self, targets: Targets, folds: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], float]:
        """What a regression says of each text that learnt from the other folds (`fold_numbers`).

        Returns
        -------
        evidence : (N, C)
            Logits beyond the prior; zeros of what is never held out.
        strength : float
            The one of least loss, whose logits they are.
        """
        best: tuple[float, NDArray[np.float64], float] | None = None
        prior, held = targets.prior, folds >= 0
        for strength in self.strengths:  # from the strongest regularisation on
            found = np.zeros((len(folds), targets.num_classes))
            for fold in range(int(folds.max()) + 1):
                part = np.flatnonzero(folds == fold)
                linear = self.fit(targets, strength, np.flatnonzero(folds != fold))
                found[part] = linear.evidence(self.features[part], prior)
            losses = log_losses(prior + found[held], targets.classes[held])
            loss = float(np.average(losses, weights=targets.weights[held]))
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

    def _solve(
        self, features: Any, classes: NDArray[np.int64], weights: Any, strength: float
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        from sklearn.linear_model import LogisticRegression

        present = np.unique(classes)
        found = []
        for number in present[1:] if len(present) == 2 else present:
            inside = classes == number
            counts = [1 + np.asarray(features[side].sum(0)).ravel() for side in (inside, ~inside)]
            ratios = np.log(counts[0] / counts[0].sum()) - np.log(counts[1] / counts[1].sum())
            model = LogisticRegression(
                C=strength, solver="liblinear", dual=True, max_iter=200, random_state=self.seed
            ).fit(features.multiply(ratios).tocsr(), inside, weights)
            found.append((model.coef_[0] * ratios, model.intercept_[0]))
        return np.stack([each for each, _ in found]), np.array([bias for _, bias in found])


def log_losses(logits: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Nats of each class (N,) under logits (N, C)."""
    shifted = logits - logits.max(-1, keepdims=True)
    total = np.log(np.exp(shifted).sum(-1))
    found: NDArray[np.float64] = total - shifted[np.arange(len(classes)), classes]
    return found
