"""The word-level recurrent classifier of the textbooks.

    embedding -> RNN | LSTM | GRU -> state after the last word -> batch normalisation -> linear

It knows ids of words, not words.

References
----------
RNN: Elman 1990, "Finding structure in time". LSTM: Hochreiter & Schmidhuber 1997, "Long short-term
memory"; its forget gate: Gers et al. 2000; that gate's first bias: Jozefowicz et al. 2015. GRU:
Cho et al. 2014, https://arxiv.org/abs/1406.1078. Both directions: Schuster & Paliwal 1997. Batch
normalisation: Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167. Dropout: Srivastava et al.
2014, and of recurrent networks only between the layers: Zaremba et al. 2014,
https://arxiv.org/abs/1409.2329.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from chargen.lm.config import settled
from chargen.sentiment.baselines.config import WordConfig
from chargen.sentiment.baselines.words import PAD, pack

_LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}

EMBEDDING_SCALE = 0.1
"""Standard deviation of the first vectors: torch's 1 drowns what rare words add."""


class WordClassifier(nn.Module):
    """A text classifier on the state that a recurrent network has after the last word.

    Parameters
    ----------
    config : WordConfig
        With `embedding_size` set.
    vocabulary_size : int
        V
    num_classes : int
        C

    Attributes
    ----------
    embedding : nn.Embedding, (V, E)
    recurrent : nn.RNN, nn.LSTM or nn.GRU
        `num_layers` layers of H units in each direction.
    norm : nn.BatchNorm1d
        Of the states: (B, H), or (B, 2 H) where both directions are read.
    output : nn.Linear, H or 2 H -> C

    Examples
    --------
    >>> network = WordClassifier(WordConfig(embedding_size=8), vocabulary_size=20, num_classes=3)
    >>> ids, lengths = torch.zeros(5, 2, dtype=torch.int64), torch.tensor([5, 3])
    >>> tuple(network(ids, lengths).shape)
    (2, 3)
    """

    def __init__(self, config: WordConfig, vocabulary_size: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        embedding = settled(config.embedding_size)
        self.embedding = nn.Embedding(vocabulary_size, embedding, padding_idx=PAD)
        self.recurrent = _LAYERS[config.cell](
            embedding,
            config.hidden_size,
            config.num_layers,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
            bidirectional=config.bidirectional,
        )
        features = config.hidden_size * (2 if config.bidirectional else 1)
        self.norm = nn.BatchNorm1d(features)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(features, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Torch's own ranges, but for smaller embeddings and a forget gate that starts open."""
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_SCALE)
        nn.init.zeros_(self.embedding.weight.data[PAD])
        if self.config.cell == "lstm":
            size = self.config.hidden_size
            for name, bias in self.recurrent.named_parameters():
                if name.startswith("bias_ih"):
                    bias.data[size : 2 * size] = 1  # gates: input, forget, cell, output

    def last_state(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """The last layer's state after the last word of each text.

        Parameters
        ----------
        ids : (T, B) int64
            What stands after a text's end is not read.
        lengths : (B,) int64

        Returns
        -------
        (B, H), or (B, 2 H) where both directions are read
            The second half comes from the direction that ends at the first word.
        """
        embedded = self.dropout(self.embedding(ids))  # (T, B, E)
        _, state = self.recurrent(pack(embedded, lengths))
        hidden = state[0] if self.config.cell == "lstm" else state  # (layers x directions, B, H)
        directions = 2 if self.config.bidirectional else 1
        return torch.cat(list(hidden[-directions:]), dim=-1)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, C) of the classes, from ids (T, B) int64 and lengths (B,) int64."""
        state = self.last_state(ids, lengths)  # (B, features)
        logits: Tensor = self.output(self.dropout(self.norm(state)))
        return logits

    def num_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters())
