"""Quality for a budget: validation nats of the recipe's own choice, against epochs or minutes.

    python benchmarks/quality.py tinyshakespeare.txt --epochs 10
    python benchmarks/quality.py tinyshakespeare.txt --minutes 1 3 10 30 --dynamic
    python benchmarks/quality.py tinyshakespeare.txt --minutes 30 --ensemble 4

Each run trains on the first 90 % of the file; the figure is over the whole last 10 %, one stream,
with the state carried, as `chargen evaluate` prints it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import chargen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--epochs", type=float, nargs="+")
    budget.add_argument("--minutes", type=float, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/quality"))
    parser.add_argument("--ensemble", type=int, help="networks, else the recipe chooses")
    parser.add_argument("--dynamic", action="store_true", help="also dynamic evaluation")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    text = arguments.file.read_text(encoding="utf-8")
    valid = text[int(0.9 * len(text)) :]
    name = "epochs" if arguments.epochs else "minutes"
    rows = []
    for value in arguments.epochs or arguments.minutes:
        out = arguments.out / f"{name}-{value:g}"
        options = {name: value, "ensemble": arguments.ensemble, "samples": False}
        run = chargen.train(arguments.file, out, force=True, **options)
        lm = chargen.load(out)
        row = {
            name: value,
            "hidden_size": lm.model.config.hidden_size,
            "networks": lm.model.config.num_networks,
            "parameters": lm.model.num_parameters(),
            "seconds": run.seconds,
            "nats_per_char": lm.score(valid).nats_per_char,
            "curve": curve(out),
        }
        if arguments.dynamic:
            row["dynamic_nats_per_char"] = lm.score(valid, dynamic=True).nats_per_char
        rows.append(row)
        if not arguments.json:
            print(", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "curve"), flush=True)
            points = "  ".join(f"{s:.0f} s {nats:.3f}" for s, _, nats in row["curve"])
            print(f"  {points}", flush=True)
    if arguments.json:
        print(json.dumps(rows))


def curve(directory: Path) -> list[tuple[float, int, float]]:
    """(seconds, step, validation nats) at each evaluation."""
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [(r["seconds"], r["step"], r["valid_nats"]) for r in rows if "valid_nats" in r]


if __name__ == "__main__":
    main()
