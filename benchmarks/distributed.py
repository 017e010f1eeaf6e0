"""One process compared with two ranks: the difference of the loss curves, and the speed.

    python benchmarks/distributed.py mybook.txt --steps 100 --hidden-size 512

Both have the same global batch, and each rank has `--threads` threads. Two ranks on one machine are
faster if one process leaves cores idle; otherwise the ratio shows the cost of the exchange.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one = curve(arguments, 1, Path(folder) / "one")
        many = curve(arguments, arguments.ranks, Path(folder) / "many")
    pairs = list(zip(one, many, strict=True))
    row = {
        "ranks": arguments.ranks,
        "steps": arguments.steps,
        "largest_loss_difference": max(abs(a["loss"] - b["loss"]) for a, b in pairs),
        "last_loss": one[-1]["loss"],
        "one_process_characters_per_second": rate(one),
        "ranks_characters_per_second": rate(many),
        "speedup": rate(many) / rate(one),
    }
    print(json.dumps(row) if arguments.json else "\n".join(f"{k}: {v}" for k, v in row.items()))


def curve(arguments: argparse.Namespace, ranks: int, out: Path) -> list[dict[str, Any]]:
    """Train a model and return its logged steps, which are every tenth."""
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    sizes = [f"--{name}={vars(arguments)[name.replace('-', '_')]}" for name in SAME]
    rest = ["--dropout=0", "--precision=float32", f"--eval-every={arguments.steps}", "--quiet"]
    command = [sys.executable, *launch, "-m", "chargen", "train", arguments.corpus, "--out"]
    subprocess.run(
        [*command, str(out), "--no-samples", *sizes, *rest],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(arguments.threads)},
    )
    rows = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if "loss" in row]


SAME = ("steps", "hidden-size", "batch-size", "window", "threads")


def rate(rows: list[dict[str, Any]]) -> float:
    """Return characters per second from the first logged step to the last, without start-up."""
    first, last = rows[0], rows[-1]
    return float((last["characters"] - first["characters"]) / (last["seconds"] - first["seconds"]))


if __name__ == "__main__":
    main()
