"""A running average of the weights, which is evaluated and kept in place of the last ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a model's weights (Polyak & Juditsky 1992).

    A share `decay` of the old average is kept at each step; early on the average is over what there
    was: at step t it keeps at most (1 + t) / (10 + t).
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
        """Exchange the model's weights and the average; called twice, nothing has changed."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                held = parameter.detach().clone()
                parameter.copy_(self.average[name])
                self.average[name].copy_(held)
