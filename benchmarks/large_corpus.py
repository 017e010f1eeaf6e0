"""A large corpus: seconds and peak resident memory of encoding it and training on it.

    python benchmarks/large_corpus.py --gigabytes 2 --folder /tmp/large

The text repeats Python's own documentation with its words shuffled, so nothing is downloaded. Each
stage runs in its own process. Memory is reported for the whole process, and as its excess over a
process that has only imported torch.
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
from pathlib import Path

from cost import PEAK_UNIT

STEPS = 20


def make_corpus(path: Path, size: int) -> None:
    """Write at least `size` bytes of UTF-8 text, the same at every call."""
    from chargen.text.builtin import topics

    words = " ".join(topics()).split(" ")
    generator = random.Random(0)
    written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            start = generator.randrange(len(words) - 5000)
            block = words[start : start + 5000]
            generator.shuffle(block)
            text = " ".join(block) + "\n"
            written += len(text.encode())
            file.write(text)


def measured(code: str, environment: dict[str, str]) -> tuple[float, int]:
    """Return the wall time in seconds and the peak resident memory in bytes of a Python process.

    The peak includes pages of memory-mapped files, which the system may take back at any time. The
    process prints it itself, because a parent sees only the largest peak among all its children.
    """
    report = "\nimport resource; print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    started = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-c", code + report],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return time.perf_counter() - started, int(run.stdout.rsplit("PEAK", 1)[1]) * PEAK_UNIT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, required=True, help="needs three times the size")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    corpus = arguments.folder / "corpus.txt"
    size = int(arguments.gigabytes * 1e9)
    if not corpus.exists() or corpus.stat().st_size < size:
        make_corpus(corpus, size)
    load = (
        "from chargen.text.corpus import load_corpus; from chargen.text.config import CorpusConfig;"
        f"load_corpus([{str(corpus)!r}], CorpusConfig())"
    )
    train = (
        f"import chargen; chargen.train({str(corpus)!r}, {str(arguments.folder / 'model')!r}, "
        f"force=True, steps={STEPS}, hidden_size=128, samples=False)"
    )
    rows = {}
    # A cache of its own: the first encoding would find that of an earlier call.
    with tempfile.TemporaryDirectory(dir=arguments.folder) as cache:
        environment = {**os.environ, "CHARGEN_CACHE_DIR": cache}
        _, base = measured("import torch, torch.nn", environment)
        for name, code in (
            ("first encoding", load),
            ("second encoding", load),
            (f"train {STEPS} steps", train),
        ):
            seconds, peak = measured(code, environment)
            rows[name] = {"seconds": seconds, "peak_bytes": peak, "above_torch_bytes": peak - base}
    rows["torch alone"] = {"seconds": 0.0, "peak_bytes": base, "above_torch_bytes": 0}
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{corpus.stat().st_size:,} bytes")
    for name, row in rows.items():
        print(
            f"{name:18}{row['seconds']:8.1f} s   peak {row['peak_bytes'] / 1e6:7.0f} MB, "
            f"{row['above_torch_bytes'] / 1e6:7.0f} MB above torch"
        )


if __name__ == "__main__":
    main()
