"""From labelled texts to batches of word numbers, for the classifiers of this chapter.

    "Don't go!"  ->  don't | go | !  ->  5 8 2  ->  ids (T, B) and lengths (B,)

A table has a column of texts and one of labels; chargen reads it.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from chargen import ExamplesConfig
from chargen.cli.scripts import at_least
from chargen.sentiment.examples import Examples, read_examples
from chargen.sentiment.splitting import subset

PAD, UNKNOWN = 0, 1
"""Numbers without a word: for padding, and for words that the vocabulary does not have."""


def tokenise(text: str) -> list[str]:
    """Return words and punctuation marks in lower case; apostrophes inside words belong to them."""
    return re.findall(r"\w+(?:'\w+)*|[^\w\s]", text.lower().replace("\u2019", "'"))


class Vocabulary:
    """Words and their numbers, from 2 on; see `PAD` and `UNKNOWN`."""

    def __init__(self, words: Iterable[str]) -> None:
        self.numbers = {word: number for number, word in enumerate(words, 2)}

    @classmethod
    def from_texts(cls, texts: Iterable[str], min_count: int = 2) -> Vocabulary:
        """Return a vocabulary of the frequent words; rarer words are examples of unknown words."""
        counts = Counter(word for text in texts for word in tokenise(text))
        return cls(word for word, count in counts.most_common() if count >= min_count)

    def __len__(self) -> int:
        return len(self.numbers) + 2

    def encode(self, text: str, max_words: int = 250) -> list[int]:
        """Return the numbers of the last `max_words` words: most verdicts are at a review's end."""
        words = tokenise(text)[-max_words:]
        return [self.numbers.get(word, UNKNOWN) for word in words] or [UNKNOWN]


def pad(texts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return texts as columns of ids (T, B), padded with `PAD`, and their lengths (B,)."""
    lengths = torch.tensor([len(text) for text in texts])
    columns = [torch.tensor(text) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(columns, padding_value=PAD), lengths


@dataclass(frozen=True)
class Encoded:
    """Texts as word numbers, and the class numbers of the texts, targets (N,)."""

    texts: list[list[int]]
    targets: Tensor

    def select(self, indices: list[int]) -> Encoded:
        """Return the texts at these indices."""
        return Encoded([self.texts[i] for i in indices], self.targets[indices])

    def batches(self, size: int, shuffled: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield ids (T, B), lengths (B,) and targets (B,) until each text has been read once."""
        count = len(self.texts)
        order = torch.randperm(count) if shuffled else torch.arange(count)
        # No batch is smaller than `size`: batch normalisation cannot learn from a single text.
        for chosen in order.tensor_split(max(1, count // size)):
            batch = self.select(chosen.tolist())
            yield *pad(batch.texts), batch.targets


def encode(examples: Examples, vocabulary: Vocabulary, classes: tuple[str, ...]) -> Encoded:
    """Convert texts and labels to numbers."""
    targets = torch.tensor([classes.index(label) for label in examples.labels])
    return Encoded([vocabulary.encode(text) for text in examples.texts], targets)


def read(args: argparse.Namespace) -> tuple[Examples, Examples]:
    """Read the tables for training and test that the options of `parser_for` name."""
    train = read_examples(args.train, ExamplesConfig(clean="html"))
    if args.labels:
        train = subset(train, args.labels, args.seed)
    return train, read_examples(args.test, ExamplesConfig(clean="html"), train.classes)


def parser_for(purpose: str, epochs: int) -> argparse.ArgumentParser:
    """Return a parser of the options that the classifiers have in common."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("train", nargs="?", default="opinions", help="labelled texts [opinions]")
    parser.add_argument("--test", default="opinions:test", help="others, to test on")
    parser.add_argument("--epochs", type=at_least(1), default=epochs, help=f"[{epochs}]")
    parser.add_argument("--hidden", type=at_least(1), default=64, help="units H [64]")
    parser.add_argument("--labels", type=at_least(2), help="learn from only so many of the texts")
    parser.add_argument("--seed", type=at_least(0), default=0)
    return parser
