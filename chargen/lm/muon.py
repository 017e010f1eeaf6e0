"""Muon: momentum whose every step is made orthogonal, for the matrices of recurrent layers.

torch has a `torch.optim.Muon`, for whole matrices. It is not used here because it multiplies in
bfloat16 always, which takes 30 times as long on a processor that can only imitate it, and because a
recurrent layer stacks the matrices of its gates: each has singular values of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95

ITERATIONS = 3

SCALE = 0.4
"""Root mean square of a step's numbers, in learning rates, times the square root of H or more."""

# The quintic a x + b x^3 + c x^5 that Jordan chose: it lifts small singular values fastest and
# brings all of them to 0.7 to 1.2, which serves as well as 1.
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton-Schulz iterations (Jordan et al. 2024).

    A step is scaled so that its numbers are as large as AdamW's would be (Liu et al. 2025), so
    that both go by one learning rate.

    Parameters
    ----------
    matrices : iterable of Parameter, (gates * H, ...)
    gates : int
        Matrices that are stacked in each parameter; each is made orthogonal by itself.
    learning_rate, weight_decay : float
        Decay is decoupled: a step shrinks weights by their product.
    precision : torch.dtype
        Of the iterations' products.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        gates: int,
        learning_rate: float,
        weight_decay: float,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(matrices, {"lr": learning_rate, "weight_decay": weight_decay})
        self.gates = gates
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change the weights that have a gradient."""
        for group in self.param_groups:
            rate, decay = group["lr"], group["weight_decay"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum = state["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
                ahead = matrix.grad.lerp(momentum, MOMENTUM)  # Nesterov's
                stacked = ahead.view(self.gates, -1, ahead.shape[1])
                direction = orthogonalized(stacked.to(self.precision)).flatten(0, 1)
                size = SCALE * math.sqrt(max(stacked.shape[1:]))
                matrix.mul_(1 - rate * decay)
                matrix.add_(direction.to(matrix.dtype), alpha=-rate * size)


def orthogonalized(matrices: Tensor) -> Tensor:
    """The nearest matrices with orthonormal rows or columns, roughly: singular values near 1.

    Parameters
    ----------
    matrices : Tensor (N, rows, columns)
        Zeros stay zeros.
    """
    a, b, c = _QUINTIC
    x = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if matrices.shape[-2] > matrices.shape[-1] else x
