"""Logistic regressions on fixed features, and the vote: which members count, and how much.

Features are the pooled states of a frozen encoder, or n-grams. A regression on states is a probe,
as in Radford et al. 2017 (https://arxiv.org/abs/1704.01444), who predict sentiment from the states
of a character model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.runtime.seeds import sklearn_seed
from chargen.sentiment.splitting import ABSENT_CLASS_LOGIT, Targets, fold_numbers

RIDGE = 1.0
"""Penalty, in texts, on the variance that each member adds; with few texts, factors are small."""

LOSS_TOLERANCE = 0.01
"""Increase of log loss that is accepted for a cheaper set of members, as a share of the prior's."""

ROUNDING_TOLERANCE = 1e-9
"""Differences that may be due to rounding."""

Rows = NDArray[np.int64] | slice
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """A fitted regression: weights (C, F) and biases (C,)."""

    weights: NDArray[Any]
    biases: NDArray[Any]

    def evidence(self, features: Any, prior: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return logits (N, C) of features (N, F) minus the prior (C,).

        A text gets zeros if none of its features has a weight, since nothing is known about it.
        """
        logits: NDArray[np.float64] = np.asarray(features @ self.weights.T) + (self.biases - prior)
        known = np.asarray((features != 0) @ self.weights.any(0).astype(np.float32)) > 0
        return np.where(known[:, None], logits, 0.0)

    def weighted(self, factor: float, prior: NDArray[np.float64]) -> Linear:
        """Return a regression whose logits are ``factor * (logits - prior)``; the prior is (C,)."""
        return Linear(self.weights * factor, (self.biases - prior) * factor)


class Regression:
    """Multinomial logistic regression on fixed features.

    Parameters
    ----------
    features : (N, F), an array or a sparse matrix
    strengths : sequence of float
        Inverse regularisation strengths to choose from, in ascending order.
    penalty : {"l2", "l1"}
        l1 uses few features.
    seed : int
    """

    def __init__(
        self, features: Any, strengths: Sequence[float], penalty: str = "l2", seed: int = 0
    ) -> None:
        self.features = features
        self.strengths = tuple(strengths)
        self.penalty = penalty
        self.random_state = sklearn_seed(seed)

    def fit(self, targets: Targets, strength: float, rows: Rows = slice(None)) -> Linear:
        """Fit the regression to the texts at `rows`, by default to all."""
        classes = targets.classes[rows]
        with warnings.catch_warnings():
            # No warnings: the weakest regularisation converges slowly, but it is not chosen.
            warnings.simplefilter("ignore")
            weights, biases = self._solve(
                self.features[rows], classes, targets.weights[rows], strength
            )
        if len(weights) == 1:  # of two classes, only the second has weights
            weights = np.vstack([-weights, weights]) / 2
            biases = np.r_[-biases, biases] / 2
        present = np.unique(classes)
        all_weights = np.zeros((targets.num_classes, weights.shape[1]), weights.dtype)
        all_biases = np.full(targets.num_classes, ABSENT_CLASS_LOGIT, weights.dtype)
        all_weights[present], all_biases[present] = weights, biases
        return Linear(all_weights, all_biases)

    def _solve(
        self, features: Any, classes: NDArray[np.int64], weights: Any, strength: float
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return weights (C', F) and biases (C',) of the present classes; of two, the second's."""
        from sklearn.linear_model import LogisticRegression

        # Since version 1.8, scikit-learn takes the penalty as the share of l1.
        by_name = signature(LogisticRegression).parameters["penalty"].default == "l2"
        share = {"l1_ratio": 1.0 if self.penalty == "l1" else 0.0}
        model = LogisticRegression(
            C=strength,
            solver="saga" if self.penalty == "l1" else "lbfgs",
            max_iter=200,
            random_state=self.random_state,
            **({"penalty": self.penalty} if by_name else share),
        ).fit(features, classes, weights)
        return model.coef_, model.intercept_

    def out_of_fold(
        self, targets: Targets, folds: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], float]:
        """Predict each text with a regression that is fitted on other folds (`fold_numbers`).

        Returns
        -------
        evidence : (N, C)
            Logits minus the prior; zeros for texts that are never held out.
        strength : float
            The inverse regularisation strength of lowest loss, which gave these logits.
        """
        best: tuple[float, NDArray[np.float64], float] | None = None
        prior, held = targets.prior, folds >= 0
        for strength in self.strengths:  # strongest regularisation first
            evidence = np.zeros((len(folds), targets.num_classes))
            for fold in range(int(folds.max()) + 1):
                part = np.flatnonzero(folds == fold)
                linear = self.fit(targets, strength, np.flatnonzero(folds != fold))
                evidence[part] = linear.evidence(self.features[part], prior)
            losses = log_losses(prior + evidence[held], targets.classes[held])
            loss = float(np.average(losses, weights=targets.weights[held]))
            if best is not None and loss > best[0]:
                break  # weaker regularisation would overfit even more
            best = (loss, evidence, strength)
        assert best is not None
        return best[1], best[2]


