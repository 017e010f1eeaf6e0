"""A model prepared for generation: it reads a prompt in one pass and then one id per step.

A decoder takes ids and returns logits; `generate` draws from the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from chargen.lm.model import evaluation_mode
from chargen.sampling.stepping import StepBuffers, prepare_weights

if TYPE_CHECKING:
    from chargen.lm.counts import Counts
    from chargen.lm.model import Network
    from chargen.lm.recurrent import State

PREFILL_WINDOW = 1024

TAIL_IDS = 8192
"""Number of ids at the end of a long prompt that are tried first; see `Decoder._converged_tail`."""

_EXTREME_VALUES = (1.0, 100.0)
"""Values of h and c, with either sign, from which the end of a long prompt is read.

No h is larger; c has no bound, but is far smaller in practice.
"""

_STATE_TOLERANCE = 1e-6
"""Tolerance with which two states count as equal: absolute up to 1, relative above 1."""

Move = Callable[[Tensor], None]
"""Function that changes outputs of the last layer, (H,) or (rows, H), in place and row by row."""


class Decoder:
    """Language model that reads one id per step, equal to `model` within rounding.

    The weights are copied into a layout for stepping (see `chargen.sampling.stepping`), so further
    training of `model` requires a new decoder. `precision` applies to the layers' matrix products
    for several streams; bfloat16 gives three correct digits. A single stream always uses float32:
    its time is spent on reading the weights, and bfloat16 has no fast matrix-vector product. With
    `counts`, the logits are the log-probabilities of the mixture of `model` and `counts`.

    Examples
    --------
    >>> decoder = Decoder(model)                          # doctest: +SKIP
    >>> logits = decoder.prefill(torch.tensor([5, 7]))    # (1, V): what comes after 5, 7
    >>> logits = decoder.step(torch.tensor([9]))          # (1, V): what comes after 9
    """

    def __init__(
        self, model: Network, precision: str = "float32", counts: Counts | None = None
    ) -> None:
        self.model = model
        self.counts = counts
        self.weights = [
            prepare_weights(member, getattr(torch, precision)) for member in model.members
        ]
        self._buffers = [StepBuffers(weights, 1) for weights in self.weights]
        self._move: Move | None = None
        self._contexts = None if counts is None else counts.initial_contexts(1)

    @property
    def batch_size(self) -> int:
        """Number of streams."""
        return self._buffers[0].batch_size

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.weights[0].embedding.device

    def clone(self) -> Decoder:
        """Return a decoder on the same weights with its own copy of the state."""
        other = object.__new__(type(self))
        other.model, other.weights, other._move = self.model, self.weights, self._move
        other.counts = self.counts
        other.state = self.state
        other._contexts = self._contexts
        return other

    def steered(self, move: Move | None) -> Decoder:
        """Return a clone that applies `move`, or nothing, from the end of the prompt on.

        After each step, `move` changes the last layer's outputs, from which the logits are computed
        and which the next step reads as part of its state. Any earlier `move` is replaced.
        """
        other = self.clone()
        other._move = move
        return other

    @property
    def state(self) -> tuple[Tensor, ...]:
        """Copy of the state, in the format of the model: (h, c) or (h,), each (layers, B, H).

        Setting the state resets the contexts of the counts.
        """
        states = [buffers.state() for buffers in self._buffers]
        return tuple(torch.cat(parts, -1) for parts in zip(*states, strict=True))

    @state.setter
    def state(self, state: tuple[Tensor, ...]) -> None:
        self._buffers = [StepBuffers(weights, state[0].shape[1]) for weights in self.weights]
        widths = [weights.hidden_size for weights in self.weights]
        states = zip(*(torch.split(part, widths, -1) for part in state), strict=True)
        for buffers, parts in zip(self._buffers, states, strict=True):
            buffers.load(parts)
        self._contexts = (
            None if self.counts is None else self.counts.initial_contexts(self.batch_size)
        )

    def select(self, rows: Sequence[int]) -> None:
        """Keep these streams, in this order; ``select([0] * n)`` makes n copies of the first."""
        contexts = self._contexts
        self.state = tuple(part[:, list(rows)] for part in self.state)
        self._contexts = None if contexts is None else contexts[list(rows)]

    def prefill(self, ids: Tensor) -> Tensor:
        """Read ids, (T,) or (T, B), with the fused kernel, from the initial state.

        Returns the logits (B, V) float32 after the last id. Of a prompt much longer than
        `TAIL_IDS`, only the end is read if that is enough to determine the state.
        """
        ids = ids if ids.dim() == 2 else ids.unsqueeze(1)
        if len(ids) == 0:
            raise ValueError("prefill needs at least one id")
        model = self.model
        with evaluation_mode(model), torch.no_grad():
            ids = ids.to(self.device, torch.int64)
            state = model.initial_state(ids.shape[1])
            outputs, state = self._converged_tail(ids, state) or self._read(ids, state)
            if self._move is not None:
                hidden = state[0].clone()
                self._move(hidden[-1])
                outputs, state = hidden[-1], (hidden, *state[1:])
            logits = model.logits(outputs).float()
        self.state = state
        if self.counts is not None:
            self._contexts = self.counts.contexts_after(ids.cpu().numpy())
        return self._mix_counts(logits)

    def _read(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Read ids (T, B); return the last outputs (B, H) and the state."""
        for window in torch.split(ids, PREFILL_WINDOW):
            features, state = self.model.features(window, state)
        return features[-1], state

    def _converged_tail(self, ids: Tensor, state: State) -> tuple[Tensor, State] | None:
        """Return the result of `_read` from the last ids alone, or None if these do not suffice.

        They suffice if reading them from two opposite extreme states ends in the same state: a unit
        that still remembers anything from before these ids then differs.
        """
        length = TAIL_IDS
        if ids.shape[1] != 1 or len(ids) < 4 * length:
            return None
        before = tuple(
            torch.cat([part + extreme, part - extreme], 1)
            for part, extreme in zip(state, _EXTREME_VALUES, strict=False)
        )
        while 4 * length <= len(ids):
            outputs, after = self._read(ids[-length:].expand(-1, 2), before)
            if all(_states_agree(part[:, 0], part[:, 1]) for part in after):
                return outputs[1:], tuple(part[:, 1:] for part in after)
            length *= 4
        return None

    def step(self, ids: Tensor) -> Tensor:
        """Read the next id of each stream, (B,).

        Returns the logits (B, V) float32 of the following id, which the next step overwrites.
        """
        for buffers in self._buffers:
            buffers.advance(ids)
        if self._move is not None:
            self._move_outputs([buffers.hidden[-1] for buffers in self._buffers], self._move)
        if self.counts is not None:
            assert self._contexts is not None
            self._contexts = self.counts.advance(self._contexts, ids.cpu().numpy())
        logits = [buffers.read_out() for buffers in self._buffers]
        return self._mix_counts(logits[0] if len(logits) == 1 else torch.stack(logits).mean(0))

    def _mix_counts(self, logits: Tensor) -> Tensor:
        if self.counts is None or self._contexts is None:
            return logits
        mixed = self.counts.mix(logits.cpu().numpy(), self._contexts)
        return torch.from_numpy(mixed).to(logits)

    def _move_outputs(self, hidden: list[Tensor], move: Move) -> None:
        """Apply `move` to the concatenated outputs of all members."""
        if len(hidden) == 1:
            move(hidden[0])
            return
        outputs = torch.cat(hidden, -1)
        move(outputs)
        widths = [part.shape[-1] for part in hidden]
        for part, values in zip(hidden, torch.split(outputs, widths, -1), strict=True):
            part.copy_(values)


def _states_agree(one: Tensor, other: Tensor) -> bool:
    return bool(((one - other).abs() <= _STATE_TOLERANCE * other.abs().clamp(min=1)).all())
