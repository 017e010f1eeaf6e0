"""What padding costs, what packing saves, and what goes wrong if padding is not masked.

The texts of a batch have different lengths, so the shorter ones are padded. The same network reads
the same texts in three ways: padded in file order, padded after sorting by length, and packed
(`torch.nn.utils.rnn.pack_padded_sequence`) in file order. The features of a text are the mean of
the states over its true steps and its last true state; the gradient is that of one loss. The first
table shows the share of time steps that are padding, the largest difference of features and
gradient from the first way, relative to the largest value, and the processor time of reading and
learning as ratios: the fastest of several rounds.

The second table is of the sentiment model that ships with chargen. It reads each batch once with
the true lengths and once as if padding were text; its probabilities are compared with those of each
text alone. Run it:

    python examples/rnn_chapter/padding_packing.py opinions --cell gru
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from chargen import Classifier, ExamplesConfig, ModelConfig
from chargen.cli.scripts import at_least, run_script
from chargen.lm.cells import CELLS
from chargen.lm.model import CharLM
from chargen.lm.pooling import LastState, Pooling
from chargen.sentiment.examples import read_texts
from chargen.sentiment.network import EncodedTexts, EncoderInput

Order = Sequence[int]
Outputs = Callable[[CharLM, EncoderInput], Tensor]


def padded(model: CharLM, given: EncoderInput) -> Tensor:
    """Return the outputs (T, B, H) of a network that reads padding too."""
    return model.features(given.ids, model.initial_state(len(given.lengths)))[0]


def packed(model: CharLM, given: EncoderInput) -> Tensor:
    """Return the outputs (T, B, H), zero after the end of each text: padding is never read."""
    embedded = model.embedding(given.ids)  # (T, B, E)
    pack = pack_padded_sequence(embedded, given.lengths, enforce_sorted=False)
    outputs, _ = pad_packed_sequence(model.layers[0](pack)[0])
    return outputs


def pooled(outputs: Tensor, given: EncoderInput) -> Tensor:
    """Return the mean over the true steps and the last true state of each text, (B, 2 H)."""
    mean, last = Pooling(given.lengths), LastState(given.lengths)
    mean.add(outputs, 0)
    last.add(outputs, 0)
    return torch.cat([mean.result()[0], last.result()], -1)


def batches(order: Order, size: int) -> list[Order]:
    """Split the texts into batches, in order."""
    return [order[first : first + size] for first in range(0, len(order), size)]


def learn(
    model: CharLM, encoded: EncodedTexts, order: Order, size: int, outputs: Outputs, goal: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the features (N, 2 H) by text, and the gradient of <features, goal>."""
    model.zero_grad()
    features = torch.empty_like(goal)
    for batch in batches(order, size):
        [inputs] = encoded.inputs(batch, "cpu")
        batch_features = pooled(outputs(model, inputs), inputs)
        torch.autograd.backward((batch_features * goal[batch]).sum())
        features[batch] = batch_features.detach()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return features, torch.cat(gradients)


def wasted(encoded: EncodedTexts, order: Order, size: int) -> float:
    """Return the share of time steps that are padding."""
    read = sum(len(batch) * encoded.lengths[batch].max() for batch in batches(order, size))
    return float(1 - encoded.lengths.sum() / read)


def apart(values: Tensor, reference: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    return float((values - reference).abs().max() / reference.abs().max())


@torch.no_grad()
def verdicts(
    mood: Classifier, encoded: EncodedTexts, order: Order, size: int, masked: bool
) -> Tensor:
    """Return the probabilities (N, C) that the network of a classifier gives."""
    probabilities = torch.empty(len(encoded), len(mood.labels))
    for batch in batches(order, size):
        inputs = encoded.inputs(batch, "cpu")
        if not masked:
            inputs = [replace(r, lengths=torch.full_like(r.lengths, len(r.ids))) for r in inputs]
        probabilities[batch] = mood.require_network().network.logits(inputs).softmax(-1)
    return probabilities


def compare_ways(
    encoded: EncodedTexts, vocabulary_size: int, orders: dict[str, Order], args: argparse.Namespace
) -> None:
    """Print the first table."""
    config = ModelConfig(
        vocabulary_size=vocabulary_size,
        cell=args.cell,
        hidden_size=args.hidden,
        num_layers=1,
        embedding_size=32,
        dropout=0.0,
        embedding_dropout=0.0,
        weight_dropout=0.0,
    )
    model = CharLM(config)
    goal = torch.randn(len(encoded), 2 * args.hidden)
    in_file, by_length = orders.values()
    ways: dict[str, tuple[Order, Outputs, float]] = {
        "padded, file order": (in_file, padded, wasted(encoded, in_file, args.batch)),
        "padded, by length": (by_length, padded, wasted(encoded, by_length, args.batch)),
        "packed, file order": (in_file, packed, 0.0),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    results = {}
    for _ in range(args.repeats):  # alternating, so that a slow moment of the machine affects all
        for way, (order, outputs, _) in ways.items():
            began = time.process_time()
            results[way] = learn(model, encoded, order, args.batch, outputs, goal)
            seconds[way].append(time.process_time() - began)
    first = next(iter(ways))
    print(f"{'':20}{'padding':>9}{'features differ':>17}{'gradient differs':>18}{'time':>9}")
    for way, (_, _, share) in ways.items():
        differences = [apart(a, b) for a, b in zip(results[way], results[first], strict=True)]
        ratio = min(seconds[way]) / min(seconds[first])
        print(f"{way:20}{share:9.1%}{differences[0]:17.1e}{differences[1]:18.1e}{ratio:9.2f}")


def show_mistake(
    mood: Classifier, encoded: EncodedTexts, orders: dict[str, Order], size: int
) -> None:
    """Print the second table."""
    in_file = orders["file order"]
    alone = verdicts(mood, encoded, in_file, 1, True)
    print(f"\n{'':24}{'largest change':>16}{'other verdicts':>16}")
    for masked in (True, False):
        for name, order in orders.items():
            probabilities = verdicts(mood, encoded, order, size, masked)
            other = float((probabilities.argmax(-1) != alone.argmax(-1)).float().mean())
            way = f"{'masked' if masked else 'unmasked'}, {name}"
            print(f"{way:24}{float((probabilities - alone).abs().max()):16.1e}{other:16.1%}")


def main() -> None:
    """Read, learn, compare and print."""
    parser = argparse.ArgumentParser(description="Padding, sorting, packing, masking.")
    parser.add_argument("texts", nargs="?", default="opinions", help="a table or folder of texts")
    parser.add_argument("--cell", choices=CELLS, default="gru")
    parser.add_argument("--hidden", type=at_least(1), default=64, help="units H")
    parser.add_argument("--batch", type=at_least(1), default=16, help="texts of a batch B")
    parser.add_argument("--repeats", type=at_least(1), default=5, help="rounds that are timed")
    parser.add_argument("--limit", type=at_least(2), help="read only so many texts")
    parser.add_argument("--seed", type=at_least(0), default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    mood = Classifier.load("sentiment")
    encoded = EncodedTexts(
        read_texts(args.texts, ExamplesConfig())[: args.limit], mood.require_network().encodings
    )
    orders: dict[str, Order] = {
        "file order": list(range(len(encoded))),
        "by length": np.argsort(encoded.lengths, kind="stable").tolist(),
    }
    compare_ways(encoded, mood.require_network().vocabularies[0].size, orders, args)
    show_mistake(mood, encoded, orders, args.batch)


if __name__ == "__main__":
    run_script(main)
