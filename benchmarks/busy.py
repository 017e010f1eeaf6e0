"""The cost of waiting OpenMP threads, on a machine that others use and on a quiet one.

    python benchmarks/busy.py --busy 0 --busy 2 --hidden-size 128 --steps 60

For each number of other busy processes and each way of waiting, a training runs in its own process
with torch's default number of threads. Prints wall-clock seconds and processor seconds. "spins
20000" is what the command line sets. GNU OpenMP reads the variables when it is loaded.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

WAYS: dict[str, dict[str, str]] = {
    "as OpenMP does by itself": {"GOMP_SPINCOUNT": "300000"},
    "spins 20000": {"GOMP_SPINCOUNT": "20000"},
    "spins 5000": {"GOMP_SPINCOUNT": "5000"},
    "spins 1000": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
"""300000 is the default of GNU OpenMP if there are as many processors as threads."""

TRAIN = (
    "import sys, chargen; chargen.train('python-docs', sys.argv[1], steps=int(sys.argv[2]), "
    "hidden_size=int(sys.argv[3]), batch_size=32, samples=False, precision='float32')"
)
SPIN = "while True: pass"


def measure(way: dict[str, str], steps: int, hidden_size: int) -> tuple[float, float]:
    """Return the wall-clock seconds and the processor seconds of a run."""
    with tempfile.TemporaryDirectory() as folder:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-c", TRAIN, f"{folder}/run", str(steps), str(hidden_size)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
        subprocess.run(command, env=environment | way, check=True, cwd=Path(__file__).parent.parent)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return time.perf_counter() - began, spent


@click.command()
@click.option("--busy", type=int, multiple=True, default=(0, 2), help="Other busy processes.")
@click.option("--hidden-size", "sizes", type=int, multiple=True, default=(128, 512))
@click.option("--steps", default=60)
@click.option("--json", "as_json", is_flag=True)
def main(busy: tuple[int, ...], sizes: tuple[int, ...], steps: int, as_json: bool) -> None:
    """Print a row for each measurement."""
    measure(WAYS["passive"], 1, 16)  # puts the encoded text into the cache
    for count in busy:
        others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
        try:
            for size in sizes:
                for name, way in WAYS.items():
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
