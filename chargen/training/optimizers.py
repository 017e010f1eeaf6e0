"""The optimizers Muon and AdamW with their parameter groups, and gradient clipping.

`torch.optim.Muon` is not used for two reasons. It always multiplies in bfloat16, which takes 30
times as long on a processor that only emulates it. And it takes whole matrices, but a recurrent
layer stacks the matrices of its gates, each of which has its own singular values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from chargen.lm.config import MUON_ITERATIONS, TrainConfig, required
from chargen.lm.recurrent import RecurrentLayers

BETAS = (0.9, 0.99)
"""Decay rates of AdamW's moment estimates."""

MOMENTUM = 0.95
UPDATE_RMS = 0.4
"""Root mean square of the entries of an update, in units of the learning rate."""

# The quintic a x + b x^3 + c x^5 that Jordan chose: it raises small singular values fastest and
# brings all of them to between 0.7 and 1.2, which works as well as exactly 1.
_QUINTIC = (3.4445, -4.7750, 2.0315)


def make_optimizers(
    model: nn.Module, config: TrainConfig, precision: str
) -> list[torch.optim.Optimizer]:
    """Return AdamW (Loshchilov & Hutter 2019), and Muon for the matrices of the recurrent layers.

    If `config.optimizer` is not "muon", AdamW trains all parameters. There is no weight decay on
    biases and embeddings, including a tied output matrix. All `RecurrentLayers` of the model have
    the same cell.
    """
    rate, decay = required(config.learning_rate), required(config.weight_decay)
    recurrent: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    every = [module for module in model.modules() if isinstance(module, RecurrentLayers)]
    in_layers = {id(parameter) for layers in every for parameter in layers.parameters()}
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for parameter in model.parameters():
        if parameter.ndim == 1 or id(parameter) in embeddings:
            kept.append(parameter)
        elif config.optimizer == "muon" and id(parameter) in in_layers:
            recurrent.append(parameter)
        else:
            decayed.append(parameter)
    groups = [{"params": decayed, "weight_decay": decay}, {"params": kept, "weight_decay": 0.0}]
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    adamw = torch.optim.AdamW(groups, lr=rate, betas=BETAS, fused=fused)
    if not recurrent:
        return [adamw]
    return [adamw, Muon(recurrent, every[0].gates, rate, decay, getattr(torch, precision))]


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton-Schulz iterations (Jordan et al. 2024).

    An update is scaled to the size of AdamW's (Liu et al. 2025), so that both can use one learning
    rate. Weight decay is decoupled: a step shrinks the weights by learning rate times decay.

    Parameters
    ----------
    matrices : iterable of Parameter, (gates * H, ...)
    gates : int
        Number of matrices stacked in each parameter; each is orthogonalised separately.
    precision : torch.dtype
        Precision of the matrix products.
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
        for group in self.param_groups:
            rate, decay = group["lr"], group["weight_decay"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum = state["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
                ahead = matrix.grad.lerp(momentum, MOMENTUM)  # Nesterov momentum
                stacked = ahead.view(self.gates, -1, ahead.shape[1])
                update = orthogonalize(stacked.to(self.precision)).flatten(0, 1)
                size = UPDATE_RMS * math.sqrt(max(stacked.shape[1:]))
                length = min(rate * size, torch.finfo(matrix.dtype).max)  # torch takes no more
                matrix.mul_(1 - rate * decay)
                matrix.add_(update.to(matrix.dtype), alpha=-length)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return approximately the nearest (N, rows, columns) with orthonormal rows or columns."""
    a, b, c = _QUINTIC
    x = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(MUON_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if matrices.shape[-2] > matrices.shape[-1] else x


def optimizer_tensors(*optimizers: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizers' state of each parameter, by "index.name", for a checkpoint."""
    return {
        f"{first + index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for first, optimizer in _with_first_indices(optimizers)
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }


def load_optimizer_tensors(tensors: dict[str, Tensor], *optimizers: torch.optim.Optimizer) -> None:
    """Restore the state from `optimizer_tensors`; raises ValueError if it does not fit."""
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = value
    for first, optimizer in _with_first_indices(optimizers):
        groups = optimizer.state_dict()["param_groups"]
        own = range(first, first + sum(len(group["params"]) for group in groups))
        state = {index - first: entries[index] for index in own if index in entries}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        names = {"momentum"} if isinstance(optimizer, Muon) else {"step", "exp_avg", "exp_avg_sq"}
        for number, values in state.items():
            if values.keys() != names:
                raise ValueError(f"the optimizer state of a parameter has {sorted(values)}")
            for name, value in values.items():
                # torch's fused kernels do not check shapes: a wrong one writes outside the tensor.
                shape = torch.Size([]) if name == "step" else parameters[number].shape
                if value.shape != shape or value.dtype != torch.float32:
                    raise ValueError(
                        f"{first + number}.{name} of the optimizer does not fit its parameter"
                    )
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def _with_first_indices(
    optimizers: Sequence[torch.optim.Optimizer],
) -> Iterator[tuple[int, torch.optim.Optimizer]]:
    """Yield each optimizer with the number of parameters in the optimizers before it."""
    first = 0
    for optimizer in optimizers:
        yield first, optimizer
        first += sum(len(group["params"]) for group in optimizer.param_groups)


def clip_gradient(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale a gradient that is longer than `limit` down to that norm (Pascanu et al. 2013).

    Returns the norm before clipping, (). With a limit of 0 the gradient is only measured.
    """
    return nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else math.inf)
