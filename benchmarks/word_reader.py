"""Does an LSTM of words learn more about sentiment in a given time than one of characters?

    python benchmarks/word_reader.py reviews.jsonl --train imdb_train.csv.xz --minutes 40

reviews.jsonl is the output of benchmarks/reviews_corpus.py. Words are those of `tokenise`, in lower
case, and a mark ends each review.

    characters of a batch's distinct words -> convolutions 1 to 6 wide -> maximum -> linear
      -> highway -> word vectors -> LSTM -> sampled softmax over the frequent words

Word vectors are computed from characters as by Kim et al. 2016 (https://arxiv.org/abs/1508.06615),
or come from a table of the frequent words, with one row for all others. The other words are read
but not predicted. Muon trains the LSTM's matrices, AdamW the rest; the learning rate follows a
cosine over --minutes of processor time, which count training only.

Bits per character are measured on the last --valid-fraction of the reviews, each read from its
beginning, with the full softmax. The bits of the frequent words and of the ends of reviews are
divided by the number of characters, which leaves out the other words and has one for each end.
Upper case, spaces, line breaks and whether a word is frequent are not predicted, so the figure is
too low to compare with a character model's. The probe is that of benchmarks/reading.py.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from array import array
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from reading import add_options, cells, line, make_task, probe, states
from torch import Tensor, nn

from chargen.lm.batching import Streams
from chargen.lm.config import TrainConfig
from chargen.lm.evaluation import bits
from chargen.lm.recurrent import RecurrentLayers, State, detach
from chargen.runtime.device import set_threads
from chargen.runtime.precision import autocast, inference_precision
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_texts
from chargen.sentiment.network import EncodedTexts, EncoderInput, TextEncoding, read_all
from chargen.training.optimizers import clip_gradient, make_optimizers
from chargen.training.schedule import learning_rate_factor

CPU = torch.device("cpu")

END = "\n"
"""Stands after each review; the tokeniser never returns it."""

SPELLED, CODES = 18, 256
"""Characters read of a word, including its two end marks; number of distinct code points."""

ROWS = 2048
"""Number of words that the full softmax predicts at once; limits the memory."""

WEIGHT_DECAY, WARMUP_STEPS, CLIP = 0.01, 50, 1.0


def tokenise(text: str) -> list[str]:
    """Return words and punctuation marks in lower case; an apostrophe belongs to its word."""
    return re.findall(r"\w+(?:'\w+)*|[^\w\s]", text.lower().replace("\u2019", "'"))


class Words:
    """Words and their ids: the frequent words of `texts` come first; new words get new ids.

    `stream`, (N,) int32, is the texts with `END` after each; `counts`, (distinct words,) int64, is
    how often each word occurs.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.ids: dict[str, int] = {}
        buffer = array("i")
        for text in texts:
            buffer.extend(self._look_up([*tokenise(text), END]))
        first_ids = np.frombuffer(buffer, np.int32)
        counts = np.bincount(first_ids)
        order = np.argsort(-counts, kind="stable")
        rank = np.argsort(order).astype(np.int32)
        self.ids = {word: int(rank[i]) for word, i in self.ids.items()}
        self.stream, self.counts = rank[first_ids], counts[order]
        self.start_id = self.ids[END]  # precedes a text, as in a `Vocabulary`

    def _look_up(self, words: Iterable[str]) -> list[int]:
        return [self.ids.setdefault(word, len(self.ids)) for word in words]

    def encode(self, text: str) -> NDArray[np.int32]:
        """Return the ids of a text."""
        return np.array(self._look_up(tokenise(text)), np.int32)

    def spelling(self) -> Tensor:
        """Return code points of each word by id, (distinct words, SPELLED) int64, padded with 0."""
        words = sorted(self.ids, key=self.ids.__getitem__)
        spelled = np.array([f"\x02{word}\x03" for word in words], f"<U{SPELLED}")
        codes = spelled.view(np.uint32).reshape(-1, SPELLED)
        return torch.from_numpy(np.minimum(codes, CODES).astype(np.int64))


