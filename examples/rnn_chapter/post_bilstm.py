"""Short posts classified by a bidirectional LSTM over pretrained word vectors.

    words -> vectors of a file -> dropout -> LSTM forwards | LSTM backwards -> both last states
          -> dropout -> linear -> logits of the classes

A few hundred posts are too few to learn much about words. A file of GloVe or word2vec (or one that
`word_vectors.py` makes) shows from much more text which words are alike, including words that occur
only in test posts; so its vectors are not trained. Without --vectors, the vectors start at random
and are trained, for comparison. Both directions: Schuster & Paliwal 1997. Run it:

    python examples/rnn_chapter/post_bilstm.py posts.csv --test others.csv \\
        --vectors glove.6B.100d.txt
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

import torch
from text_rnn import fit
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from words import PAD, Vocabulary, encode, parser_for, read, tokenise

from chargen import CorpusError
from chargen.cli.scripts import run_script


class BiLSTMClassifier(nn.Module):
    """Classifies a text by the last states of both directions.

    Parameters
    ----------
    vectors : (V, E)
        Word vectors, by word number.
    learn_vectors : bool
    hidden_size, num_classes : int
        H of each direction, C
    """

    def __init__(
        self, vectors: Tensor, learn_vectors: bool, hidden_size: int, num_classes: int
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(
            vectors, freeze=not learn_vectors, padding_idx=PAD
        )
        self.recurrent = nn.LSTM(vectors.shape[1], hidden_size, bidirectional=True)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (B, C) from ids (T, B) and lengths (B,)."""
        embedded = self.dropout(self.embedding(ids))  # (T, B, E)
        # Packed, the backward direction starts at the last word of each text, not in its padding.
        packed = pack_padded_sequence(embedded, lengths, enforce_sorted=False)
        _, (hidden, _) = self.recurrent(packed)  # (2, B, H)
        return self.output(self.dropout(torch.cat([hidden[0], hidden[1]], dim=-1)))


def read_vectors(path: str, wanted: Collection[str]) -> tuple[Vocabulary, Tensor]:
    """Return the wanted words in a text file of GloVe or word2vec, and their vectors (V, E).

    Each line is a word and its numbers; the first line of word2vec gives the number of words and
    the size of a vector. The rows of `PAD` and `UNKNOWN` are zero, and the vectors have a root mean
    square of 1.
    """
    vectors: dict[str, list[float]] = {}
    size = 0
    with Path(path).open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if number == 1:
                header = len(fields) == 2 and fields[1].isdecimal()
                size = int(fields[1]) if header else len(fields) - 1
                if header and size > 0:
                    continue
            if size < 1 or len(fields) <= size:
                raise CorpusError(f"{path}, line {number}: this is no word with its numbers")
            # From the right: some of GloVe's words, such as ". . .", have spaces.
            word = " ".join(fields[:-size])
            if word in wanted and word not in vectors:
                vectors[word] = [finite(field, path, number) for field in fields[-size:]]
    if not vectors:
        raise CorpusError(f"{path} has a vector for none of the {len(wanted):,} words of the posts")
    matrix = torch.tensor([[0.0] * size] * 2 + list(vectors.values()))
    scale = matrix[2:].square().mean().sqrt().clamp(min=1e-6)
    return Vocabulary(vectors), matrix / scale


def finite(text: str, path: str, line: int) -> float:
    """Return the number in a field; raises `CorpusError` if it is not finite."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CorpusError(f"{path}, line {line}: {text!r} is not a number")
    return value


def main() -> None:
    """Read, learn and print."""
    parser = parser_for("Short posts sorted by a bidirectional LSTM.", epochs=10)
    parser.add_argument("--vectors", metavar="FILE", help="text file of GloVe or word2vec")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    train, test = read(args)
    if args.vectors:
        words = {word for text in (*train.texts, *test.texts) for word in tokenise(text)}
        vocabulary, vectors = read_vectors(args.vectors, words)
        print(f"{args.vectors} has {len(vocabulary) - 2:,} of {len(words):,} words")
    else:
        vocabulary = Vocabulary.from_texts(train.texts)
        vectors = torch.randn(len(vocabulary), 100)
    model = BiLSTMClassifier(vectors, not args.vectors, args.hidden, len(train.classes))
    learnt, tested = (encode(part, vocabulary, train.classes) for part in (train, test))
    fit(model, learnt, tested, args.epochs, rate=2e-3)


if __name__ == "__main__":
    run_script(main)
