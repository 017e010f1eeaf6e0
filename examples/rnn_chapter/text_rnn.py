"""A text classifier with a plain recurrent network.

    words -> embedding -> RNN -> state after the last word -> linear -> logits of the classes

The network is Elman's (1990). The next scripts also use its training loop, `fit`, or all of `main`.
Run it:

    python examples/rnn_chapter/text_rnn.py reviews.csv --test others.csv --epochs 10
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from words import PAD, Encoded, Vocabulary, encode, parser_for, read

from chargen.cli.scripts import run_script


class RNNClassifier(nn.Module):
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
        self.recurrent = nn.RNN(embedding_size, hidden_size)
        self.output = nn.Linear(hidden_size, num_classes)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (B, C) from ids (T, B) and lengths (B,)."""
        states, _ = self.recurrent(self.embedding(ids))  # (T, B, H)
        # The last state of the batch has read padding; the state after a text's last word has not.
        last = states[lengths - 1, torch.arange(len(lengths))]  # (B, H)
        return self.output(last)


def fit(model: nn.Module, train: Encoded, test: Encoded, epochs: int, rate: float) -> None:
    """Train with Adam, and print the accuracies after each epoch."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate)
    print("epoch   loss   training texts   test texts")
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for ids, lengths, targets in train.batches(16, shuffled=True):
            loss = nn.functional.cross_entropy(model(ids, lengths), targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += float(loss.detach()) * len(targets)
        mean = total / len(train.texts)
        print(f"{epoch:5}{mean:7.3f}{accuracy(model, train):17.3f}{accuracy(model, test):13.3f}")


@torch.no_grad()
def accuracy(model: nn.Module, texts: Encoded) -> float:
    """Return the share of the texts that are given their own class."""
    model.eval()
    correct = 0
    for ids, lengths, targets in texts.batches(256, shuffled=False):
        correct += int((model(ids, lengths).argmax(-1) == targets).sum())
    return correct / len(texts.texts)


def main(
    network: Callable[[int, int, int, int], nn.Module] = RNNClassifier,
    purpose: str = "A text classifier with a plain RNN.",
) -> None:
    """Read, learn and print; `network` makes a classifier of sizes V, E, H and C."""
    args = parser_for(purpose, epochs=10).parse_args()
    torch.manual_seed(args.seed)
    train, test = read(args)
    vocabulary = Vocabulary.from_texts(train.texts)
    model = network(len(vocabulary), 50, args.hidden, len(train.classes))
    learnt, tested = (encode(part, vocabulary, train.classes) for part in (train, test))
    print(f"{len(train):,} texts to learn from, {len(vocabulary):,} words")
    fit(model, learnt, tested, args.epochs, rate=2e-3)


if __name__ == "__main__":
    run_script(main)