class SpelledVectors(nn.Module):
    """Word vectors from characters: ids (N,) to (N, E); sizes as in Kim's small model."""

    def __init__(self, size: int, spelling: Tensor) -> None:
        super().__init__()
        self.spelling = spelling
        self.embedding = nn.Embedding(CODES + 1, 15, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(15, 25 * n, n) for n in range(1, 7))
        self.linear = nn.Linear(25 * sum(range(1, 7)), size)
        self.transform, self.gate = nn.Linear(size, size), nn.Linear(size, size)
        nn.init.constant_(self.gate.bias, -2)  # carries its input at first (Srivastava et al. 2015)

    def forward(self, ids: Tensor) -> Tensor:
        characters = self.embedding(self.spelling[ids]).mT  # (N, 15, SPELLED)
        # amax would divide a gradient among equal values, which takes twice as long.
        pooled = torch.cat([c(characters).max(2).values for c in self.convolutions], 1)
        vectors = self.linear(pooled.relu())
        gate = self.gate(vectors).sigmoid()
        return gate * self.transform(vectors).relu() + (1 - gate) * vectors


class TableVectors(nn.Embedding):
    """Word vectors from a table: ids (N,) to (N, E); the last row is for all words beyond it."""

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids.clamp(max=self.num_embeddings - 1))


