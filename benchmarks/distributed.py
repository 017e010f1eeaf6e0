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

import numpy as np
from cost import rate
from numpy.typing import NDArray

from chargen.plotting import curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100, help="at least 20")
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.steps < 20:
        parser.error("--steps: at least 20")
    with tempfile.TemporaryDirectory() as folder:
        one, one_rate = curve(arguments, 1, Path(folder) / "one")
        many, many_rate = curve(arguments, arguments.ranks, Path(folder) / "many")
    row = {
        "ranks": arguments.ranks,
        "steps": arguments.steps,
        "largest_loss_difference": float(np.abs(one - many).max()),
        "last_loss": float(one[-1]),
        "one_process_characters_per_second": one_rate,
        "ranks_characters_per_second": many_rate,
        "speedup": many_rate / one_rate,
    }
    print(json.dumps(row) if arguments.json else "\n".join(f"{k}: {v}" for k, v in row.items()))


def curve(
    arguments: argparse.Namespace, ranks: int, out: Path
) -> tuple[NDArray[np.float64], float]:
    """Train a model; return the losses of every tenth step, and characters per second."""
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
    return curves.read(out).rows["loss"], rate(out)


SAME = ("steps", "hidden-size", "batch-size", "window", "threads")


if __name__ == "__main__":
    main()
