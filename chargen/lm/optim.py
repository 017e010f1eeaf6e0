"""The optimizer's parts: parameter groups, learning-rate schedule, clipping, average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .model import CharLM

BETAS = (0.9, 0.99)


def make_optimizer(model: CharLM, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) without decay on biases and embeddings.

    A tied output matrix is the embedding, so it does not decay either.
    """
    decayed: list[Tensor] = []
    kept: list[Tensor] = []
    for parameter in model.parameters():
        is_matrix = parameter.ndim > 1 and parameter is not model.embedding.weight
        (decayed if is_matrix else kept).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    fused = model.embedding.weight.device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=fused)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimizer remembers of each parameter, by "index.name", for a checkpoint."""
    return {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})


def learning_rate_factor(progress: float, step: int, warmup_steps: int) -> float:
    """Share of the highest learning rate: a linear rise over steps, a cosine over the budget.

    Parameters
    ----------
    progress : float
        Share of the budget that is used, 0 to 1; of time, of epochs or of steps.
    step : int
        Steps done.
    warmup_steps : int
    """
    rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def clip_gradient(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale the gradient down to norm `limit` where it is longer (Pascanu et al. 2013).

    Returns
    -------
    Tensor, ()
        The norm before clipping; a limit of 0 only measures.
    """
    return nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else math.inf)


class WeightAverage:
    """Exponential moving average of a model's weights (Polyak & Juditsky 1992).

    Early on the average is over what there was: its decay at step t is at most (1 + t) / (10 + t).

    Parameters
    ----------
    model : nn.Module
    decay : float
        Share of the old average that is kept at each step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = dict(model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}

    def update(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.average.values()), [p.detach() for p in self.parameters.values()], 1 - decay
        )

    def load(self, average: dict[str, Tensor]) -> None:
        """Put back an `average` that was saved."""
        for name, value in self.average.items():
            value.copy_(average[name])

    def swap(self) -> None:
        """Exchange the model's weights and the average; called twice, nothing has changed."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                held = parameter.detach().clone()
                parameter.copy_(self.average[name])
                self.average[name].copy_(held)