class WordLM(nn.Module):
    """A language model of words; an `Encoder` for the probe of benchmarks/reading.py.

    Parameters
    ----------
    vectors : nn.Module
        Ids (N,) to word vectors (N, size).
    counts : (K,) int64
        Occurrences of the frequent words, which have the ids below K.
    negatives : int
        Words drawn per batch from the unigram distribution to the power 0.75 (Mikolov et al. 2013).
    """

    def __init__(
        self,
        vectors: nn.Module,
        size: int,
        hidden_size: int,
        counts: NDArray[np.int64],
        negatives: int,
    ) -> None:
        super().__init__()
        self.vectors = vectors
        self.hidden_size = hidden_size
        self.layers = RecurrentLayers("lstm", size, hidden_size, 1)
        self.initial_state = self.layers.initial_state
        self.output = nn.Linear(hidden_size, len(counts))
        self.output.bias.data = torch.from_numpy(np.log(counts / counts.sum())).float()
        drawn = torch.from_numpy(counts**0.75 / (counts**0.75).sum())
        self.cumulative = drawn.cumsum(0)
        self.log_expected = (negatives * drawn).log().float()
        self.negatives = negatives

    def features(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the outputs (T, B, H) after each of ids (T, B), and the last state."""
        distinct, inverse = ids.unique(return_inverse=True)
        vectors = self.vectors(distinct).float()  # float32: gradients of a frequent word add up
        return self.layers(nn.functional.embedding(inverse, vectors), state)

    def sampled_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Estimate the mean nats of the targets (N,) that are frequent, after outputs (N, H).

        The sum in the softmax is estimated by the target's term and the terms of the negatives,
        each divided by its expected number of draws: in expectation, the terms of all words (Bengio
        & Senecal 2008).
        """
        frequent = targets < len(self.log_expected)
        outputs, targets = outputs[frequent], targets[frequent]
        # One point in each of equal intervals gives less noise than independent points.
        points = (torch.arange(self.negatives) + torch.rand(self.negatives)) / self.negatives
        drawn = torch.searchsorted(self.cumulative, points.double())
        drawn = drawn.clamp(max=len(self.log_expected) - 1)  # the total may round to below 1
        weights = nn.functional.embedding(torch.cat([drawn, targets]), self.output.weight)
        bias = self.output.bias[drawn] - self.log_expected[drawn]
        logits = nn.functional.linear(outputs, weights[: self.negatives]).float() + bias
        logits = logits.masked_fill(drawn == targets[:, None], -torch.inf)
        own = (outputs * weights[self.negatives :]).sum(1) + self.output.bias[targets]
        return (torch.logsumexp(torch.cat([own[:, None], logits], 1), 1) - own).mean()


def train(
    model: WordLM, stream: NDArray[np.int32], arguments: argparse.Namespace, precision: str
) -> tuple[int, float]:
    """Train for --minutes; return the words read and the seconds of processor time."""
    rate, budget = arguments.learning_rate, 60 * arguments.minutes
    config = TrainConfig(learning_rate=rate, weight_decay=WEIGHT_DECAY, optimizer="muon")
    optimizers = make_optimizers(model, config, precision)
    streams = Streams(stream, arguments.batch_size, arguments.window, arguments.seed)
    step, reported, began = 0, 0.0, time.process_time()
    while (spent := time.process_time() - began) < budget:
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate * learning_rate_factor(spent / budget, step, WARMUP_STEPS)
        window = streams.next()
        if window.starts_epoch:
            state = model.initial_state(arguments.batch_size)
        with autocast(CPU, precision):
            outputs, state = model.features(window.inputs, state)
            loss = model.sampled_loss(outputs.flatten(0, 1), window.targets.flatten())
        model.zero_grad()
        loss.backward()
        clip_gradient(model.parameters(), CLIP)
        for optimizer in optimizers:
            optimizer.step()
        state = detach(state)
        if spent >= reported + budget / 20:
            reported = spent
            print(
                f"{spent / 60:.1f} min, step {step}, {float(loss.detach()):.3f} nats",
                file=sys.stderr,
            )
        step += 1
    return step * arguments.batch_size * streams.window, spent


def held_out(model: WordLM, texts: list[str], words: Words, precision: str) -> tuple[float, float]:
    """Return bits per character, and the share of words and ends that are counted in them."""
    frequent = len(model.log_expected)

    def nats(inputs: list[EncoderInput]) -> Tensor:
        ids, lengths = inputs[0].ids, inputs[0].lengths  # (T, B) padded with END, (B,)
        targets = torch.cat([ids[1:], torch.full_like(ids[:1], words.start_id)])
        counted = (targets < frequent) & (torch.arange(len(ids))[:, None] < lengths)
        outputs, _ = model.features(ids, model.initial_state(len(lengths)))
        chosen = outputs[counted], targets[counted], counted.nonzero()[:, 1]
        sums = torch.zeros(len(lengths))
        for chunk, expected, text_index in zip(*(part.split(ROWS) for part in chosen), strict=True):
            logits = model.output(chunk).float()
            losses = nn.functional.cross_entropy(logits, expected, reduction="none")
            sums.index_add_(0, text_index, losses)
        return torch.stack([sums, counted.sum(0).float()], 1)

    encoded = EncodedTexts(texts, [TextEncoding(words, False)])
    total, count = read_all(encoded, nats, 2, CPU, precision).double().sum(0).tolist()
    outside = (word for text in texts for word in tokenise(text) if words.ids[word] >= frequent)
    characters = sum(len(text) + 1 for text in texts) - sum(map(len, outside))
    return bits(total / characters), count / float(encoded.lengths.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reviews", help="what benchmarks/reviews_corpus.py wrote")
    add_options(parser)
    parser.add_argument("--vectors", choices=("characters", "table"), default="characters")
    parser.add_argument("--minutes", type=float, default=10.0, help="of processor time")
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--word-size", type=int, default=256)
    parser.add_argument("--words", type=int, default=20_000, help="frequent words")
    parser.add_argument("--negatives", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--valid-fraction", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    precision = inference_precision(arguments.precision, CPU)
    task, texts = make_task(arguments), read_texts(arguments.reviews, ExamplesConfig())
    held = max(1, round(arguments.valid_fraction * len(texts)))
    words = Words(texts[:-held])
    for text in (*texts[-held:], *task.texts):
        words.encode(text)  # gives all their words a spelling
    counts, size = words.counts[: arguments.words], arguments.word_size
    vectors = (
        SpelledVectors(size, words.spelling())
        if arguments.vectors == "characters"
        else TableVectors(len(counts) + 1, size)
    )
    model = WordLM(vectors, size, arguments.hidden_size, counts, arguments.negatives)
    read, seconds = train(model, words.stream, arguments, precision)
    bits_per_char, counted = held_out(model.eval(), texts[-held:], words, precision)
    row = {
        "vectors": arguments.vectors,
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": precision,
        "minutes": seconds / 60,
        "words_read": read,
        "words_per_second": read / seconds,
        "bits_per_char": bits_per_char,
        "counted": counted,
        "probe": probe(states(model, task.texts, TextEncoding(words, False), precision), task),
    }
    if arguments.json:
        print(json.dumps(row))
        return
    names = ["vectors", "weights", "minutes", "words read", "words/s", "bits", "counted"]
    values = [row["vectors"], f"{row['parameters']:,}", f"{row['minutes']:.1f}", f"{read:,}"]
    values += [f"{read / seconds:,.0f}", f"{bits_per_char:.3f}", f"{counted:.1%}"]
    names += [f"{labels:,} labels" for labels in arguments.labels]
    print(line(names), line(["---"] * len(names)), line([*values, *cells(row["probe"])]), sep="\n")


if __name__ == "__main__":
    main()