class NaiveBayesRegression(Regression):
    """One-vs-rest logistic regression on binary features times log count ratios.

    The ratios give a larger weight to words that occur in few texts, but only in those of one class
    (Wang & Manning 2012). With more than two classes, each class has its own ratios.
    """

    def _solve(
        self, features: Any, classes: NDArray[np.int64], weights: Any, strength: float
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        from sklearn.linear_model import LogisticRegression

        present = np.unique(classes)
        fitted = []
        for number in present[1:] if len(present) == 2 else present:
            inside = classes == number
            counts = [1 + (weights * side) @ features for side in (inside, ~inside)]
            ratios = np.log(counts[0] / counts[0].sum()) - np.log(counts[1] / counts[1].sum())
            model = LogisticRegression(
                C=strength,
                solver="liblinear",
                dual=True,
                max_iter=200,
                random_state=self.random_state,
            ).fit(features.multiply(ratios).tocsr(), inside, weights)
            fitted.append((model.coef_[0] * ratios, model.intercept_[0]))
        return np.stack([row for row, _ in fitted]), np.array([bias for _, bias in fitted])


class SelfTraining(NaiveBayesRegression):
    """A regression that also learns from unlabelled texts, which a teacher labels.

    Each unlabelled text gets the class that the teacher finds most likely, weighted by the
    difference of the two largest probabilities (Yarowsky 1995, https://aclanthology.org/P95-1026).
    Words that occur in no labelled text are thus learnt from the teacher's verdicts on whole texts.

    Parameters
    ----------
    features : (N + M, F), a sparse matrix
        Features of the labelled texts, followed by those of the unlabelled texts.
    strengths : sequence of float
    teacher : Regression
        Regression on other features of the labelled texts.
    teacher_features : (M, F')
        The teacher's features of the unlabelled texts.
    """

    def __init__(
        self, features: Any, strengths: Sequence[float], teacher: Regression, teacher_features: Any
    ) -> None:
        super().__init__(features, strengths)
        self.teacher = teacher
        self.teacher_features = teacher_features

    def fit(self, targets: Targets, strength: float, rows: Rows = slice(None)) -> Linear:
        from scipy.special import softmax

        linear = self.teacher.fit(targets, self.teacher.strengths[0], rows)
        chances = softmax(self.teacher_features @ linear.weights.T + linear.biases, -1)
        second, first = np.sort(chances, -1)[:, -2:].T
        labelled = np.arange(len(targets.classes))[rows]
        unlabelled = np.arange(self.features.shape[0] - len(chances), self.features.shape[0])
        combined = Targets(
            np.r_[targets.classes, chances.argmax(-1)],
            np.r_[targets.weights, first - second].astype(np.float32),
            targets.num_classes,
        )
        return super().fit(combined, strength, np.r_[labelled, unlabelled])


def log_losses(logits: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the log losses (N,) of logits (N, C) and true classes (N,), in nats."""
    from scipy.special import log_softmax

    losses: NDArray[np.float64] = -log_softmax(logits, -1)[np.arange(len(classes)), classes]
    return losses


# ---------------------------------------------------------------- the vote


@dataclass(frozen=True)
class MemberFigures:
    """The weight of a member in a vote, and its figures on texts that it has not learnt from."""

    weight: float  # factor of the logits minus the prior; 0 if left out
    accuracy: float  # of the member alone
    log_loss: float  # of the member alone, with the factor that is best for it


@dataclass(frozen=True)
class Vote:
    """The weight of each member, and the figures of the chosen members together."""

    members: dict[str, MemberFigures]  # all members by name, including those left out
    # (N, C), summed over the members, on the texts of the vote; the weights for each text come from
    # the other folds
    logits: Floats
    accuracy: float  # of these logits
    log_loss: float
    log_loss_with_all: float  # log loss if no member is left out

    @property
    def factors(self) -> dict[str, float]:
        """Weight of each member by name."""
        return {name: member.weight for name, member in self.members.items()}

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Return plain values for JSON."""
        return {name: asdict(member) for name, member in self.members.items()}

    @property
    def kept(self) -> list[str]:
        """Names of the members that are not left out."""
        return [name for name, member in self.members.items() if member.weight]

    def sentences(self) -> list[str]:
        """Return messages on the accuracy of each member alone and on the members left out."""
        alone = ", ".join(f"{name} {each.accuracy:.4f}" for name, each in self.members.items())
        lines = [f"accuracy on held-out texts: {alone}"]
        if len(self.kept) > 1:
            lines[0] += f"; together {self.accuracy:.4f}"
        if len(self.kept) < len(self.members):
            left_out = (
                f"{name} ({each.accuracy:.4f} alone)"
                for name, each in self.members.items()
                if not each.weight
            )
            lines.append(
                f"left out, because the other members do as well: {', '.join(left_out)}; "
                f"log loss {self.log_loss:.4f} without, {self.log_loss_with_all:.4f} with"
            )
        return lines


def choose_members(
    evidence: Mapping[str, Floats],
    targets: Targets,
    texts: Sequence[str],
    prior: Floats,
    seed: int = 0,
    cost: Callable[[Sequence[str]], Any] = len,
) -> Vote:
    """Choose the members that help, and the factor of each.

    A set of members is allowed if its accuracy is not below that of the best single member by more
    than the standard error of the difference on the same texts. Of the allowed sets whose log loss
    is hardly above the lowest (`LOSS_TOLERANCE`), the cheapest is taken, by default the smallest;
    of equally cheap sets, that of lowest loss. A text is judged with the factors that minimise the
    log loss on the other folds (stacked generalisation, Wolpert 1992; for one member, temperature
    scaling, Guo et al. 2017, https://arxiv.org/abs/1706.04599), so that larger sets have no
    advantage.

    `evidence` holds the logits (N, C) of each member minus the prior (C,), on texts that it has not
    learnt from. The seed draws the folds. `cost` returns the cost of a set of members.
    """
    names, stacked = list(evidence), np.stack(list(evidence.values()))  # (M, N, C)
    folds = fold_numbers(texts, targets, seed)
    weights = targets.weights / targets.weights.mean()
    judged: dict[tuple[int, ...], tuple[Floats, Floats, NDArray[np.bool_]]] = {}
    for size in range(1, len(names) + 1):
        for chosen in combinations(range(len(names)), size):
            logits = _out_of_fold_logits(stacked[list(chosen)], targets, prior, folds)
            losses = log_losses(logits, targets.classes)
            judged[chosen] = logits, losses, logits.argmax(-1) == targets.classes

    def loss(chosen: tuple[int, ...]) -> float:
        """Return the mean loss with the weights of training, which decides."""
        return float((weights * judged[chosen][1]).mean())

    singles = [judged[(index,)] for index in range(len(names))]
    most_right = max(singles, key=lambda each: each[2].mean())[2]
    allowed = [c for c in judged if not _exceeds_standard_error(most_right, judged[c][2])]
    best = min(allowed, key=loss)
    prior_logits = np.tile(prior, (len(targets.classes), 1))
    tolerance = LOSS_TOLERANCE * float((weights * log_losses(prior_logits, targets.classes)).mean())
    close = [c for c in allowed if loss(c) <= loss(best) + tolerance]
    taken = min(close, key=lambda c: (cost([names[i] for i in c]), loss(c)))
    factors = dict(zip(taken, fit_factors(stacked[list(taken)], targets, prior), strict=True))
    if not any(factors.values()):  # no member separates the classes, but one must remain
        factors[taken[0]] = ROUNDING_TOLERANCE
    summed, losses, right = judged[taken]
    members = {
        name: MemberFigures(
            factors.get(index, 0.0),
            float(singles[index][2].mean()),
            float(singles[index][1].mean()),
        )
        for index, name in enumerate(names)
    }
    with_all = float(judged[tuple(range(len(names)))][1].mean())
    return Vote(members, summed, float(right.mean()), float(losses.mean()), with_all)


def fit_factors(evidence: Floats, targets: Targets, prior: Floats) -> list[float]:
    """Return the non-negative factors of lowest log loss for ``prior + sum(factor * evidence)``.

    The evidence is (M, N, C) for N targets; the prior is (C,). If all texts were classified
    correctly, the best factors would be infinite. Each target is therefore mixed with the prior,
    which has a share of 1 / (N + 1): the weight of one additional text.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    count = len(targets.classes)
    shares = np.exp(prior) / np.exp(prior).sum()
    wanted = np.tile(shares / (count + 1), (count, 1))  # (N, C)
    wanted[np.arange(count), targets.classes] += count / (count + 1)
    weights = (targets.weights / targets.weights.sum())[:, None].astype(np.float64)
    spreads = evidence.std((1, 2))
    varies = spreads > ROUNDING_TOLERANCE  # otherwise any factor would fit
    scales = np.where(varies, spreads, 1.0)  # brings the factors near 1 for the optimizer
    scaled = evidence / scales[:, None, None]

    def loss(factors: Floats) -> tuple[float, Floats]:
        logs = log_softmax(prior + np.tensordot(factors, scaled, 1), -1)
        gradient = weights * (np.exp(logs) - wanted)
        cost = -float((weights * wanted * logs).sum()) + RIDGE * (factors**2).sum() / (2 * count)
        return cost, np.tensordot(scaled, gradient, 2) + RIDGE * factors / count

    start = np.full(len(scaled), 1 / len(scaled))
    bounds = [(0.0, None)] * len(scaled)
    result = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return [float(factor) for factor in np.where(varies, result.x / scales, 0.0)]


def _out_of_fold_logits(
    evidence: Floats, targets: Targets, prior: Floats, folds: NDArray[np.int64]
) -> Floats:
    """Return the logits (N, C) of the sum, for each text with the factors of the other folds."""
    logits = np.empty(evidence.shape[1:])
    for fold in np.unique(folds):
        part, others = folds == fold, folds != fold
        if not others.any():  # one fold for all: one or two texts, or a class per text
            others = part
        factors = fit_factors(evidence[:, others], targets.at(others), prior)
        logits[part] = prior + np.tensordot(factors, evidence[:, part], 1)
    return logits


def _exceeds_standard_error(first: NDArray[np.generic], second: NDArray[np.generic]) -> bool:
    """Return whether the mean of ``first - second`` exceeds its standard error."""
    difference = first.astype(np.float64) - second.astype(np.float64)
    error = difference.std(ddof=1) / len(difference) ** 0.5 if len(difference) > 1 else np.inf
    return bool(difference.mean() > error + ROUNDING_TOLERANCE)
