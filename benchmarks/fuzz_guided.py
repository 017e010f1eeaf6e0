"""Coverage-guided fuzzing of untrusted checkpoints (atheris, over libFuzzer).

    pip install atheris
    python benchmarks/fuzz_guided.py --seconds 120

One file of a small checkpoint is replaced by the fuzzer's input, the manifest is repaired, and the
result is loaded, as in `fuzz_checkpoints.py`. libFuzzer prints how many inputs it tried and how
many of the package's branches they reached. It stops at a failure and prints the input.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris
import torch

with atheris.instrument_imports(include=["chargen"]):
    import fuzz_checkpoints as fuzz

from chargen.sentiment import members as ngrams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ngrams.BUCKET_BITS = fuzz.SMALL_NGRAMS
    folder = Path(tempfile.mkdtemp(prefix="chargen-guided-"))
    sound = fuzz.sound_checkpoints(folder)[:-1]  # without resuming a run, which takes too long
    seeds = folder / "seeds"
    seeds.mkdir()
    for base, (_, files, _) in enumerate(sound):
        for index, name in enumerate(sorted(files)):
            (seeds / f"{base}-{index}").write_bytes(bytes([base, index]) + files[name])

    def one(data: bytes) -> None:
        """Choose checkpoint and file by the first two bytes; the rest is the file's content."""
        if len(data) < 2:
            return
        directory, files, use = sound[data[0] % len(sound)]
        name = sorted(files)[data[1] % len(files)]
        fuzz.write(directory, fuzz.with_file(files, name, data[2:]))
        end = fuzz.attempt(use, directory)
        if end not in fuzz.RIGHT:
            raise AssertionError(f"{name} of {directory.name}: {end}")

    options: list[Any] = [f"-max_total_time={arguments.seconds}", f"-seed={arguments.seed}"]
    atheris.Setup([sys.argv[0], *options, "-max_len=20000", str(seeds)], one)
    try:
        atheris.Fuzz()  # ends the process
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
