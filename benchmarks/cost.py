"""How the cost of `chargen train` grows with the corpus, the hidden size and the layers.

    python benchmarks/cost.py
    python benchmarks/cost.py --megabytes 1 10 100 1000 --hidden-sizes 128 --num-layers 1
    python benchmarks/cost.py --megabytes 1 --hidden-sizes 128 512 2048 --num-layers 1 2 4 --json

Each case runs `chargen train CORPUS --steps N --json` in its own process, so a row shows what a
user gets. The cases are every corpus with the first hidden size and number of layers, then every
pair of hidden size and number of layers with the first corpus. A corpus consists of random words
from a fixed list and is the same at each call. The corpora and the encoding of each case lie in a
temporary folder (--folder chooses where; it needs three times the largest size), and no case finds
the encoding of another. No text is kept for validation, which would dominate so short a run;
benchmarks/large_corpus.py has runs with validation.

There is one row per case: seconds until the first step begins (interpreter, imports, encoding,
choice of the precision), characters per second of the steps alone (from metrics.jsonl, which has a
row every ten steps, so without the first ten), and the peak of the process's resident memory. The
peak includes pages of memory-mapped files, which the system may take back at any time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chargen.plotting import curves

BLOCK_WORDS = 5000

# The command's entry point, and two figures that only the process itself can measure: the time from
# its start to the start of the loop, in seconds, and its peak memory, because a parent sees only
# the largest peak among its children.
CHILD = """
import json, resource, sys, time
from pathlib import Path
started, report = float(sys.argv.pop(1)), Path(sys.argv.pop(1))
from chargen.cli.main import main
from chargen.training.loop import Loop
run, known = Loop.run, {}
def watched(loop):
    known["began"] = time.time() - started
    run(loop)
Loop.run = watched
try:
    main()
finally:
    known["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report.write_text(json.dumps(known))
"""
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Case:
    """The sizes that are varied."""

    megabytes: float
    hidden_size: int
    num_layers: int


def words() -> Iterator[str]:
    """Yield blocks of words without end, the same at every call."""
    generator = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    lexicon = ["".join(generator.choices(letters, k=generator.randint(1, 9))) for _ in range(2000)]
    while True:
        yield " ".join(generator.choices(lexicon, k=BLOCK_WORDS)) + ".\n"


def write_corpus(path: Path, size: int) -> None:
    """Write exactly `size` bytes, one block at a time."""
    with path.open("w", encoding="ascii") as file:
        for block in words():
            written = file.write(block[:size])
            size -= written
            if not size:
                return


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Return every corpus at the first sizes, then all other sizes with the first corpus."""
    first = Case(arguments.megabytes[0], arguments.hidden_sizes[0], arguments.num_layers[0])
    all_cases = [Case(size, first.hidden_size, first.num_layers) for size in arguments.megabytes]
    all_cases += [
        Case(first.megabytes, hidden, layers)
        for hidden in arguments.hidden_sizes
        for layers in arguments.num_layers
    ]
    return list(dict.fromkeys(all_cases))


def measure(case: Case, folder: Path, steps: int, options: list[str]) -> dict[str, Any]:
    """Run `chargen train` in its own process and return one row."""
    corpus = folder / f"{case.megabytes:g}MB.txt"
    size = round(case.megabytes * 1e6)
    if not corpus.exists():
        write_corpus(corpus, size)
    with tempfile.TemporaryDirectory(dir=folder) as case_folder:
        out, report = Path(case_folder) / "model", Path(case_folder) / "report.json"
        command = [sys.executable, "-c", CHILD, repr(time.time()), str(report), "train"]
        command += [str(corpus), "--out", str(out), "--steps", str(steps), "--json", "--quiet"]
        command += ["--hidden-size", str(case.hidden_size), "--num-layers", str(case.num_layers)]
        command += ["--no-samples", "--valid-fraction", "0", *options]
        subprocess.run(
            command,
            env={**os.environ, "CHARGEN_CACHE_DIR": str(Path(case_folder) / "cache")},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        measured = json.loads(report.read_text())
        return {
            **asdict(case),
            "parameters": parameters(out),
            "seconds_to_first_step": measured["began"],
            "characters_per_second": rate(out),
            "peak_bytes": measured["peak"] * PEAK_UNIT,
        }


def parameters(checkpoint: Path) -> int:
    """Return the number of trained parameters."""
    from chargen.lm import storage

    return storage.load(checkpoint)[0].num_parameters()


def rate(checkpoint: Path) -> float:
    """Return characters per second from the first logged step to the last, without start-up."""
    rows = curves.read(checkpoint).rows
    return float(np.ptp(rows["characters"]) / np.ptp(rows["seconds"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, nargs="+", default=[1, 10, 100])
    parser.add_argument("--hidden-sizes", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--num-layers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=30, help="of each case, at least 20")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--folder", type=Path, help="for the temporary files")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.steps < 20:
        parser.error("--steps: at least 20")
    # Set explicitly, because the recipe chooses small batches for a run of few steps.
    options = ["--batch-size", str(arguments.batch_size), "--window", str(arguments.window)]
    options += ["--precision", arguments.precision]
    if arguments.threads:
        options += ["--threads", str(arguments.threads)]
    rows = []
    if not arguments.json:
        print("corpus    hidden layers  parameters  first step   characters/s       peak")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for case in cases(arguments):
            row = measure(case, Path(folder), arguments.steps, options)
            rows.append(row)
            if not arguments.json:
                print(
                    f"{case.megabytes:6g} MB{case.hidden_size:7}{case.num_layers:7}"
                    f"{row['parameters']:12,}{row['seconds_to_first_step']:10.1f} s"
                    f"{row['characters_per_second']:15,.0f}{row['peak_bytes'] / 1e6:8.0f} MB",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps({"steps": arguments.steps, "cases": rows}))


if __name__ == "__main__":
    main()
