"""The equations of the recurrent cells for one step, on weights in a layout for stepping.

This module is independent of vocabularies and sampling. All results are written into buffers that
are allocated once for a number of streams: a step allocates nothing that grows with the model.

The outputs of all layers are adjacent in one buffer, so that the input of layer ``l``,
``[h_{l-1}; h_l]``, is a slice of the buffer, and one matrix product computes input and recurrence
together. The first layer's input product is looked up: row ``v`` of a table is
``embedding[v] @ W_ih.T + biases``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from chargen.lm.cells import CELLS, gate_order

if TYPE_CHECKING:
    from chargen.lm.model import CharLM

MAX_TABLE_BYTES = 256 * 2**20
"""Largest size of a table of the first layer's input products; a larger table is not created."""

MIN_ROWS = 8
"""Smallest number of rows in a matrix product for several streams (see `StepBuffers`)."""

MIN_THREADED_WEIGHTS = 2**16
"""Number of weights from which threads share a matrix-vector product; fewer are read before they
have woken up."""


@dataclass(frozen=True)
class Layer:
    """Weights of one layer, float32; a gate vector has G = 4H rows (LSTM, GRU) or H (RNN).

    Gates are ordered for stepping: LSTM ``[i, f, o, g]`` (the three sigmoids are adjacent), GRU
    ``[n from the input, r, z, n from the state]`` (the last part is inside ``r * (...)``).
    """

    joint: Tensor
    """LSTM and RNN: (G, K) for ``[x; h]``, or for ``h`` if the input product is looked up.
    GRU: (3H, H) ``[r, z, n]`` for ``h``."""
    input: Tensor | None
    """GRU whose input product is not looked up: (3H, input) ``[n, r, z]`` for ``x``."""
    bias: Tensor
    """(G,)"""


@dataclass(frozen=True)
class StepWeights:
    """Weights and settings of a model that a step needs."""

    cell: str
    hidden_size: int
    table: Tensor | None
    """(V, G): input product and biases of the first layer for each id; None if too large."""
    embedding: Tensor
    """(V, E)"""
    layers: tuple[Layer, ...]
    readout: tuple[tuple[Tensor, Tensor], ...]
    """Matrices and biases from the last layer's output to the logits."""
    precision: torch.dtype
    """Precision of the layers' products for several streams."""

    @cached_property
    def layers_for_rows(self) -> tuple[Layer, ...]:
        """The layers in `precision`, for several streams; one stream always uses float32."""
        return tuple(
            replace(
                layer,
                joint=layer.joint.to(self.precision),
                input=None if layer.input is None else layer.input.to(self.precision),
            )
            for layer in self.layers
        )


_STEP_ORDER = {"lstm": ("input", "forget", "output", "candidate"), "rnn": ("candidate",)}


def _reorder_blocks(matrix: Tensor, order: list[int], size: int) -> Tensor:
    parts = torch.split(matrix, size)
    return torch.cat([parts[i] for i in order])


