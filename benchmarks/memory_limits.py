"""Memory that runs out: each command ends with one sentence and leaves nothing half-written.

    python benchmarks/memory_limits.py --limits 60

`chargen train`, `train --resume`, `sample` and `sentiment predict` run in processes whose address
space may grow by a limited number of megabytes after the command begins (RLIMIT_AS). The limits go
from none to one that is enough. The commands are forked from one process that has torch loaded.
Each must end with exit code 0, or with 1 and one sentence; then

- after a new run, there is no checkpoint, or one that loads and that `chargen.resume` finishes;
- after a resumed run, the checkpoint is the previous one, byte for byte, or a later one;
- there is nothing else beside the checkpoint.

Prints the number of commands with each outcome. The exit code is 1 if anything else happened; the
first failures are shown. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from long_form import fork_command, run_and_report

import chargen
from chargen.errors import ChargenError
from chargen.storage import checkpoint

SENTENCES = ("there is not enough memory", "Cannot allocate memory")
"""Each error message contains one of these; the second is the system's, for mapped files."""

MOST_MEGABYTES = 128.0
"""With this much additional memory each of the commands succeeds."""

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 400
SIZES: dict[str, Any] = {
    **{"steps": 4, "checkpoint_every": 2, "hidden_size": 256, "batch_size": 32, "window": 64},
    "precision": "float32",
}


def limited(arguments: tuple[object, ...], more: float, stderr: Path) -> tuple[int, str]:
    """Run a command that may use `more` additional megabytes; return its exit code and stderr."""

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + int(more * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    status = os.waitpid(fork_command(arguments, stderr, limit), 0)[1]
    return os.waitstatus_to_exitcode(status), stderr.read_text()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Harness:
    """Runs commands in a folder and records their outcomes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        os.environ["CHARGEN_CACHE_DIR"] = str(folder / "cache")
        (folder / "fox.txt").write_text(TEXT)
        options = [(f"--{name.replace('_', '-')}", value) for name, value in SIZES.items()]
        plain = [word for option in options for word in option]
        self.train = ("train", folder / "fox.txt", *plain, "--no-samples", "--quiet", "--out")
        self.model = folder / "model" / "run"
        # Before any fork, so that modules that are imported late are already loaded.
        chargen.train(folder / "fox.txt", self.model, samples=False, **SIZES)
        chargen.Classifier.load("sentiment").predict(["A fine film."])

    def try_limit(self, more: float) -> None:
        """Run all commands with `more` additional megabytes."""
        place = self.folder / "place"
        place.mkdir()
        if not self._ends("train", (*self.train, place / "run"), more):
            self._check(place, more, None)
        shutil.rmtree(place)
        place.mkdir()
        shutil.copytree(self.model, place / "run")
        before = files(place)
        resumed = ("train", "--resume", place / "run", "--steps", "8", "--quiet")
        if not self._ends("resume", resumed, more):
            self._check(place, more, before)
        shutil.rmtree(place)
        drawing = ("--num-samples", "4096", "--length", "5", "--seed", "1", "--quiet")
        self._ends("sample", ("sample", self.model, *drawing), more)
        text = "A fine film, and far too long. " * 300
        self._ends("predict", ("sentiment", "predict", "sentiment", text), more)

    def _ends(self, name: str, arguments: tuple[object, ...], more: float) -> bool:
        code, stderr = limited(arguments, more, self.folder / "said.txt")
        case = f"{name}, {more:.1f} MB"
        one_sentence = len(stderr.splitlines()) == 1 and any(words in stderr for words in SENTENCES)
        if code == 0:
            self.counts[f"{name}: enough"] += 1
            return True
        self.counts[f"{name}: told"] += 1
        if code != 1 or not one_sentence:
            self.failures.append(f"{case}: exit code {code}: {stderr.strip()[-400:]}")
        return False

    def _check(self, place: Path, more: float, before: dict[str, bytes] | None) -> None:
        """Check that the checkpoint is complete and that its run can be resumed."""
        case = f"{'train' if before is None else 'resume'}, {more:.1f} MB"
        left = {path.name for path in place.iterdir()} - {"run"}
        if left:
            self.failures.append(f"{case}: left {sorted(left)}")
        if before is None and not (place / "run").exists():
            return
        if files(place) == before:
            return
        try:
            assert chargen.resume(place / "run").finished
            checkpoint.load(place / "run", training=True)
        except (ChargenError, AssertionError) as error:
            self.failures.append(f"{case}: cannot go on: {error}")


def run(limits: list[float], folder: Path) -> dict[str, Any]:
    """Run all commands under each limit, in megabytes."""
    began, cpu = time.perf_counter(), os.times()
    harness = Harness(folder)
    for more in limits:
        harness.try_limit(more)
    now = os.times()
    spent = (now.user + now.children_user) - (cpu.user + cpu.children_user)
    return {
        "limits": len(limits),
        "commands": harness.counts.total(),
        "counts": dict(sorted(harness.counts.items())),
        "cpu_seconds": round(spent, 1),
        "seconds": round(time.perf_counter() - began, 1),
        "failures": harness.failures[:20],
        "failed": len(harness.failures),
    }


def spread(count: int) -> list[float]:
    """Return `count` limits, close together where they are small."""
    return [MOST_MEGABYTES * (index / max(1, count - 1)) ** 2 for index in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limits", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a forked process has no other threads
    run_and_report(
        lambda folder: run(spread(arguments.limits), folder), "memory", "failed", arguments.json
    )


if __name__ == "__main__":
    main()
