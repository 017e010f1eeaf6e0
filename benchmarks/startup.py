"""Start-up times: help, import, 200 characters from the shipped model, and torch's share of them.

python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import chargen": ["-c", "import chargen"],
    "import torch": ["-c", "import torch"],
    "chargen --help": ["-m", "chargen", "--help"],
    "chargen train --help": ["-m", "chargen", "train", "--help"],
    "chargen sample --help": ["-m", "chargen", "sample", "--help"],
    "chargen sample, 200": ["-m", "chargen", "sample", "checkpoints/reviews", "--length", "200"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    # Commands alternate, so that a slow moment of the machine affects all of them.
    for _ in range(arguments.repeats):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            times[name].append(time.perf_counter() - started)
    rows = {
        name: {"seconds": statistics.median(values), "fastest": min(values)}
        for name, values in times.items()
    }
    if arguments.json:
        print(json.dumps(rows))
        return
    base = rows["python -c pass"]["seconds"]
    share = rows["import torch"]["seconds"] / rows["chargen sample, 200"]["seconds"]
    print(f"of the time of chargen sample, importing torch takes {share:.0%}")
    for name, row in rows.items():
        print(
            f"{name:24}{row['seconds']:7.3f} s median{row['fastest']:8.3f} s fastest"
            f"{row['seconds'] / base:8.1f} x python itself"
        )


if __name__ == "__main__":
    main()
