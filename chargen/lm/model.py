"""The network: characters in, logits of the next character and the new state out.

    CharLM = embedding -> recurrent layers -> (projection when tied) -> output

It knows ids, not characters, and never keeps a state of its own: the state goes in and comes out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .config import ModelConfig, settled

State = tuple[Tensor, ...]
"""(h, c) for an LSTM, (h,) for a GRU or RNN; each (num_layers, B, H), float32."""

STATE_NAMES = {"lstm": ("h", "c"), "gru": ("h",), "rnn": ("h",)}
"""Names of the parts of a `State`, by cell."""

_CELL_CLASSES: dict[str, Callable[[int, int], nn.RNNBase]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn": nn.RNN,
}
_FUSED: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "lstm": torch.lstm,
    "gru": torch.gru,
    "rnn": torch.rnn_tanh,
}
_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_GATES = {"lstm": 4, "gru": 3, "rnn": 1}


class Dropout(nn.Module):
    """Dropout on (T, B, features), element by element or one mask for the whole window.

    Parameters
    ----------
    rate : float
        Probability that a value is zeroed while training.
    variational : bool
        The mask is drawn once for a window and holds for each of its time steps
        (Gal & Ghahramani 2016, https://arxiv.org/abs/1512.05287).
    """

    def __init__(self, rate: float, variational: bool = False) -> None:
        super().__init__()
        self.rate = rate
        self.variational = variational

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return values
        if not self.variational:
            return nn.functional.dropout(values, self.rate)
        keep = 1 - self.rate
        mask = values.new_empty((1, *values.shape[1:])).bernoulli_(keep).div_(keep)
        return values * mask


class CharLM(nn.Module):
    """A character-level recurrent language model (Mikolov et al. 2010; Graves 2013).

    Parameters
    ----------
    config : ModelConfig
        With every size set.

    Attributes
    ----------
    embedding : nn.Embedding, (V, E)
    layers : nn.ModuleList of single-layer nn.LSTM, nn.GRU or nn.RNN
    projection : nn.Linear, H -> E, or None
        Only with tied weights, so that H and E may differ.
    output : nn.Linear, H (or E when tied) -> V

    Examples
    --------
    >>> sizes = dict(embedding_size=8, hidden_size=16, num_layers=1)
    >>> rates = dict(dropout=0.0, embedding_dropout=0.0, weight_dropout=0.0)
    >>> lm = CharLM(ModelConfig(vocabulary_size=5, **sizes, **rates))
    >>> logits, state = lm(torch.zeros(7, 3, dtype=torch.int64), lm.initial_state(3))
    >>> tuple(logits.shape), tuple(state[0].shape)
    ((7, 3, 5), (1, 3, 16))
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        vocabulary = settled(config.vocabulary_size)
        embedding = settled(config.embedding_size)
        hidden = self.hidden_size = settled(config.hidden_size)
        self.weight_dropout = settled(config.weight_dropout)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.embedding_dropout = Dropout(settled(config.embedding_dropout), config.variational)
        # One module a layer, not one of many layers: dropout between layers is then ours to choose.
        self.layers = nn.ModuleList(
            _CELL_CLASSES[config.cell](embedding if layer == 0 else hidden, hidden)
            for layer in range(settled(config.num_layers))
        )
        self.dropout = Dropout(settled(config.dropout), config.variational)
        self.projection = nn.Linear(hidden, embedding) if config.tied else None
        self.output = nn.Linear(embedding if config.tied else hidden, vocabulary)
        self.reset_parameters()
        if config.tied:
            self.output.weight = self.embedding.weight

    def reset_parameters(self) -> None:
        """Initialise the weights: torch's own ranges but for what is said here.

        The forget gate's bias starts at 1 (Jozefowicz et al. 2015), other recurrent biases at 0;
        recurrent matrices are orthogonal gate by gate where `orthogonal` asks for it.
        """
        if self.config.tied:
            # As output weights, rows of norm sqrt(E) would make the first logits enormous.
            nn.init.normal_(self.embedding.weight, std=0.1)
        for layer in self.layers:
            for name, parameter in layer.named_parameters():
                if name.startswith("bias"):
                    nn.init.zeros_(parameter)
                elif name.startswith("weight_hh") and self.config.orthogonal:
                    for gate in parameter.data.chunk(_GATES[self.config.cell]):
                        nn.init.orthogonal_(gate)
            if self.config.cell == "lstm":
                # Gates are stacked as input, forget, cell, output.
                layer.get_parameter("bias_ih_l0").data[self.hidden_size : 2 * self.hidden_size] = 1

    def initial_state(self, batch_size: int) -> State:
        """Zeros: the state before anything was read.

        Returns
        -------
        State
            Each tensor (num_layers, B, H), on the model's device, float32.
        """
        weight = self.embedding.weight
        shape = (len(self.layers), batch_size, self.hidden_size)
        parts = STATE_NAMES[self.config.cell]
        return tuple(torch.zeros(shape, device=weight.device) for _ in parts)

    def features(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Outputs of the last recurrent layer, before dropout.

        Parameters
        ----------
        ids : (T, B) int64
        state : State
            As `initial_state` or an earlier call gave it; it is not changed.

        Returns
        -------
        outputs : (T, B, H)
        state : State
            After the last time step, float32 also under autocast.
        """
        outputs = self.embedding_dropout(self.embedding(ids))  # (T, B, E)
        new_states = []
        for index, layer in enumerate(self.layers):
            if index > 0:
                outputs = self.dropout(outputs)
            before = tuple(part[index : index + 1] for part in state)
            outputs, after = self._run_layer(layer, outputs, before)
            new_states.append(after)
        merged = tuple(torch.cat(parts).float() for parts in zip(*new_states, strict=True))
        return outputs, merged

    def _run_layer(self, layer: nn.Module, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        weights: list[Tensor] = [layer.get_parameter(name + "_l0") for name in _WEIGHTS]
        if self.training and self.weight_dropout:
            weights[1] = nn.functional.dropout(weights[1], self.weight_dropout)
        # The call that nn.LSTM.forward ends in, made here because weights can then be dropped
        # without re-registering parameters at each step.
        hidden = state if self.config.cell == "lstm" else state[0]
        has_biases, num_layers, between, bidirectional, batch_first = True, 1, 0.0, False, False
        outputs, *after = _FUSED[self.config.cell](
            inputs,
            hidden,
            weights,
            has_biases,
            num_layers,
            between,
            self.training,
            bidirectional,
            batch_first,
        )
        return outputs, tuple(after)

    def logits(self, features: Tensor) -> Tensor:
        """Logits of the next character, (..., V), from `features`, (..., H)."""
        outputs = self.dropout(features)
        if self.projection is not None:
            outputs = self.projection(outputs)
        logits: Tensor = self.output(outputs)
        return logits

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Read a window.

        Parameters
        ----------
        ids : (T, B) int64
        state : State
            Each tensor (num_layers, B, H).

        Returns
        -------
        logits : (T, B, V)
            Of the character that follows each one read.
        state : State
        """
        outputs, state = self.features(ids, state)
        return self.logits(outputs), state

    def num_parameters(self) -> int:
        """How many numbers are trained; tied weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())


def detach(state: State) -> State:
    """The same state without its history: where truncated BPTT truncates."""
    return tuple(part.detach() for part in state)
