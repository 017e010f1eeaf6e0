"""Quality of pretrained language models: bits per character, and a probe of their frozen states.

    python benchmarks/reading.py checkpoints/reviews other --train imdb_train.csv.xz --out table.md

Bits per character are a checkpoint's own validation figure and, with --text, those of any text that
`chargen evaluate` accepts. The probe is a logistic regression on the outputs of the last layer,
pooled over a review: last, mean, largest and smallest, 4 H features. Of a review of more than
--longest characters, only the end is read.

Labels come from the official training split alone, without duplicate texts. They are drawn --draws
times from the first --pool reviews, with the classes in proportion; smaller sets of labels are part
of larger ones. The figures are always those of the same last --test reviews. So all checkpoints are
compared on the same reviews, which their training text may contain without labels. The official
test split is never read.

Features are standardised with the reviews drawn; five-fold cross-validation on them chooses the
regularisation strength. An accuracy is the mean over the draws, with the largest less the smallest
in brackets. Each review is read once: with the defaults, 7.5 million characters of IMDB per
checkpoint. Seconds are processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

import chargen
from chargen.lm.pooling import LastState, Pooling
from chargen.lm.recurrent import State
from chargen.runtime.device import set_threads
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_examples
from chargen.sentiment.network import LIMIT, EncodedTexts, EncoderInput, TextEncoding, read_all
from chargen.sentiment.splitting import subset
from chargen.text.config import CorpusConfig
from chargen.text.sources import read_all as read_text

WINDOW = 64
"""Time steps of a window, whose outputs are pooled while they are in the processor's cache."""

STREAMS = 64
"""Number of parts of --text that are read in parallel."""

STRENGTHS = tuple(2.0**power for power in range(-18, -3, 2))
"""Inverse regularisation strengths that are tried."""


class Encoder(Protocol):
    """What can be probed: a `CharLM`, or a model with the same methods."""

    hidden_size: int

    def initial_state(self, batch_size: int) -> State: ...

    def features(self, ids: Tensor, state: State) -> tuple[Tensor, State]: ...


