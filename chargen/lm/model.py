"""The network: characters in, logits of the next character and the new state out.

    CharLM = embedding -> recurrent layers -> (projection when tied) -> output
    Ensemble = the mean of several CharLMs' logits

They know ids, not characters, and never keep a state of their own: the state goes in and comes out.
"""

from __future__ import annotations

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
            # As output weights, rows of norm sqrt(E) would make the first logits enormous.
            nn.init.normal_(self.embedding.weight, std=0.1)
            self.output.weight = self.embedding.weight
        if config.orthogonal:
            self.layers.make_orthogonal()

    @property
    def members(self) -> list[CharLM]:
        """The networks of an `Ensemble`; here only this one."""
        return [self]

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.embedding.weight.device

    def initial_state(self, batch_size: int) -> State:
        return self.layers.initial_state(batch_size)

    def features(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """The last layer's outputs (T, B, H), before dropout, and the new state, for ids (T, B)."""
        found: tuple[Tensor, State] = self.layers(
            self.embedding_dropout(self.embedding(ids)), state
        )
        return found

    def logits(self, features: Tensor) -> Tensor:
        """Logits of the next character, (..., V), from `features`, (..., H)."""
        outputs = self.dropout(features)
        if self.projection is not None:
            outputs = self.projection(outputs)
        logits: Tensor = self.output(outputs)
        return logits

    def forward(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Read a window of ids (T, B) from a state, which is not changed.

        Returns
        -------
        logits : (T, B, V)
            Of the character that follows each one read.
        state : State
            After the last time step, float32 also under autocast.
        """
        outputs, state = self.features(ids, state)
        return self.logits(outputs), state

    def num_parameters(self) -> int:
        """How many numbers are trained; tied weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())


class Ensemble(nn.Module):
    """Language models of the same sizes whose logits are averaged; used like a `CharLM`.

    The probabilities are the normalised geometric mean of the members'. The features and states of
    the members lie side by side, so H is the sum of theirs.

    Parameters
    ----------
    config : ModelConfig
        `hidden_size` is that of one member, and `ensemble` their number N.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        one = replace(config, ensemble=1)
        self.networks = nn.ModuleList(CharLM(one) for _ in range(config.num_networks))
        self.hidden_size = config.num_networks * required(config.hidden_size)

    @property
    def members(self) -> list[CharLM]:
        return [network for network in self.networks if isinstance(network, CharLM)]

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.members[0].device

    def initial_state(self, batch_size: int) -> State:
        return _side_by_side([member.initial_state(batch_size) for member in self.members])

    def features(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """The last layers' outputs (T, B, H), before dropout, and the new state, for ids (T, B)."""
        states = zip(*(torch.split(part, self._width, -1) for part in state), strict=True)
        found = [m.features(ids, own) for m, own in zip(self.members, states, strict=True)]
        return torch.cat([outputs for outputs, _ in found], -1), _side_by_side(
            [after for _, after in found]
        )

    def member_logits(self, features: Tensor) -> list[Tensor]:
        """The logits (..., V) of each member, from `features`, (..., H)."""
        parts = torch.split(features, self._width, -1)
        return [member.logits(part) for member, part in zip(self.members, parts, strict=True)]

    def logits(self, features: Tensor) -> Tensor:
        """Logits of the next character, (..., V), from `features`, (..., H)."""
        return torch.stack(self.member_logits(features)).mean(0)

    def forward(self, ids: Tensor, state: State, apart: bool = False) -> tuple[Tensor, State]:
        """Read a window of ids (T, B) from a state; see `CharLM.forward`.

        With `apart` the logits are not averaged but those of the members, (T, N B, V): each learns
        from its own errors then.
        """
        outputs, state = self.features(ids, state)
        if apart:
            return torch.cat(self.member_logits(outputs), 1), state
        return self.logits(outputs), state

    def num_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(member.num_parameters() for member in self.members)

    @property
    def _width(self) -> int:
        return required(self.config.hidden_size)


def _side_by_side(states: list[State]) -> State:
    return tuple(torch.cat(parts, -1) for parts in zip(*states, strict=True))


Network = CharLM | Ensemble
"""What a checkpoint of a language model holds."""


def network(config: ModelConfig) -> Network:
    """A new network of these sizes, with random weights."""
    return CharLM(config) if config.num_networks == 1 else Ensemble(config)
