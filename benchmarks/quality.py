"""Quality for a budget: validation nats of the recipe's own choice, against epochs or minutes.

    python benchmarks/quality.py tinyshakespeare.txt --epochs 10
    python benchmarks/quality.py tinyshakespeare.txt --minutes 1 3 10 30 --dynamic
    python benchmarks/quality.py tinyshakespeare.txt --minutes 30 --ensemble 4
    python benchmarks/quality.py small.txt --epochs 5.6 --ensemble 8 --hidden-size 512

Each run trains on the first 90 % of the file; the figure is over the whole last 10 % (or the first
`--valid-characters` of it), one stream, with the state carried, as `chargen evaluate` prints it.
Beside it: the mean over random windows, each read from the initial state, which is what nanoGPT
reports (its windows have 256 characters); with the counts of `chargen count`; and the processor
seconds of training, of all threads.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import chargen
from chargen.language_model import LanguageModel
from chargen.lm.evaluation import bits

WINDOWS = 1000
"""Random windows; the mean over them has a standard error of some 0.003 nats."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--epochs", type=float, nargs="+")
    budget.add_argument("--minutes", type=float, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/quality"))
    parser.add_argument("--ensemble", type=int, help="networks, else the recipe chooses")
    parser.add_argument("--hidden-size", type=int, help="else the recipe chooses")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dynamic", action="store_true", help="also dynamic evaluation")
    parser.add_argument("--window", type=int, default=256, help="characters of a random window")
    parser.add_argument("--valid-characters", type=int, help="read only the first so many")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    text = arguments.file.read_text(encoding="utf-8")
    train, valid = text[: int(0.9 * len(text))], text[int(0.9 * len(text)) :]
    valid = valid[: arguments.valid_characters]
    name = "epochs" if arguments.epochs else "minutes"
    rows = []
    for value in arguments.epochs or arguments.minutes:
        out = arguments.out / f"{name}-{value:g}"
        options = {
            name: value,
            "ensemble": arguments.ensemble,
            "hidden_size": arguments.hidden_size,
            "seed": arguments.seed,
        }
        before = time.process_time()
        run = chargen.train(arguments.file, out, force=True, samples=False, **options)
        processor_seconds = time.process_time() - before
        lm = chargen.load(out)
        row = {
            name: value,
            "hidden_size": lm.model.config.hidden_size,
            "networks": lm.model.config.num_networks,
            "parameters": lm.model.num_parameters(),
            "seconds": run.seconds,
            "processor_seconds": processor_seconds,
            "nats_per_char": lm.score(valid).nats_per_char,
            "nats_in_windows": in_windows(lm, valid, arguments.window),
        }
        row["bits_per_char"] = bits(row["nats_per_char"])
        if arguments.dynamic:
            row["dynamic_nats_per_char"] = lm.score(valid, dynamic=True).nats_per_char
        counted = lm.with_counts(train, valid[: len(valid) // 10])  # a tenth is for the weight
        row["counted_nats_per_char"] = counted.score(valid).nats_per_char
        row["curve"] = curve(out)
        rows.append(row)
        if not arguments.json:
            print(", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "curve"), flush=True)
            points = "  ".join(f"{s:.0f} s {nats:.3f}" for s, _, nats in row["curve"])
            print(f"  {points}", flush=True)
    if arguments.json:
        print(json.dumps(rows))


@torch.no_grad()
def in_windows(lm: LanguageModel, text: str, length: int) -> float:
    """Mean nats over random windows of a text, each from the initial state."""
    ids = lm.vocabulary.encode(text).astype(np.int64)
    length = min(length, len(ids) - 1)
    starts = np.random.default_rng(0).integers(0, len(ids) - length, WINDOWS)
    total = 0.0
    for first in range(0, WINDOWS, 100):
        places = starts[first : first + 100] + np.arange(length + 1)[:, None]  # (T + 1, B)
        read = torch.from_numpy(ids[places])
        logits, _ = lm.model(read[:-1], lm.model.initial_state(read.shape[1]))
        total += float(cross_entropy(logits.flatten(0, 1), read[1:].flatten(), reduction="sum"))
    return total / (WINDOWS * length)


def curve(directory: Path) -> list[tuple[float, int, float]]:
    """(seconds, step, validation nats) at each evaluation."""
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [(r["seconds"], r["step"], r["valid_nats"]) for r in rows if "valid_nats" in r]


if __name__ == "__main__":
    main()
