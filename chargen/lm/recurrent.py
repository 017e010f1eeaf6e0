"""Recurrent layers over embedded ids or over numbers.

The layers do not store a state between calls: it is an argument and part of the result.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chargen.lm.cells import CELLS

State = tuple[Tensor, ...]
"""(h, c) for an LSTM, (h,) for the other `CELLS`; each (num_layers, B, H), float32."""

_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Dropout(nn.Module):
    """Dropout on (T, B, features), for each element or with one mask for the whole window.

    A `variational` mask is the same at each time step of a window (Gal & Ghahramani 2016,
    https://arxiv.org/abs/1512.05287). `rate` is the share of values set to zero in training.
    """

    def __init__(self, rate: float, variational: bool = False) -> None:
        super().__init__()
        self.rate = rate
        self.variational = variational

    def forward(self, values: Tensor) -> Tensor:
        return apply_dropout(values, self.rate, self.variational) if self.training else values


def apply_dropout(values: Tensor, rate: float, variational: bool) -> Tensor:
    """Apply dropout to values (T, B, features) as `Dropout` does in training."""
    if rate == 0:
        return values
    if not variational:
        return nn.functional.dropout(values, rate)
    keep = 1 - rate
    mask = values.new_empty((1, *values.shape[1:])).bernoulli_(keep).div_(keep)
    return values * mask


class RecurrentLayers(nn.ModuleList):
    """Stack of layers of one recurrent cell, from E inputs to H units.

    Each layer is a separate module, so that any kind of dropout can be applied between layers. The
    forget gate's bias starts at 1 (Jozefowicz et al. 2015), other biases at 0, and matrices in
    torch's default ranges. Weight dropout applies to the recurrent weights (DropConnect; Merity
    et al. 2018).

    Examples
    --------
    >>> layers = RecurrentLayers("gru", 3, 16, 2)
    >>> outputs, state = layers(torch.zeros(7, 5, 3), layers.initial_state(5))
    >>> tuple(outputs.shape), tuple(state[0].shape)
    ((7, 5, 16), (2, 5, 16))
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        variational: bool = False,
    ) -> None:
        module = getattr(nn, CELLS[cell].module)
        super().__init__(
            module(input_size if layer == 0 else hidden_size, hidden_size)
            for layer in range(num_layers)
        )
        self.cell = cell
        self.hidden_size = hidden_size
        self.gates = len(CELLS[cell].gates)
        self.dropout = dropout
        self.weight_dropout = weight_dropout
        self.variational = variational
        for layer in self:
            for name in ("bias_ih_l0", "bias_hh_l0"):
                nn.init.zeros_(layer.get_parameter(name))
            if "forget" in CELLS[cell].gates:
                biases = layer.get_parameter("bias_ih_l0").data.chunk(self.gates)
                biases[CELLS[cell].gates.index("forget")].fill_(1)

    def make_orthogonal(self) -> None:
        """Initialize each gate's recurrent matrix as an orthogonal matrix (Saxe et al. 2014)."""
        for layer in self:
            for gate in layer.get_parameter("weight_hh_l0").data.chunk(self.gates):
                nn.init.orthogonal_(gate)

    def initial_state(self, batch_size: int) -> State:
        """Return zeros on the layers' device, the state before anything is read."""
        device = next(self.parameters()).device
        shape = (len(self), batch_size, self.hidden_size)
        return tuple(torch.zeros(shape, device=device) for _ in CELLS[self.cell].states)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Read a window (T, B, E), starting from `state`, which is not changed.

        Returns
        -------
        outputs : (T, B, H)
            Outputs of the last layer, without dropout.
        state : State
            State after the last time step, float32 even under autocast.
        """
        outputs = inputs
        new_states = []
        for index, layer in enumerate(self):
            if index > 0 and self.training:
                outputs = apply_dropout(outputs, self.dropout, self.variational)
            before = tuple(part[index : index + 1] for part in state)
            outputs, after = self._run_layer(layer, outputs, before)
            new_states.append(after)
        merged = tuple(torch.cat(parts).float() for parts in zip(*new_states, strict=True))
        return outputs, merged

    def _run_layer(self, layer: nn.Module, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        weights: list[Tensor] = [layer.get_parameter(name + "_l0") for name in _WEIGHTS]
        if self.training and self.weight_dropout:
            weights[1] = nn.functional.dropout(weights[1], self.weight_dropout)
        # nn.LSTM.forward ends in this call. It is made directly, so that weights can be dropped
        # without re-registering parameters at each step.
        hidden = state if len(state) > 1 else state[0]
        kernel = getattr(torch, CELLS[self.cell].kernel)
        has_biases, num_layers, dropout, bidirectional, batch_first = True, 1, 0.0, False, False
        settings = has_biases, num_layers, dropout, self.training, bidirectional, batch_first
        outputs, *after = kernel(inputs, hidden, weights, *settings)
        return outputs, tuple(after)


def detach(state: State) -> State:
    """Return the state without its gradient history, where truncated BPTT truncates."""
    return tuple(part.detach() for part in state)
