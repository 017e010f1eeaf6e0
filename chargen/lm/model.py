"""The network: from ids and a state to the logits of the next character and the new state.

    CharLM = embedding -> recurrent layers -> (projection when tied) -> output
    Ensemble = the mean of several CharLMs' logits

The networks do not store a state between calls: it is an argument and part of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from chargen.lm.config import ModelConfig, required
from chargen.lm.recurrent import Dropout, RecurrentLayers, State


class CharLM(nn.Module):
    """A character-level recurrent language model (Mikolov et al. 2010; Graves 2013).

    Examples
    --------
    >>> import torch
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
        vocabulary = required(config.vocabulary_size)
        embedding = required(config.embedding_size)
        hidden = self.hidden_size = required(config.hidden_size)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.embedding_dropout = Dropout(required(config.embedding_dropout), config.variational)
        self.layers = RecurrentLayers(
            config.cell,
            embedding,
            hidden,
            required(config.num_layers),
            dropout=required(config.dropout),
            weight_dropout=required(config.weight_dropout),
            variational=config.variational,
        )
        self.dropout = Dropout(required(config.dropout), config.variational)
        self.projection = nn.Linear(hidden, embedding) if config.tied else None
        self.output = nn.Linear(embedding if config.tied else hidden, vocabulary)
        if config.tied:
            # As output weights, torch's default rows of norm sqrt(E) would give enormous logits.
            nn.init.normal_(self.embedding.weight, std=0.1)
            self.output.weight = self.embedding.weight
        if config.orthogonal:
            self.layers.make_orthogonal()

    @property
    def members(self) -> list[CharLM]:
        """The networks whose logits are averaged, as in an `Ensemble`: only this one."""
        return [self]

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.embedding.weight.device

    def initial_state(self, batch_size: int) -> State:
        return self.layers.initial_state(batch_size)

    def features(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Map ids (T, B) to the last layer's outputs (T, B, H), before dropout, and a new state."""
        result: tuple[Tensor, State] = self.layers(
            self.embedding_dropout(self.embedding(ids)), state
        )
        return result

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits (..., V) of the next character, given `features` (..., H)."""
        outputs = self.dropout(features)
        if self.projection is not None:
            outputs = self.projection(outputs)
        logits: Tensor = self.output(outputs)
        return logits

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Read a window of ids (T, B), starting from `state`, which is not changed.

        Returns
        -------
        logits : (T, B, V)
            Logits of the character that follows each id.
        state : State
            State after the last time step, float32 even under autocast.
        """
        outputs, state = self.features(ids, state)
        return self.logits(outputs), state

    def num_parameters(self) -> int:
        """Return the number of trained parameters; tied weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())


class Ensemble(nn.Module):
    """Language models of the same sizes whose logits are averaged; used like a `CharLM`.

    The probabilities are the normalised geometric mean of the members' probabilities. The features
    and states of the members are concatenated, so H is the sum of their hidden sizes.

    Parameters
    ----------
    config : ModelConfig
        `hidden_size` is the size of one member, and `ensemble` the number of members (N).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        member = replace(config, ensemble=1)
        self.networks = nn.ModuleList(CharLM(member) for _ in range(config.num_networks))
        self.hidden_size = config.num_networks * required(config.hidden_size)

    @property
    def members(self) -> list[CharLM]:
        return [network for network in self.networks if isinstance(network, CharLM)]

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.members[0].device

    def initial_state(self, batch_size: int) -> State:
        return _concatenated([member.initial_state(batch_size) for member in self.members])

    def features(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Map ids (T, B) to the last layers' outputs (T, B, H), before dropout, and a new state."""
        states = zip(*(torch.split(part, self._width, -1) for part in state), strict=True)
        results = [m.features(ids, before) for m, before in zip(self.members, states, strict=True)]
        return torch.cat([outputs for outputs, _ in results], -1), _concatenated(
            [after for _, after in results]
        )

    def member_logits(self, features: Tensor) -> list[Tensor]:
        """Return the logits (..., V) of each member, given `features` (..., H)."""
        parts = torch.split(features, self._width, -1)
        return [member.logits(part) for member, part in zip(self.members, parts, strict=True)]

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits (..., V) of the next character, given `features` (..., H)."""
        return torch.stack(self.member_logits(features)).mean(0)

    def forward(
        self, ids: Tensor, state: State, separate_members: bool = False
    ) -> tuple[Tensor, State]:
        """Read a window of ids (T, B), starting from `state`; see `CharLM.forward`.

        With `separate_members`, the members' logits are not averaged but concatenated, (T, N B, V),
        so that each member learns from its own errors.
        """
        outputs, state = self.features(ids, state)
        if separate_members:
            return torch.cat(self.member_logits(outputs), 1), state
        return self.logits(outputs), state

    def num_parameters(self) -> int:
        """Return the number of trained parameters."""
        return sum(member.num_parameters() for member in self.members)

    @property
    def _width(self) -> int:
        return required(self.config.hidden_size)


def _concatenated(states: list[State]) -> State:
    return tuple(torch.cat(parts, -1) for parts in zip(*states, strict=True))


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, without dropout, and afterwards back into its mode."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


Network = CharLM | Ensemble
"""Type of the network in a language model's checkpoint."""


def create_network(config: ModelConfig) -> Network:
    """Create a network of these sizes with random weights."""
    return CharLM(config) if config.num_networks == 1 else Ensemble(config)
