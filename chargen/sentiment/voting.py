"""Which members vote for a verdict, and how much each counts: decided on texts they did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from chargen.sentiment.regression import Targets, log_losses
from chargen.sentiment.splitting import fold_numbers

Floats = NDArray[np.float64]

RIDGE = 1.0
"""Cost of the squared spread of what each member adds, in texts: few texts give small factors."""

WORTH = 0.01
"""Share of the log loss of the prior that a member must save to be kept."""

SAME = 1e-9
"""Differences of a mean that are rounding."""


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
) -> Vote:
    """Choose the members that help, and the factor of each.

    Of all sets of members whose accuracy is not below that of the best single one by more than the
    standard error of the difference on the same texts, the one of least log loss is found; of those
    whose loss is hardly above it (`WORTH`), the smallest is taken. The factors that judge a text
    are those of least log loss on the other folds (stacked generalisation, Wolpert 1992;
    of one member, temperature scaling, Guo et al. 2017, https://arxiv.org/abs/1706.04599), so
    that who has more members has no advantage.

    The evidence is the logits (N, C) of each member beyond the prior (C,), on texts that it has not
    learnt from; the seed draws the folds.
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
    taken = min(near, key=lambda c: (len(c), judged[c][1].mean()))
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
