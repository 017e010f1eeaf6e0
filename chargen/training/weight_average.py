"""A moving average of the weights, which is evaluated and kept instead of the last weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a model's weights (Polyak & Juditsky 1992).

    Each step keeps a share `decay` of the old average. At step t the share is at most
    (1 + t) / (10 + t), so that early on the initial weights do not dominate.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = dict(model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}

    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.average.values()), [p.detach() for p in self.parameters.values()], 1 - decay
        )

    def load(self, average: dict[str, Tensor]) -> None:
        for name, value in self.average.items():
            value.copy_(average[name])

    def swap(self) -> None:
        """Exchange the model's weights and the average; a second call undoes the first."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                copy = parameter.detach().clone()
                parameter.copy_(self.average[name])
                self.average[name].copy_(copy)
