"""Texts per second of a classifier: batches of similar length, against file order with padding.

    python benchmarks/prediction.py checkpoints/sentiment reviews.csv --texts 1000

The alternative is the simplest way: batches of the same size in file order, each padded to the
longest text of the file. Both give the same probabilities; they alternate, `--repeats` times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_examples
from chargen.sentiment.network import BATCH_SIZE, EncodedTexts, EncoderInput


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("classifier")
    parser.add_argument("data")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    whole = Classifier.load(arguments.classifier)
    # The network alone, because the two ways differ only in its inputs.
    classifier = Classifier([whole.require_network()], whole.labels, whole.clean)
    examples = read_examples(arguments.data, ExamplesConfig(clean=classifier.clean))
    texts = examples.texts[: arguments.texts]
    ways: dict[str, Callable[[], NDArray[np.float32]]] = {
        "sorted": lambda: classifier.predict_proba(texts),
        "padded": lambda: padded(classifier, texts),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    results = {}
    for _ in range(arguments.repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            results[name] = way()
            rates[name].append(len(texts) / (time.perf_counter() - began))
    ratios = [a / b for a, b in zip(rates["sorted"], rates["padded"], strict=True)]
    row = {
        "texts": len(texts),
        "longest": max(map(len, texts)),
        "mean_length": statistics.mean(map(len, texts)),
        "largest_difference": float(np.abs(results["sorted"] - results["padded"]).max()),
        "sorted_texts_per_second": statistics.median(rates["sorted"]),
        "padded_texts_per_second": statistics.median(rates["padded"]),
        "speedup_over_padding": statistics.median(ratios),
        "spread": (max(ratios) - min(ratios)) / statistics.median(ratios),
    }
    print(json.dumps(row) if arguments.json else "\n".join(f"{k}: {v}" for k, v in row.items()))


@torch.no_grad()
def padded(classifier: Classifier, texts: tuple[str, ...]) -> NDArray[np.float32]:
    """Return probabilities from batches in file order, padded to the longest text."""
    member = classifier.require_network()
    encoded = EncodedTexts([classifier.cleaned(text) for text in texts], member.encodings)
    longest = int(encoded.lengths.max())
    probabilities = []
    for first in range(0, len(texts), BATCH_SIZE):
        batch = range(first, min(first + BATCH_SIZE, len(texts)))
        inputs = []
        for unpadded in encoded.inputs(batch, "cpu"):
            padding = longest - len(unpadded.ids)
            ids = torch.nn.functional.pad(unpadded.ids, (0, 0, 0, padding))
            inputs.append(EncoderInput(ids, unpadded.lengths))
        logits, _ = member.network(inputs)
        probabilities.append(logits.softmax(-1).numpy())
    return np.concatenate(probabilities)


if __name__ == "__main__":
    main()
