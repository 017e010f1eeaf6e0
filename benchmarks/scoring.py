"""Speed of scoring text: exact, in parallel streams, and in bfloat16.

    python benchmarks/scoring.py --hidden-size 512 --json

This is what `chargen evaluate` and `chargen score` do after the text is encoded. Prints for each
way the characters per second, the seconds for ten million characters, and how far its bits per
character are from those of the exact way (one stream, float32). Random weights score random text
unless --checkpoint and --text name real ones. Rounds are interleaved; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sampling import model_of

from chargen.lm.evaluation import bits, mean_nats
from chargen.runtime.device import set_threads
from chargen.runtime.precision import autocast

WAYS = ((1, "float32"), (16, "float32"), (64, "float32"), (64, "bfloat16"), (256, "bfloat16"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="a trained model instead of random weights")
    parser.add_argument("--text", type=Path, help="a UTF-8 file instead of random characters")
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--num-layers", type=int, default=1)
    parser.add_argument("--characters", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.cell = "lstm"
    set_threads(arguments.threads)
    rows = measure(arguments)
    if arguments.json:
        print(json.dumps({"threads": torch.get_num_threads(), "rows": rows}))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row for each way."""
    model, vocabulary = model_of(arguments)
    if arguments.text:
        ids = vocabulary.encode(arguments.text.read_text(encoding="utf-8"))[: arguments.characters]
    else:
        ids = np.random.default_rng(0).integers(1, vocabulary.size - 1, arguments.characters)
    results: dict[tuple[int, str], tuple[list[float], float]] = {}
    for _ in range(arguments.repeats):
        for streams, precision in WAYS:
            # The exact way is slow, and part of the text is enough to measure its speed.
            part = ids if streams > 1 or arguments.text else ids[: len(ids) // 8]
            began = time.perf_counter()
            with autocast(torch.device("cpu"), precision):
                nats = mean_nats(model, part, vocabulary.start_id, streams)
            speed = len(part) / (time.perf_counter() - began)
            results.setdefault((streams, precision), ([], nats))[0].append(speed)
    exact = results[WAYS[0]][1]
    rows = []
    for (streams, precision), (speeds, nats) in results.items():
        speed = statistics.median(speeds)
        rows.append(
            {
                "streams": streams,
                "precision": precision,
                "characters_per_second": round(speed),
                "seconds_for_10_million": round(1e7 / speed, 1),
                "bits_from_exact": round(bits(nats - exact), 5) if arguments.text else None,
            }
        )
    return rows


if __name__ == "__main__":
    main()
