"""Do counts of n-grams help a network? Bits without counts and with counts of each order.

    python benchmarks/count_model.py checkpoints/mybook --train mybook.txt --text valid.txt

The training text is counted as by `chargen count`, with contexts of each order. The weight of the
counts is the best one on the first half of the other text. All figures are for its second half;
with --dynamic also while the network learns from it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import chargen
from chargen.runtime.device import set_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--train", type=Path, required=True, help="text that is counted")
    parser.add_argument("--text", type=Path, required=True, help="other text, for the figures")
    parser.add_argument("--orders", type=int, nargs="+", default=[4, 6, 8, 10, 12])
    parser.add_argument("--dynamic", action="store_true", help="also dynamic evaluation")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    lm = chargen.load(arguments.model)
    train, text = (path.read_text("utf-8") for path in (arguments.train, arguments.text))
    first, second = text[: len(text) // 2], text[len(text) // 2 :]
    ways = (False, True) if arguments.dynamic else (False,)
    rows = []
    for order in (0, *arguments.orders):
        model = lm.with_counts(train, first, order=order) if order else lm
        row = {"order": order, "weight": model.counts.weight if model.counts else 0.0}
        for dynamic in ways:
            name = "dynamic_bits" if dynamic else "bits"
            row[name] = model.score(second, dynamic=dynamic).bits_per_char
        rows.append(row)
        if not arguments.json:
            print(", ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    if arguments.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
