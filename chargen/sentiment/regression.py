"""Logistic regressions on fixed features, and the vote: which members count, and how much.

Features are what a frozen encoder holds of a text (a probe: Radford et al. 2017,
https://arxiv.org/abs/1704.01444, read sentiment off a character model so), or counts.
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

from chargen.errors import MissingExtraError
from chargen.sentiment.splitting import ABSENT, Targets, fold_numbers

RIDGE = 1.0
"""Cost of the squared spread of what each member adds, in texts: few texts give small factors."""

WORTH = 0.01
"""Share of the log loss of the prior that a member must save to be kept."""

SAME = 1e-9
"""Differences of a mean that are rounding."""

Rows = NDArray[np.int64] | slice
Floats = NDArray[np.float64]


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
            counts = [1 + (weights * side) @ features for side in (inside, ~inside)]
            ratios = np.log(counts[0] / counts[0].sum()) - np.log(counts[1] / counts[1].sum())
            model = LogisticRegression(
                C=strength, solver="liblinear", dual=True, max_iter=200, random_state=self.seed
            ).fit(features.multiply(ratios).tocsr(), inside, weights)
            found.append((model.coef_[0] * ratios, model.intercept_[0]))
        return np.stack([each for each, _ in found]), np.array([bias for _, bias in found])


class SelfTraining(NaiveBayesRegression):
    """One that learns from unlabelled texts too, as a regression on other features labels them.

    Each unlabelled text has the class that its teacher finds likeliest, and counts for the
    difference of the two largest probabilities (Yarowsky 1995, https://aclanthology.org/P95-1026).
    What the teacher says of a whole text so reaches words that no labelled text has.

    Parameters
    ----------
    features : (N + M, F), a sparse matrix
        Of the labelled texts and behind them the unlabelled ones.
    strengths : sequence of float
    teacher : Regression
        On other features of the labelled texts.
    taught : (M, F')
        The teacher's features of the unlabelled texts.
    """

    def __init__(
        self, features: Any, strengths: Sequence[float], teacher: Regression, taught: Any
    ) -> None:
        super().__init__(features, strengths)
        self.teacher = teacher
        self.taught = taught

    def fit(self, targets: Targets, strength: float, rows: Rows = slice(None)) -> Linear:
        from scipy.special import softmax

        linear = self.teacher.fit(targets, self.teacher.strengths[0], rows)
        chances = softmax(self.taught @ linear.weights.T + linear.biases, -1)
        second, first = np.sort(chances, -1)[:, -2:].T
        learnt = np.arange(len(targets.classes))[rows]
        unlabelled = np.arange(self.features.shape[0] - len(chances), self.features.shape[0])
        both = Targets(
            np.r_[targets.classes, chances.argmax(-1)],
            np.r_[targets.weights, first - second].astype(np.float32),
            targets.num_classes,
        )
        return super().fit(both, strength, np.r_[learnt, unlabelled])


def log_losses(logits: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Nats of each class (N,) under logits (N, C)."""
    shifted = logits - logits.max(-1, keepdims=True)
    total = np.log(np.exp(shifted).sum(-1))
    found: NDArray[np.float64] = total - shifted[np.arange(len(classes)), classes]
    return found


# ---------------------------------------------------------------- the vote


@dataclass(frozen=True)
class MemberFigures:
    """What a member of a vote came to on texts that it had not seen."""

    weight: float  # factor of its logits beyond the prior; 0 where it is left out
    accuracy: float  # alone
    log_loss: float  # alone, with a weight of its own


@dataclass(frozen=True)
class Vote:
    """How members are weighed."""

    members: dict[str, MemberFigures]  # all of them, by name
    # (N, C), of the whole, on the texts it was decided on: the weights for each from the others
    logits: Floats
    accuracy: float  # of these logits
    log_loss: float
    with_all: float  # log loss where nobody is left out

    @property
    def factors(self) -> dict[str, float]:
        """The weight of each member."""
        return {name: member.weight for name, member in self.members.items()}

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Plain values, for JSON."""
        return {name: asdict(member) for name, member in self.members.items()}

    @property
    def kept(self) -> list[str]:
        """Names of those that vote."""
        return [name for name, member in self.members.items() if member.weight]

    def sentences(self) -> list[str]:
        """For people: what each came to alone, and who is left out."""
        alone = ", ".join(f"{name} {each.accuracy:.4f}" for name, each in self.members.items())
        found = [f"accuracy on texts not learnt from: {alone}"]
        if len(self.kept) > 1:
            found[0] += f"; together {self.accuracy:.4f}"
        if len(self.kept) < len(self.members):
            left = (
                f"{name} ({each.accuracy:.4f} alone)"
                for name, each in self.members.items()
                if not each.weight
            )
            found.append(
                f"left out, since the rest does as well: {', '.join(left)}; "
                f"log loss {self.log_loss:.4f} without, {self.with_all:.4f} with"
            )
        return found


def weigh(
    evidence: Mapping[str, Floats],
    targets: Targets,
    texts: Sequence[str],
    prior: Floats,
    seed: int = 0,
    cost: Callable[[Sequence[str]], Any] = len,
) -> Vote:
    """Choose the members that help, and the factor of each.

    Of all sets of members whose accuracy is not below that of the best single one by more than the
    standard error of the difference on the same texts, the one of least log loss is found; of those
    whose loss is hardly above it (`WORTH`), the cheapest is taken, by default the smallest; of
    several the one of least loss. The factors that judge a text are those of least log loss on the
    other folds (stacked generalisation, Wolpert 1992; of one member, temperature scaling, Guo et
    al. 2017, https://arxiv.org/abs/1706.04599), so that who has more members has no advantage.

    The evidence is the logits (N, C) of each member beyond the prior (C,), on texts that it has not
    learnt from; the seed draws the folds. `cost` says what a set of members costs.
    """
    names, stacked = list(evidence), np.stack(list(evidence.values()))  # (M, N, C)
    folds = fold_numbers(texts, targets, seed)
    weights = targets.weights / targets.weights.mean()
    judged: dict[tuple[int, ...], tuple[Floats, Floats, NDArray[np.bool_]]] = {}
    for size in range(1, len(names) + 1):
        for chosen in combinations(range(len(names)), size):
            found = _judged(stacked[list(chosen)], targets, prior, folds)
            losses = weights * log_losses(found, targets.classes)
            judged[chosen] = found, losses, found.argmax(-1) == targets.classes
    singles = [judged[(index,)] for index in range(len(names))]
    most_right = max(singles, key=lambda each: each[2].mean())[2]
    allowed = [c for c in judged if not _above(most_right, judged[c][2])]
    best = min(allowed, key=lambda c: judged[c][1].mean())
    known = np.tile(prior, (len(targets.classes), 1))
    worth = WORTH * float((weights * log_losses(known, targets.classes)).mean())
    near = [c for c in allowed if judged[c][1].mean() <= judged[best][1].mean() + worth]
    taken = min(near, key=lambda c: (cost([names[i] for i in c]), judged[c][1].mean()))
    factors = dict(zip(taken, fit_factors(stacked[list(taken)], targets, prior), strict=True))
    if not any(factors.values()):  # nothing tells the classes apart; somebody must say so
        factors[taken[0]] = SAME
    whole, losses, right = judged[taken]
    members = {
        name: MemberFigures(
            factors.get(index, 0.0),
            float(singles[index][2].mean()),
            float(singles[index][1].mean()),
        )
        for index, name in enumerate(names)
    }
    with_all = float(judged[tuple(range(len(names)))][1].mean())
    return Vote(members, whole, float(right.mean()), float(losses.mean()), with_all)


def fit_factors(evidence: Floats, targets: Targets, prior: Floats) -> list[float]:
    """The factors, 0 or more, of least log loss for logits ``prior + sum(factor * evidence)``.

    Evidence is (M, N, C), of N targets; the prior is (C,). Where all texts are right, the best
    factors would be infinite: what is to be found is mixed with the prior as though one text more
    were as likely to be of any class.
    """
    from scipy.optimize import minimize

    count = len(targets.classes)
    shares = np.exp(prior) / np.exp(prior).sum()
    wanted = np.tile(shares / (count + 1), (count, 1))  # (N, C)
    wanted[np.arange(count), targets.classes] += count / (count + 1)
    weights = (targets.weights / targets.weights.sum())[:, None].astype(np.float64)
    spreads = evidence.std((1, 2))
    says = spreads > SAME  # else any factor would do
    scales = np.where(says, spreads, 1.0)  # so that factors near 1 are sought
    scaled = evidence / scales[:, None, None]

    def loss(factors: Floats) -> tuple[float, Floats]:
        summed = prior + np.tensordot(factors, scaled, 1)
        summed -= summed.max(-1, keepdims=True)
        logs = summed - np.log(np.exp(summed).sum(-1, keepdims=True))
        slope = weights * (np.exp(logs) - wanted)
        cost = -float((weights * wanted * logs).sum()) + RIDGE * (factors**2).sum() / (2 * count)
        return cost, np.tensordot(scaled, slope, 2) + RIDGE * factors / count

    start = np.full(len(scaled), 1 / len(scaled))
    bounds = [(0.0, None)] * len(scaled)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return [float(each) for each in np.where(says, found.x / scales, 0.0)]


def _judged(evidence: Floats, targets: Targets, prior: Floats, folds: NDArray[np.int64]) -> Floats:
    """Logits (N, C) of the sum, each text by the factors of the other folds."""
    found = np.empty(evidence.shape[1:])
    for fold in np.unique(folds):
        part, others = folds == fold, folds != fold
        if not others.any():  # all in one fold: a text or two, or a class of its own each
            others = part
        factors = fit_factors(evidence[:, others], targets.at(others), prior)
        found[part] = prior + np.tensordot(factors, evidence[:, part], 1)
    return found


def _above(first: NDArray[np.generic], second: NDArray[np.generic]) -> bool:
    """Whether a mean is above another by more than the standard error of their difference."""
    difference = first.astype(np.float64) - second.astype(np.float64)
    error = difference.std(ddof=1) / len(difference) ** 0.5 if len(difference) > 1 else np.inf
    return bool(difference.mean() > error + SAME)