def _gate_weights(cell: str, layer: torch.nn.RNNBase, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``W_ih, W_hh, bias`` (G,) of a layer with the rows in this module's order."""
    w_ih, w_hh, b_ih, b_hh = (
        getattr(layer, name).detach().double()
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    )
    if cell == "gru":
        summed = b_ih + b_hh
        bias = torch.cat([b_ih[2 * size :], summed[: 2 * size], b_hh[2 * size :]])
        return _reorder_blocks(w_ih, [2, 0, 1], size), w_hh, bias  # W_ih [n, r, z], W_hh [r, z, n]
    order = gate_order(cell, _STEP_ORDER[cell])
    return (
        _reorder_blocks(w_ih, order, size),
        _reorder_blocks(w_hh, order, size),
        _reorder_blocks(b_ih + b_hh, order, size),
    )


def prepare_weights(model: CharLM, precision: torch.dtype = torch.float32) -> StepWeights:
    """Return the weights of `model` in the layout for stepping, as they are now.

    Products of weights are computed in float64 and stored in float32; `precision` is the precision
    of the layers' products for several streams.
    """
    config = model.config
    cell, size = config.cell, config.hidden_size
    assert size is not None
    embedding = model.embedding.weight.detach().double()
    gates = [_gate_weights(cell, layer, size) for layer in model.layers]  # type: ignore[arg-type]
    w_ih, _, bias = gates[0]
    table = None
    if len(embedding) * len(bias) * 4 <= MAX_TABLE_BYTES:
        table = bias.expand(len(embedding), -1).clone()  # (V, G)
        table[:, : len(w_ih)] += embedding @ w_ih.T
        table = table.float()
    layers = []
    for i, (w_ih, w_hh, bias) in enumerate(gates):
        looked_up = i == 0 and table is not None
        if cell == "gru":
            layer = Layer(w_hh.float(), None if looked_up else w_ih.float(), bias.float())
        else:
            joint = w_hh if looked_up else torch.cat([w_ih, w_hh], dim=1)
            layer = Layer(joint.float().contiguous(), None, bias.float())
        layers.append(layer)
    return StepWeights(
        cell,
        size,
        table,
        embedding.float(),
        tuple(layers),
        _readout(model),
        precision,
    )


def _readout(model: CharLM) -> tuple[tuple[Tensor, Tensor], ...]:
    linears = [model.output] if model.projection is None else [model.projection, model.output]
    steps = [(each.weight.detach().double(), each.bias.detach().double()) for each in linears]
    if len(steps) == 2:
        (first, first_bias), (second, second_bias) = steps
        # One matrix is read faster than two, unless it is larger than both together.
        if len(second) * first.shape[1] <= first.numel() + second.numel():
            steps = [(second @ first, second @ first_bias + second_bias)]
    return tuple((weight.float(), bias.float()) for weight, bias in steps)


class StepBuffers:
    """State and scratch space for `batch_size` streams, and the two halves of a step.

    One stream is a vector, and its products are matrix-vector products. Several streams are the
    rows of a matrix, padded to at least `MIN_ROWS` rows: kernels for two or three rows sum in
    another order than kernels for more, so the padding makes a stream's numbers the same, bit for
    bit, in a batch of any size. (A single stream differs in the last bits: it uses matrix-vector
    products because they are twice as fast.)
    """

    def __init__(self, weights: StepWeights, batch_size: int) -> None:
        size, device = weights.hidden_size, weights.embedding.device
        self.weights = weights
        self.batch_size = batch_size
        self.rows = 1 if batch_size == 1 else max(batch_size, MIN_ROWS)
        lead = () if self.rows == 1 else (self.rows,)
        inputs = 0 if weights.table is not None else weights.embedding.shape[1]
        num_layers = len(weights.layers)

        def zeros(width: int) -> Tensor:
            return torch.zeros(*lead, width, device=device)

        self._ids = torch.zeros(self.rows, dtype=torch.int64, device=device)
        self._stream_ids = self._ids[:batch_size]
        self._outputs = zeros(inputs + num_layers * size)  # [e; h_0; h_1; ...]
        self._inputs = self._outputs[..., :inputs]
        self.hidden = [
            self._outputs[..., inputs + i * size : inputs + (i + 1) * size]
            for i in range(num_layers)
        ]
        self.cells = (
            [zeros(size) for _ in range(num_layers)] if "c" in CELLS[weights.cell].states else []
        )
        self._gates = zeros(len(weights.layers[0].bias))
        self._readout_buffers = [zeros(len(weight)) for weight, _ in weights.readout]
        self.logits = self._readout_buffers[-1].view(self.rows, -1)[:batch_size]
        self._parts = torch.split(self._gates, size, dim=-1)
        self._sigmoids = self._gates[..., : 3 * size]
        # view (rows, G), which looking up rows of the table needs
        self._gates_rows = self._gates.view(self.rows, -1)
        self._layers = weights.layers if self.rows == 1 else weights.layers_for_rows
        self._products = [self._products_of(i, inputs) for i in range(num_layers)]
        reads = [self.hidden[-1], *self._readout_buffers[:-1]]
        self._readouts = [
            (partial(out.copy_, bias), _product(out, weight, read))
            for (weight, bias), out, read in zip(
                weights.readout, self._readout_buffers, reads, strict=True
            )
        ]

    def _products_of(self, i: int, inputs: int) -> list[Callable[[], object]]:
        """Return functions that add layer i's products to its gates.

        The buffer of outputs begins with `inputs` numbers for the embedding.
        """
        layer, size = self._layers[i], self.weights.hidden_size
        if self.weights.cell != "gru":
            start = inputs + (i - 1) * size if i else 0
            read = self._outputs[..., start : inputs + (i + 1) * size]  # [x; h]
            return [_product(self._gates, layer.joint, read)]
        products = [_product(self._gates[..., size:], layer.joint, self.hidden[i])]
        if layer.input is not None:
            below = self.hidden[i - 1] if i else self._inputs
            products.append(_product(self._gates[..., : 3 * size], layer.input, below))
        return products

    def state(self) -> tuple[Tensor, ...]:
        """Return a copy of the state: (h, c) or (h,), each (layers, B, H)."""
        shape = (len(self.hidden), self.rows, self.weights.hidden_size)
        return tuple(torch.stack(p).view(shape)[:, : self.batch_size] for p in self._state)

    def load(self, state: tuple[Tensor, ...]) -> None:
        """Load a state in the format of `state`."""
        for part, values in zip(self._state, state, strict=True):
            for buffer, value in zip(part, values, strict=True):
                buffer.view(self.rows, -1)[: self.batch_size].copy_(value)

    @property
    def _state(self) -> list[list[Tensor]]:
        return [self.hidden, self.cells] if self.cells else [self.hidden]

    def advance(self, ids: Tensor) -> None:
        """Read the next id of each stream, (B,), and update state and outputs."""
        self._stream_ids.copy_(ids)
        weights = self.weights
        advance = getattr(self, weights.cell)
        for i, layer in enumerate(self._layers):
            if i == 0 and weights.table is not None:
                torch.index_select(weights.table, 0, self._ids, out=self._gates_rows)
            else:
                if i == 0:
                    rows = weights.embedding.index_select(0, self._ids)
                    self._inputs.view(self.rows, -1).copy_(rows)
                self._gates.copy_(layer.bias)
            for add in self._products[i]:
                add()
            advance(i)

    def read_out(self) -> Tensor:
        """Return the logits of the next id, (B, V), valid until the next call."""
        for start, add in self._readouts:
            start()
            add()
        return self.logits

    def lstm(self, i: int) -> None:
        """``c = f c + i g; h = o tanh(c)`` (Hochreiter & Schmidhuber 1997; Gers et al. 2000)."""
        hidden, cell = self.hidden[i], self.cells[i]
        input_gate, forget_gate, output_gate, candidate = self._parts
        self._sigmoids.sigmoid_()
        candidate.tanh_()
        cell.mul_(forget_gate).addcmul_(input_gate, candidate)
        torch.tanh(cell, out=hidden)
        hidden.mul_(output_gate)

    def gru(self, i: int) -> None:
        """``n = tanh(n_x + r n_h); h = (1 - z) n + z h`` (Cho et al. 2014, as in cuDNN)."""
        hidden = self.hidden[i]
        candidate, reset, update, recurrent = self._parts
        reset.sigmoid_()
        update.sigmoid_()
        candidate.addcmul_(reset, recurrent).tanh_()
        hidden.sub_(candidate).mul_(update).add_(candidate)

    def rnn(self, i: int) -> None:
        """``h = tanh(W x + U h + b)`` (Elman 1990)."""
        torch.tanh(self._gates, out=self.hidden[i])


def _product(out: Tensor, matrix: Tensor, source: Tensor) -> Callable[[], object]:
    """Return a function that adds ``matrix @ source`` to `out`.

    `matrix` is (N, K); `source` is a vector (K,) or has one vector per row.
    """
    if out.dim() > 1:
        if matrix.dtype == out.dtype:
            return partial(out.addmm_, source, matrix.T)
        # the sum stays in float32
        return lambda: out.add_(torch.nn.functional.linear(source.to(matrix.dtype), matrix))
    count = math.gcd(torch.get_num_threads(), len(matrix))
    if out.device.type != "cpu" or matrix.numel() < MIN_THREADED_WEIGHTS or count == 1:
        return partial(out.addmv_, matrix, source)
    blocks = matrix.view(count, -1, matrix.shape[1]).mT  # (blocks, K, N / blocks)
    return partial(out.view(count, 1, -1).baddbmm_, source.expand(count, 1, -1), blocks)
