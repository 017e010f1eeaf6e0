"""The text classifier with a GRU, dropout and batch normalisation.

    words -> embedding -> dropout -> GRU -> last state -> batch normalisation -> dropout -> linear

Compared with `text_rnn.py`, whose `main` it uses: gates (Cho et al. 2014) let gradients pass
through many words, dropout (Srivastava et al. 2014) keeps single words from deciding, and batch
normalisation (Ioffe & Szegedy 2015) gives the last layer inputs of one scale. Run it:

    python examples/rnn_chapter/text_gru.py reviews.csv --test others.csv
"""

from __future__ import annotations

import torch
from text_rnn import main
from torch import Tensor, nn
from words import PAD

from chargen.cli.scripts import run_script


class GRUClassifier(nn.Module):
    """Classifies a text by the state after its last word.

    Parameters
    ----------
    vocabulary_size, embedding_size, hidden_size, num_classes : int
        V, E, H, C
    """

    def __init__(
        self, vocabulary_size: int, embedding_size: int, hidden_size: int, num_classes: int
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=PAD)
        self.recurrent = nn.GRU(embedding_size, hidden_size)
        self.norm = nn.BatchNorm1d(hidden_size)
        self.dropout = nn.Dropout(0.3)  # for embeddings and last states
        self.output = nn.Linear(hidden_size, num_classes)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (B, C) from ids (T, B) and lengths (B,)."""
        embedded = self.dropout(self.embedding(ids))  # (T, B, E)
        states, _ = self.recurrent(embedded)  # (T, B, H)
        last = states[lengths - 1, torch.arange(len(lengths))]  # (B, H)
        return self.output(self.dropout(self.norm(last)))


if __name__ == "__main__":
    purpose = "A text classifier with GRU, dropout and batch norm."
    run_script(lambda: main(GRUClassifier, purpose))
