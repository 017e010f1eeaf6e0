"""Memory of a long run: is it flat?

    python benchmarks/soak.py -- chargen train book.txt --minutes 30 --out checkpoints/soak --force

Runs the command and reads its resident memory from /proc (Linux) twice a second. The figures are
medians over a tenth of the time each, from 10 % of it on (before that, torch fills its caches), in
the middle and at the end, and the size of the run's log where --log names it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

INTERVAL = 0.5
MOMENTS = {"start": 0.1, "middle": 0.45, "end": 0.9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, help="a file whose size is told")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    found = watch(arguments.command)
    if arguments.log:
        found["log_bytes"] = arguments.log.stat().st_size
    print(json.dumps(found) if arguments.json else "\n".join(f"{k}: {v}" for k, v in found.items()))


def watch(command: list[str]) -> dict[str, Any]:
    """Run a command to its end and tell how its memory went."""
    samples: list[int] = []
    began = time.perf_counter()
    process = subprocess.Popen(command)
    while process.poll() is None:
        samples.append(resident(process.pid))
        time.sleep(INTERVAL)
    samples = [sample for sample in samples if sample]
    tenth = max(1, len(samples) // 10)
    parts = {
        moment: statistics.median(samples[int(share * len(samples)) :][:tenth])
        for moment, share in MOMENTS.items()
    }
    return {
        "exit_code": process.returncode,
        "seconds": round(time.perf_counter() - began, 1),
        **{f"{moment}_megabytes": round(value / 1e6, 1) for moment, value in parts.items()},
        "largest_megabytes": round(max(samples) / 1e6, 1),
        "end_over_start": parts["end"] / parts["start"],
        "middle_over_start": parts["middle"] / parts["start"],
    }


def resident(pid: int) -> int:
    """Bytes of a process that are in memory; 0 where it has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    sizes = [line.split() for line in lines if line.startswith("VmRSS:")]
    return int(sizes[0][1]) * 1024 if sizes else 0


if __name__ == "__main__":
    main()
