"""The network: characters in, logits of the next character and the new state out.

    CharLM = embedding -> recurrent layers -> (projection when tied) -> output

It knows ids, not characters, and never keeps a state of its own: the state goes in and comes out.
"""

from __future__ import annotations

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
