"""The optimizer's parts: parameter groups, learning-rate schedule, clipping, average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from chargen.lm.config import TrainConfig, settled
from chargen.lm.muon import Muon
from chargen.lm.recurrent import RecurrentLayers

BETAS = (0.9, 0.99)


def make_optimizers(
    model: nn.Module, config: TrainConfig, precision: str
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the recurrent layers, AdamW (Loshchilov & Hutter 2019) for the rest.

    Or AdamW for all, as `config.optimizer` says. Biases and embeddings do not decay, nor does a
    tied output matrix, which is the embedding. The model has `RecurrentLayers` once.
    """
    rate, decay = settled(config.learning_rate), settled(config.weight_decay)
    recurrent: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    [layers] = (module for module in model.modules() if isinstance(module, RecurrentLayers))
    in_layers = {id(parameter) for parameter in layers.parameters()}
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
    return [adamw, Muon(recurrent, layers.gates, rate, decay, getattr(torch, precision))]


def optimizer_tensors(*optimizers: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What optimizers remember of each parameter, by "index.name", for a checkpoint."""
    return {
        f"{first + index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for first, optimizer in _numbered(optimizers)
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }


def load_optimizer_tensors(tensors: dict[str, Tensor], *optimizers: torch.optim.Optimizer) -> None:
    """Put back what `optimizer_tensors` gave.

    Raises `ValueError` where they are not of these parameters.
    """
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = value
    for first, optimizer in _numbered(optimizers):
        groups = optimizer.state_dict()["param_groups"]
        own = range(first, first + sum(len(group["params"]) for group in groups))
        state = {index - first: entries[index] for index in own if index in entries}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        names = {"momentum"} if isinstance(optimizer, Muon) else {"step", "exp_avg", "exp_avg_sq"}
        for place, values in state.items():
            if values.keys() != names:
                raise ValueError(f"the optimizer remembers {sorted(values)} of a parameter")
            for name, value in values.items():
                # torch's fused kernels believe these: another shape writes where it must not.
                shape = torch.Size([]) if name == "step" else parameters[place].shape
                if value.shape != shape or value.dtype != torch.float32:
                    raise ValueError(f"{first + place}.{name} of the optimizer is another's")
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def _numbered(
    optimizers: Sequence[torch.optim.Optimizer],
) -> Iterator[tuple[int, torch.optim.Optimizer]]:
    """Each optimizer with the number of parameters before its own."""
    first = 0
    for optimizer in optimizers:
        yield first, optimizer
        first += sum(len(group["params"]) for group in optimizer.param_groups)


def learning_rate_factor(
    progress: float, step: int, warmup_steps: int, schedule: str = "cosine", cooldown: float = 0.2
) -> float:
    """Share of the highest learning rate: a linear rise over the first steps, then the schedule.

    Parameters
    ----------
    progress, schedule, cooldown
        As `schedule_factor` takes them.
    step : int
        Steps done.
    """
    rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return rise * schedule_factor(progress, schedule, cooldown)


def schedule_factor(progress: float, schedule: str, cooldown: float) -> float:
    """Share of the highest learning rate after the warm-up.

    Parameters
    ----------
    progress : float
        Share of the budget that is used, 0 to 1; of time, of epochs or of steps.
    schedule : {"cosine", "constant-cooldown"}
        A cosine to zero (Loshchilov & Hutter 2017), or a constant rate that falls linearly to zero
        over the last share `cooldown` of the budget (Zhai et al. 2022; Hägele et al. 2024).
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return min(1.0, max(0.0, 1 - progress) / cooldown)


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
