"""How much each member of a vote counts, so that the sum of their logits is calibrated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

SPREAD = 1.5
"""Standard deviation of the summed logits where there is too little to calibrate on."""

PRIOR_TEXTS = 20.0
"""Texts that the trust is worth when votes are weighed."""

NETWORK_LEARNS = 10_000
"""Labelled texts at which the network's vote is trusted half as much as that of the n-grams."""

LATENT_HELPS = 2_000
"""Labelled texts at which latent features are trusted as much as the n-grams themselves."""

ONE = math.log(math.e - 1)
"""Softplus of it is 1."""


def trust(labels: int, members: int) -> list[float]:
    """How much each member of a vote is trusted that has learnt from so many labelled texts.

    With few labels the network is the weakest voter, and there is too little to see that by.

    Parameters
    ----------
    labels : int
    members : int
        The network, the n-grams, and their latent features: the first one, two or three of them.
    """
    network = labels / (labels + NETWORK_LEARNS)
    latent = LATENT_HELPS / (labels + LATENT_HELPS)
    return [network, 1 - latent, latent] if members > 2 else [network, 1.0][:members]


def vote_weights(
    logits: Sequence[Tensor], targets: Tensor | None, trust: Sequence[float] | None = None
) -> list[float]:
    """A factor for the logits of each member.

    With targets, those of least log loss: for one member temperature scaling (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599), for several a logistic regression on their logits (stacked
    generalisation, Wolpert 1992), no factor below 0, and near what is trusted where the texts are
    few. Without, their logits are brought to the same
    spread, and each counts as it is trusted.

    Parameters
    ----------
    logits : sequence of (N, C) float32
        Of texts that no member has learnt from.
    targets : (N,) int64, optional
    trust : sequence of float, optional
        Of each member, 0 or more; alike by default.

    Returns
    -------
    list of float
    """
    shares = torch.tensor([1.0] * len(logits) if trust is None else list(trust))
    shares = shares / shares.sum()
    centred = [each - each.mean(-1, keepdim=True) for each in logits]
    if not len(centred[0]):
        return [float(each) for each in shares]
    spreads = torch.stack([each.std().clamp(min=1e-6) for each in centred])
    trusted = SPREAD * shares / spreads
    if targets is None:
        return [float(each) for each in trusted]
    scaled = torch.stack(centred) * trusted[:, None, None]  # (M, N, C)
    # Softplus keeps the factors above 0; they begin at 1.
    raw = torch.full((len(centred),), ONE, requires_grad=True)
    optimizer = torch.optim.LBFGS([raw], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        summed = (scaled * nn.functional.softplus(raw)[:, None, None]).sum(0)
        # With few texts the factors stay near what was trusted, and finite where all are right.
        prior = PRIOR_TEXTS * (raw - ONE).square().sum() / len(targets)
        loss = nn.functional.cross_entropy(summed, targets) + prior
        torch.autograd.backward(loss)
        return float(loss.detach())

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return [float(each) for each in trusted * nn.functional.softplus(raw.detach())]