@dataclass(frozen=True)
class Task:
    """Labelled reviews; those for the figures come last.

    Attributes
    ----------
    texts : list of str, N
    targets : (N,) int64
    draws : dict
        By number of labels, the indices of the reviews of each draw.
    test : slice
    """

    texts: list[str]
    targets: NDArray[np.int64]
    draws: dict[int, list[list[int]]]
    test: slice


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a benchmark that uses this probe."""
    parser.add_argument("--train", required=True, help="the official training split, labelled")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--pool", type=int, default=6000, help="reviews that are drawn from")
    parser.add_argument("--test", type=int, default=2500, help="reviews for the figures")
    parser.add_argument("--longest", type=int, default=2000, help="characters of a review")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")


def make_task(arguments: argparse.Namespace) -> Task:
    """Read the labelled reviews and draw from them."""
    examples = read_examples(arguments.train, ExamplesConfig(clean="html"))
    first = {text: position for position, text in reversed(list(enumerate(examples.texts)))}
    examples = examples.select(sorted(first.values()))
    if len(examples) < arguments.pool + arguments.test:
        raise SystemExit(
            f"{arguments.train} has {len(examples):,} different reviews, fewer than --pool "
            f"{arguments.pool} and --test {arguments.test} together: lower one of them"
        )
    # Rows are renumbered, so that a draw lists indices of reviews.
    examples = replace(examples, rows=tuple(range(len(examples))))
    pool = examples.select(range(arguments.pool))
    drawn = {
        labels: [subset(pool, labels, seed).rows for seed in range(arguments.draws)]
        for labels in arguments.labels
    }
    learnt = sorted({row for draws in drawn.values() for draw in draws for row in draw})
    index = {row: i for i, row in enumerate(learnt)}
    selected = examples.select([*learnt, *range(len(examples))[-arguments.test :]])
    return Task(
        [text[-arguments.longest :] for text in selected.texts],
        np.array([examples.classes.index(label) for label in selected.labels]),
        {n: [[index[row] for row in draw] for draw in draws] for n, draws in drawn.items()},
        slice(len(learnt), None),
    )


def states(
    encoder: Encoder, texts: Sequence[str], encoding: TextEncoding, precision: str
) -> NDArray[np.float32]:
    """Return the last, mean, largest and smallest output of an encoder over each text: (N, 4 H)."""

    def pooled(inputs: list[EncoderInput]) -> Tensor:
        ids, lengths = inputs[0].ids, inputs[0].lengths
        last, pool, negated = LastState(lengths), Pooling(lengths), Pooling(lengths)
        state = encoder.initial_state(ids.shape[1])
        for first in range(0, len(ids), WINDOW):
            outputs, state = encoder.features(ids[first : first + WINDOW], state)  # (T, B, H)
            last.add(outputs, first)
            pool.add(outputs, first)
            negated.add(-outputs, first)
        return torch.cat([last.result(), *pool.result(), -negated.result()[1]], -1)

    encoded = EncodedTexts(texts, [encoding])
    width = 4 * encoder.hidden_size
    return read_all(encoded, pooled, width, torch.device("cpu"), precision).numpy()


def probe(features: NDArray[np.float32], task: Task) -> list[dict[str, Any]]:
    """Return mean accuracy, spread, and accuracy and C of each draw, per number of labels."""
    rows = []
    for labels, draws in task.draws.items():
        fitted = [fit(features, task, draw, seed) for seed, draw in enumerate(draws)]
        accuracies = [accuracy for accuracy, _ in fitted]
        rows.append(
            {
                "labels": labels,
                "accuracy": statistics.mean(accuracies),
                "spread": max(accuracies) - min(accuracies),
                "accuracies": accuracies,
                "C": [strength for _, strength in fitted],
            }
        )
    return rows


def fit(
    features: NDArray[np.float32], task: Task, draw: list[int], seed: int
) -> tuple[float, float]:
    """Fit a regression on the reviews drawn; return its accuracy on the test reviews and its C."""
    mean, deviation = features[draw].mean(0), features[draw].std(0) + 1e-6
    scaled = ((features - mean) / deviation).clip(-LIMIT, LIMIT)
    # The weights lie in the span of the reviews drawn, which has fewer dimensions than there are
    # features: in coordinates of that span the regression is the same, and many times faster.
    basis, _ = np.linalg.qr(scaled[draw].T)
    model = LogisticRegressionCV(
        Cs=STRENGTHS,
        cv=StratifiedKFold(5, shuffle=True, random_state=seed),
        scoring="neg_log_loss",
        max_iter=1000,
    )
    with warnings.catch_warnings():
        # Warnings of new defaults, and of slow convergence with the weakest regularisation.
        warnings.simplefilter("ignore")
        model.fit(scaled[draw] @ basis, task.targets[draw])
    right = model.predict(scaled[task.test] @ basis) == task.targets[task.test]
    return float(right.mean()), float(np.ravel(model.C_)[0])


def cells(rows: list[dict[str, Any]]) -> list[str]:
    """Format the results of `probe` for a table."""
    return [f"{row['accuracy']:.3f} ({row['spread']:.3f})" for row in rows]


def line(values: Iterable[object]) -> str:
    """Format a row of a Markdown table."""
    return f"| {' | '.join(map(str, values))} |"


def measure(lm: chargen.LanguageModel, text: str | None, task: Task) -> dict[str, Any]:
    """Return the figures of one checkpoint."""
    assert lm.checkpoint is not None
    results = lm.checkpoint.document("config").get("results", {})
    row: dict[str, Any] = {
        "checkpoint": str(lm.checkpoint.path),
        "hidden_size": lm.model.hidden_size,
        "precision": lm.precision,
        "valid_bits": results.get("valid_bits_per_char"),
        "text_bits": None,
        "characters": sum(map(len, task.texts)),
    }
    if text:
        content = read_text([text], lm.reading(CorpusConfig(), [text]))
        row["text_bits"] = lm.score(content, streams=STREAMS).bits_per_char
    began = time.process_time()
    features = states(lm.model, task.texts, TextEncoding(lm.vocabulary, lm.backward), lm.precision)
    row["reading_seconds"] = time.process_time() - began
    row["probe"] = probe(features, task)
    row["probe_seconds"] = time.process_time() - began - row["reading_seconds"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    add_options(parser)
    parser.add_argument("--text", help="a text whose bits per character are measured too")
    parser.add_argument("--out", type=Path, help="where the table goes, too")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    # All are loaded before any is read, so that a missing one is reported at once.
    models = [chargen.load(path, precision=arguments.precision) for path in arguments.checkpoints]
    task = make_task(arguments)
    names = ["checkpoint", "units", "bits, own", "bits, text"]
    names += [f"{labels:,} labels" for labels in arguments.labels]
    names += ["reading, s", "probe, s"]
    rows = []
    with Path(arguments.out or os.devnull).open("w", encoding="utf-8") as out:

        def tell(values: Iterable[object]) -> None:
            for file in [out] if arguments.json else [out, sys.stdout]:
                print(line(values), file=file, flush=True)

        tell(names)
        tell(["---"] * len(names))
        for lm in models:
            row = measure(lm, arguments.text, task)
            rows.append(row)
            bits = ["" if b is None else f"{b:.3f}" for b in (row["valid_bits"], row["text_bits"])]
            seconds = [f"{row[name]:.0f}" for name in ("reading_seconds", "probe_seconds")]
            tell([row["checkpoint"], row["hidden_size"], *bits, *cells(row["probe"]), *seconds])
    if arguments.json:
        print(json.dumps({"reviews": len(task.texts), "rows": rows}))


if __name__ == "__main__":
    main()
