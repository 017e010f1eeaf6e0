"""Reviews classified by a two-layer LSTM, with the whole training loop and predictions.

Part of the training texts is held back for validation: the network is evaluated on it after each
epoch, and the weights of the best epoch are kept. The test texts are read once, at the end. LSTM:
Hochreiter & Schmidhuber 1997; a forget gate that starts open: Jozefowicz et al. 2015; dropout
between layers: Zaremba et al. 2014. Run it:

    python examples/rnn_chapter/review_lstm.py reviews.csv --test others.csv \\
        --ask "A quiet, wonderful film." --ask "Two hours I will never get back."
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from words import PAD, Encoded, Vocabulary, encode, pad, parser_for, read

from chargen.cli.scripts import run_script

ASKED = ("A quiet, wonderful film.", "Two hours I will never get back.")


class ReviewLSTM(nn.Module):
    """Two LSTM layers over words; the last state of the upper layer gives the class.

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
        self.recurrent = nn.LSTM(embedding_size, hidden_size, num_layers=2, dropout=0.3)
        self.dropout = nn.Dropout(0.3)
        self.output = nn.Linear(hidden_size, num_classes)
        for bias in (self.recurrent.bias_ih_l0, self.recurrent.bias_ih_l1):
            # Gates: input, forget, cell, output. An open forget gate keeps what was read.
            bias.data[hidden_size : 2 * hidden_size] = 1

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (B, C) from ids (T, B) and lengths (B,)."""
        states, _ = self.recurrent(self.dropout(self.embedding(ids)))  # (T, B, H)
        last = states[lengths - 1, torch.arange(len(lengths))]  # (B, H)
        return self.output(self.dropout(last))


@torch.no_grad()
def evaluate(model: nn.Module, texts: Encoded) -> tuple[float, float]:
    """Return the mean loss in nats, and the accuracy."""
    model.eval()
    loss, correct = 0.0, 0
    for ids, lengths, targets in texts.batches(256, shuffled=False):
        logits = model(ids, lengths)
        loss += float(nn.functional.cross_entropy(logits, targets, reduction="sum"))
        correct += int((logits.argmax(-1) == targets).sum())
    return loss / len(texts.texts), correct / len(texts.texts)


@torch.no_grad()
def predict_sentiment(
    model: nn.Module, vocabulary: Vocabulary, classes: tuple[str, ...], text: str
) -> tuple[str, float]:
    """Return the most probable class of a text, and its probability."""
    model.eval()
    ids, lengths = pad([vocabulary.encode(text)])
    probabilities = model(ids, lengths).softmax(-1)[0]  # (C,)
    best = int(probabilities.argmax())
    return classes[best], float(probabilities[best])


def main() -> None:
    """Read, learn and print."""
    parser = parser_for("Reviews sorted by a two-layer LSTM.", epochs=10)
    parser.add_argument("--ask", action="append", metavar="TEXT", help="a text to be judged")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    train, test = read(args)
    vocabulary = Vocabulary.from_texts(train.texts)
    encoded = encode(train, vocabulary, train.classes)
    order = torch.randperm(len(train)).tolist()
    held_back = max(1, len(order) // 10)
    valid, learnt = encoded.select(order[:held_back]), encoded.select(order[held_back:])
    model = ReviewLSTM(len(vocabulary), 50, args.hidden, len(train.classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    best, best_weights = float("inf"), model.state_dict()
    print("epoch   training loss   validation loss   accuracy")
    for epoch in range(1, args.epochs + 1):
        model.train()
        total = 0.0
        for ids, lengths, targets in learnt.batches(16, shuffled=True):
            logits = model(ids, lengths)  # (B, C)
            loss = nn.functional.cross_entropy(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            total += float(loss.detach()) * len(targets)
        loss, accuracy = evaluate(model, valid)
        print(f"{epoch:5}{total / len(learnt.texts):16.3f}{loss:18.3f}{accuracy:11.3f}")
        if loss < best:
            best, best_weights = loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)

    loss, accuracy = evaluate(model, encode(test, vocabulary, train.classes))
    print(f"test: loss {loss:.3f}, accuracy {accuracy:.3f}")
    for text in args.ask or ASKED:
        label, probability = predict_sentiment(model, vocabulary, train.classes, text)
        print(f"{label} {probability:.2f}  {text}")


if __name__ == "__main__":
    run_script(main)
