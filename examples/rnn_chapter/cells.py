"""RNN, LSTM and GRU as language models of one text: quality and speed at equal size.

Each cell is trained by `chargen.train` with the same steps, streams, window and optimizer (AdamW).
The LSTM has the hidden size that is asked for; each other cell has the one whose number of
parameters is closest to the LSTM's. Quality is bits per character of the validation text, with the
weights of the best evaluation, for the better of the learning rates, which are the same for each
cell. Speed is characters per second of processor time in training steps, as a ratio to the LSTM's
in the same run: wall-clock time would depend more on other programs. Run it:

    python examples/rnn_chapter/cells.py essays --steps 300 --hidden 96
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chargen import ModelConfig, Reporter, train
from chargen.cli.scripts import above_zero, at_least, run_script
from chargen.lm.cells import CELLS
from chargen.lm.model import CharLM
from chargen.runtime.device import shapes_only
from chargen.text.config import CorpusConfig
from chargen.text.corpus import load_corpus

DROPOUTS: dict[str, Any] = {"dropout": 0.1, "embedding_dropout": 0.0, "weight_dropout": 0.0}


class Stopwatch(Reporter):
    """Counts the characters that runs read in their steps, and the processor time for them.

    The first step of a run is left out, because it includes set-up.
    """

    def __init__(self) -> None:
        self.characters, self.seconds = 0, 0.0
        self.before, self.began = 0, 0.0

    def step(self, progress: float, metrics: Mapping[str, Any]) -> None:
        now, characters = time.process_time(), metrics["characters"]
        if metrics["step"] > 1:
            self.characters += characters - self.before
            self.seconds += now - self.began
        self.before, self.began = characters, now

    def evaluated(self, metrics: Mapping[str, Any], sample: str | None) -> None:
        self.began = time.process_time()  # an evaluation is not part of the next step

    @property
    def speed(self) -> float:
        """Characters per second of processor time."""
        return self.characters / self.seconds


def parameters(cell: str, vocabulary: int, embedding: int, hidden: int) -> int:
    """Return the number of parameters of such a model."""
    config = ModelConfig(
        vocabulary_size=vocabulary,
        cell=cell,
        hidden_size=hidden,
        num_layers=1,
        embedding_size=embedding,
        **DROPOUTS,
    )
    with shapes_only():
        return CharLM(config).num_parameters()


def hidden_size(cell: str, vocabulary: int, embedding: int, wanted: int) -> int:
    """Return the hidden size whose number of parameters is nearest to `wanted`."""
    high = 1
    while parameters(cell, vocabulary, embedding, high) < wanted:
        high += 1
    return min(
        (max(1, high - 1), high),
        key=lambda hidden: abs(parameters(cell, vocabulary, embedding, hidden) - wanted),
    )


def main() -> None:
    """Train, compare and print."""
    parser = argparse.ArgumentParser(description="RNN, LSTM and GRU at equal size.")
    parser.add_argument("corpus", nargs="?", default="essays", help="as of chargen train")
    parser.add_argument("--steps", type=at_least(2), default=300, help="of the optimizer")
    parser.add_argument("--hidden", type=at_least(1), default=96, help="units H of the LSTM")
    parser.add_argument("--embedding", type=at_least(1), default=32, help="width E")
    parser.add_argument(
        "--learning-rates", type=above_zero, nargs="+", metavar="RATE", default=[0.01, 0.03]
    )
    parser.add_argument("--seed", type=at_least(0), default=0)
    args = parser.parse_args()
    vocabulary = load_corpus([args.corpus], CorpusConfig()).vocabulary.size
    wanted = parameters("lstm", vocabulary, args.embedding, args.hidden)
    rows: dict[str, tuple[int, float, float, float]] = {}
    for cell in CELLS:
        hidden = hidden_size(cell, vocabulary, args.embedding, wanted)
        results, watch = [], Stopwatch()
        for rate in args.learning_rates:
            with tempfile.TemporaryDirectory() as folder:
                run = train(
                    args.corpus,
                    Path(folder) / cell,
                    reporter=watch,
                    cell=cell,
                    hidden_size=hidden,
                    num_layers=1,
                    embedding_size=args.embedding,
                    **DROPOUTS,
                    steps=args.steps,
                    batch_size=16,
                    window=64,
                    optimizer="adamw",
                    learning_rate=rate,
                    seed=args.seed,
                    precision="float32",
                    samples=False,
                )
            assert run.valid_bits is not None  # every corpus has validation text
            results.append((run.valid_bits, rate))
        rows[cell] = (hidden, *min(results), watch.speed)
    print(f"{'cell':5}{'H':>5}{'parameters':>12}{'bits/char':>11}{'at rate':>9}{'speed':>7}")
    for cell, (hidden, bits, rate, speed) in rows.items():
        size = parameters(cell, vocabulary, args.embedding, hidden)
        ratio = speed / rows["lstm"][3]
        print(f"{cell:5}{hidden:5}{size:12,}{bits:11.3f}{rate:9.3g}{ratio:7.2f}")


if __name__ == "__main__":
    run_script(main)
