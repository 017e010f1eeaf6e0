"""Cost as the work grows: size of the corpus, of the state, number of layers.

    python benchmarks/cost.py --megabytes 1 10 100 1000 --hidden-sizes 128 256 512 1024 2048 \
        --num-layers 1 2 4 --json

A row for each corpus (at the first hidden size and one layer), each hidden size and each number of
layers (on the first corpus). Each runs `chargen.train` in a process of its own and tells:

  first_step   seconds from the start of Python to the end of the first step, the encoding of the
               corpus among them (its cache is empty)
  again        the same when the corpus has been encoded before
  characters   per second, after the first step
  megabytes    of memory at its peak, less those of a process that has imported torch; the pages of
               the mapped corpus that were read are among them

Linear is: first_step in the size of the corpus, characters per second in the number of weights.
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

from large_corpus import make_corpus, measured

CHILD = """
import json, time
began = time.perf_counter()
import chargen
from chargen.reporting import Reporter
class Clock(Reporter):
    def __init__(self): self.seen = []
    def step(self, progress, metrics):
        self.seen.append((time.perf_counter(), metrics["characters"]))
clock = Clock()
chargen.train({corpus!r}, {out!r}, force=True, reporter=clock, steps={steps}, eval_every=10**9,
              batch_size=32, window=128, samples=False, threads={threads!r}, **{sizes!r})
(first, few), (last, many) = clock.seen[0], clock.seen[-1]
print(json.dumps([first - began, (many - few) / (last - first)]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, nargs="+", default=[1, 10, 100])
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[128, 256, 512, 1024, 2048])
    parser.add_argument("--num-layers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--folder", type=Path, help="where the corpora are made (default: temporary)"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments, arguments.folder or Path(folder))
    if arguments.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


def measure(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """All rows of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    smallest, size, layers = (
        arguments.megabytes[0],
        arguments.hidden_sizes[0],
        arguments.num_layers[0],
    )
    cases = [(megabytes, size, layers) for megabytes in arguments.megabytes]
    cases += [(smallest, hidden, layers) for hidden in arguments.hidden_sizes[1:]]
    cases += [(smallest, size, count) for count in arguments.num_layers[1:]]
    _, imported = measured("import torch", dict(os.environ))
    rows = []
    for megabytes, hidden, count in cases:
        corpus = folder / f"{megabytes:g}.txt"
        if not corpus.exists():
            make_corpus(corpus, int(megabytes * 1e6))
        row = _row(arguments, corpus, {"hidden_size": hidden, "num_layers": count}, imported)
        rows.append({"megabytes_of_text": megabytes, "hidden": hidden, "layers": count} | row)
    return rows


def _row(
    arguments: argparse.Namespace, corpus: Path, sizes: dict[str, int], imported: int
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as cache:
        code = CHILD.format(
            corpus=str(corpus),
            out=str(Path(cache) / "run"),
            steps=arguments.steps,
            threads=arguments.threads,
            sizes=sizes,
        )
        environment = dict(os.environ, CHARGEN_CACHE_DIR=str(Path(cache) / "cache"))
        first, speed, peak = _run(code, environment)
        again, _, _ = _run(code, environment)
    return {
        "first_step": round(first, 2),
        "again": round(again, 2),
        "characters": round(speed),
        "megabytes": round((peak - imported) / 1e6),
    }


def _run(code: str, environment: dict[str, str]) -> tuple[float, float, int]:
    """First step in seconds, characters per second, peak memory in bytes of a process."""
    report = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    command = [sys.executable, "-c", code + report]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    figures, peak = done.stdout.split("\n")[:2]
    first, speed = json.loads(figures)
    return first, speed, int(peak)


if __name__ == "__main__":
    main()
