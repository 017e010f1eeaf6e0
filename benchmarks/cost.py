"""How the cost of `chargen train` grows with the corpus, the hidden size and the layers.

    python benchmarks/cost.py
    python benchmarks/cost.py --megabytes 1 10 100 1000 --hidden-sizes 128 --num-layers 1
    python benchmarks/cost.py --megabytes 1 --hidden-sizes 128 512 2048 --num-layers 1 2 4 --json

Each case is `chargen train CORPUS --steps N --json` in a process of its own, so a row is what a
user gets: every corpus with the first hidden size and number of layers, then every pair of those
with the first corpus. The corpus is random words of a fixed list, the same at each call; it and the
encoding of each case lie in a temporary folder (--folder says where; three times the largest size),
and no case finds an encoding that another has made. No text is kept for validation, since so short
a run would do little else; benchmarks/large_corpus.py has runs with it.

One row a case: seconds until the first step begins (interpreter, imports, encoding, trial of the
precision), characters per second of the steps alone (from metrics.jsonl, which has a row every ten
steps, so without the first ten), and the peak of the process's resident memory. That counts pages
of memory-mapped files too, which the system may take back at any time.
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

BLOCK_WORDS = 5000

# The entry point itself, and what only the process knows: when the loop began, in seconds since the
# process was started, and its peak, since a parent is told that of the largest of its children.
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
    """What is varied."""

    megabytes: float
    hidden_size: int
    num_layers: int


def words() -> Iterator[str]:
    """Blocks of words, without an end, the same for every call."""
    generator = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    listed = ["".join(generator.choices(letters, k=generator.randint(1, 9))) for _ in range(2000)]
    while True:
        yield " ".join(generator.choices(listed, k=BLOCK_WORDS)) + ".\n"


def write_corpus(path: Path, size: int) -> None:
    """Write exactly `size` bytes, a block at a time."""
    with path.open("w", encoding="ascii") as file:
        for block in words():
            written = file.write(block[:size])
            size -= written
            if not size:
                return


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Every corpus at the first sizes, then all other sizes at the first corpus."""
    first = Case(arguments.megabytes[0], arguments.hidden_sizes[0], arguments.num_layers[0])
    found = [Case(size, first.hidden_size, first.num_layers) for size in arguments.megabytes]
    found += [
        Case(first.megabytes, hidden, layers)
        for hidden in arguments.hidden_sizes
        for layers in arguments.num_layers
    ]
    return list(dict.fromkeys(found))


def measure(case: Case, folder: Path, steps: int, options: list[str]) -> dict[str, Any]:
    """One row: a run of `chargen train` in a process of its own."""
    corpus = folder / f"{case.megabytes:g}MB.txt"
    size = round(case.megabytes * 1e6)
    if not corpus.exists():
        write_corpus(corpus, size)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        out, report = Path(own) / "model", Path(own) / "report.json"
        command = [sys.executable, "-c", CHILD, repr(time.time()), str(report), "train"]
        command += [str(corpus), "--out", str(out), "--steps", str(steps), "--json", "--quiet"]
        command += ["--hidden-size", str(case.hidden_size), "--num-layers", str(case.num_layers)]
        command += ["--no-samples", "--valid-fraction", "0", *options]
        subprocess.run(
            command,
            env={**os.environ, "CHARGEN_CACHE_DIR": str(Path(own) / "cache")},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        known = json.loads(report.read_text())
        return {
            **asdict(case),
            "parameters": parameters(out),
            "seconds_to_first_step": known["began"],
            "characters_per_second": rate(out),
            "peak_bytes": known["peak"] * PEAK_UNIT,
        }


def parameters(checkpoint: Path) -> int:
    """Numbers that were trained."""
    from chargen.lm import storage

    return storage.load(checkpoint)[0].num_parameters()


def rate(checkpoint: Path) -> float:
    """Characters per second between the first and the last row of the log that is of a step."""
    rows = [json.loads(line) for line in (checkpoint / "metrics.jsonl").read_text().splitlines()]
    first, *_, last = [row for row in rows if "characters" in row]
    return float((last["characters"] - first["characters"]) / (last["seconds"] - first["seconds"]))


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
    # Given, because the recipe makes batches small for a run of few steps.
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
