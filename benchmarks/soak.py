"""Does the memory of a long run stay constant?

    python benchmarks/soak.py -- chargen train book.txt --minutes 30 --out checkpoints/soak --force

Runs the command and reads its resident memory from /proc (Linux) twice a second. The figures are
medians over a tenth of the time each: from 10 % on (torch fills its caches before that), in the
middle, and at the end. --log adds the size of the run's log.
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
    row = watch(arguments.command)
    if arguments.log:
        row["log_bytes"] = arguments.log.stat().st_size
    print(json.dumps(row) if arguments.json else "\n".join(f"{k}: {v}" for k, v in row.items()))


def watch(command: list[str]) -> dict[str, Any]:
    """Run a command to its end and return figures about its memory."""
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
    """Return the resident memory of a process in bytes; 0 if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    sizes = [line.split() for line in lines if line.startswith("VmRSS:")]
    return int(sizes[0][1]) * 1024 if sizes else 0


if __name__ == "__main__":
    main()
