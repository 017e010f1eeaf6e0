"""The cost of waiting OpenMP threads, on a machine that others use and on a quiet one.

    python benchmarks/busy.py --busy 2 --hidden-size 128 --steps 200 --repeats 2
    python benchmarks/busy.py --busy 0 --hidden-size 512 --steps 60 --repeats 2

For each number of other busy processes and each way of waiting, a training runs in its own process
with torch's default number of threads. Prints wall-clock seconds and processor seconds of the
training, without the start of Python. "2000 checks" is what the command line sets. GNU OpenMP reads
the variables when it is loaded. A repeat runs all ways again, since a machine's speed changes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import click

WAYS: dict[str, dict[str, str]] = {
    "as OpenMP does by itself": {"GOMP_SPINCOUNT": "300000"},
    "20000 checks": {"GOMP_SPINCOUNT": "20000"},
    "5000 checks": {"GOMP_SPINCOUNT": "5000"},
    "2000 checks": {"GOMP_SPINCOUNT": "2000"},
    "1000 checks": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
"""300000 is the default of GNU OpenMP if there are as many processors as threads."""

TRAIN = """
import sys, time, chargen

def train(steps):
    began, used = time.perf_counter(), time.process_time()
    chargen.train('python-docs', sys.argv[1], steps=steps, hidden_size=int(sys.argv[3]),
                  batch_size=32, samples=False, precision='float32', force=True)
    return time.perf_counter() - began, time.process_time() - used

train(2)  # imports, and puts the encoded text into the cache
print(*train(int(sys.argv[2])))
"""
SPIN = "while True: pass"


def measure(way: dict[str, str], steps: int, hidden_size: int) -> tuple[float, float]:
    """Return the wall-clock seconds and the processor seconds of a run."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", TRAIN, f"{folder}/run", str(steps), str(hidden_size)]
        root = Path(__file__).parent.parent
        output = subprocess.check_output(command, env=environment | way, cwd=root)
    clock, spent = map(float, output.split())
    return clock, spent


@click.command()
@click.option("--busy", type=int, multiple=True, default=(0, 2), help="Other busy processes.")
@click.option("--hidden-size", "sizes", type=int, multiple=True, default=(128, 512))
@click.option("--steps", default=100)
@click.option("--repeats", default=1)
@click.option("--json", "as_json", is_flag=True)
def main(
    busy: tuple[int, ...], sizes: tuple[int, ...], steps: int, repeats: int, as_json: bool
) -> None:
    """Print a row for each measurement."""
    for count in busy:
        others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
        try:
            for size, (name, way) in product(sizes, list(WAYS.items()) * repeats):
                clock, spent = measure(way, steps, size)
                row = {"busy": count, "hidden_size": size, "way": name}
                row |= {"seconds": clock, "processor_seconds": spent}
                times = f"{clock:8.1f} s{spent:8.1f} s of processor"
                shown = f"{count} busy, H = {size}, {name:26}{times}"
                click.echo(json.dumps(row) if as_json else shown)
        finally:
            for other in others:
                other.kill()


if __name__ == "__main__":
    main()
