"""Killed training runs: nothing that was saved is lost, and resumed runs continue exactly.

    python benchmarks/kills.py --kills 200

Small runs of `chargen train` are stopped

  fault     by SIGKILL at a random call that writes a checkpoint (fsync of a file or folder, rename,
            exchange, removal): before the call, after it, or with only half of the file written,
  moment    by SIGKILL at a random moment,
  signal    by SIGINT or SIGTERM at a random moment,

a few times each, resumed by `chargen train --resume`, and finally left to finish. In further runs
the disk is full (RLIMIT_FSIZE, and ENOSPC from fsync), the folder is read-only, or the corpus is
removed during training. After each:

- the checkpoint loads, and is not older than the last one that was reported as written; so it is at
  most one interval old;
- the finished run has the weights, optimizer and generators of a run that was never stopped, bit
  for bit;
- no other file is left beside it, nor in the cache;
- if the run could print a message, the message says what happened and how to continue.

Runs are forked from one process that has torch loaded. Needs a POSIX system. The exit code is 1 if
anything was lost; the first losses are shown.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from long_form import fork_command, run_and_report

from chargen.errors import ChargenError
from chargen.storage import checkpoint, directories
from chargen.training.loop import Loop

INTERVAL = 4
OPTIONS = (
    *("--steps", "60", "--checkpoint-every", str(INTERVAL), "--eval-every", "20"),
    *("--hidden-size", "24", "--num-layers", "2", "--batch-size", "4", "--window", "32"),
    *("--dropout", "0.2", "--weight-dropout", "0.1", "--ema", "0.9", "--window-jitter"),
    *("--precision", "float32", "--no-samples", "--quiet"),
)
TEXT = "the quick brown fox jumps over the lazy dog.\n" * 120

WATCHED = (
    (os, "fsync"),
    (os, "rename"),
    (os, "mkdir"),
    (directories, "exchange"),
    (shutil, "rmtree"),
)
"""The calls that write a checkpoint."""


class Shared:
    """Numbers that a forked run leaves for its parent: step, last saved step, calls."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 24)

    def __setitem__(self, place: int, value: int) -> None:
        self._memory[8 * place : 8 * place + 8] = struct.pack("<q", value)

    def __getitem__(self, place: int) -> int:
        value: int = struct.unpack("<q", self._memory[8 * place : 8 * place + 8])[0]
        return value


STEP, SAVED, CALLS = 0, 1, 2
Fault = Callable[[int, str, tuple[Any, ...], Callable[..., Any]], Any]
"""Replaces a watched call; receives its number, name and arguments, and the call itself."""


def watch(shared: Shared, fault: Fault) -> None:
    """In a forked run: record the steps, and replace the watched calls by `fault`."""
    step, save_now = Loop.step, Loop.save_now

    def told_step(self: Loop[Any], batch: Any) -> Any:
        row = step(self, batch)
        shared[STEP] = self.progress.step
        return row

    def told_save(self: Loop[Any]) -> None:
        save_now(self)
        shared[SAVED] = self.progress.step

    Loop.step = told_step  # type: ignore[method-assign]
    Loop.save_now = told_save  # type: ignore[method-assign]
    for owner, name in WATCHED:
        setattr(owner, name, _watched(shared, fault, name, getattr(owner, name)))


def _watched(shared: Shared, fault: Fault, name: str, call: Callable[..., Any]) -> Any:
    def watched(*arguments: Any, **options: Any) -> Any:
        if not shared[STEP]:  # the corpus is being encoded
            return call(*arguments, **options)
        shared[CALLS] += 1
        return fault(shared[CALLS], name, arguments, lambda: call(*arguments, **options))

    return watched


def no_fault(number: int, name: str, arguments: tuple[Any, ...], call: Callable[..., Any]) -> Any:
    return call()


def killed_at(point: int, way: str) -> Fault:
    """Send SIGKILL "before" or "after" a call, or with half of a file "torn" off."""

    def fault(number: int, name: str, arguments: tuple[Any, ...], call: Callable[..., Any]) -> Any:
        if number != point:
            return call()
        if way == "after":
            call()
        elif way == "torn" and name == "fsync":
            with contextlib.suppress(OSError):  # folders cannot be truncated
                os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
        return None  # never reached

    return fault


def refused_at(point: int, names: tuple[str, ...], code: int) -> Fault:
    """Raise a system error at a call, and at all later calls with one of these names."""

    def fault(number: int, name: str, arguments: tuple[Any, ...], call: Callable[..., Any]) -> Any:
        if number >= point and name in names:
            raise OSError(code, os.strerror(code))
        return call()

    return fault


def small_files_at(point: int) -> Fault:
    """Limit the size of files to 500 bytes from a call on."""

    def fault(number: int, name: str, arguments: tuple[Any, ...], call: Callable[..., Any]) -> Any:
        if number == point:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
        return call()

    return fault


def removed_at(point: int, path: Path) -> Fault:
    """Remove a file at a call."""

    def fault(number: int, name: str, arguments: tuple[Any, ...], call: Callable[..., Any]) -> Any:
        if number == point:
            path.unlink()
        return call()

    return fault


class Harness:
    """Runs training in a folder, and records losses and counts."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.corpus = folder / "text.txt"
        self.shared = Shared()
        self.losses: list[str] = []
        self.counts: Counter[str] = Counter()
        self.largest_loss_of_steps = 0
        self.corpus.write_text(TEXT)
        os.environ["CHARGEN_CACHE_DIR"] = str(folder / "cache")
        code, _ = self.run(("train", self.corpus, "--out", folder / "whole", *OPTIONS), no_fault)
        assert code == 0
        self.whole = tensors(folder / "whole")
        self.calls = self.shared[CALLS]
        self.seconds = self._measured_seconds()

    def _measured_seconds(self) -> float:
        began = time.perf_counter()
        self.run(("train", self.corpus, "--out", self.folder / "timed", *OPTIONS), no_fault)
        return time.perf_counter() - began

    def run(
        self,
        arguments: tuple[object, ...],
        fault: Fault,
        after: float | None = None,
        number: signal.Signals = signal.SIGKILL,
    ) -> tuple[int, str]:
        """Run to the end, or until a signal after some seconds; return exit code and stderr."""
        for index in (STEP, SAVED, CALLS):
            self.shared[index] = 0
        stderr_path = self.folder / "said.txt"
        pid = fork_command(arguments, stderr_path, lambda: watch(self.shared, fault))
        if after is not None:
            time.sleep(after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), stderr_path.read_text()

    def lost(self, what: str) -> None:
        self.losses.append(what)

    # ------------------------------------------------------------ checks

    def check_saved(self, out: Path, case: str) -> None:
        """Check that the checkpoint loads and is not older than the last one reported as saved."""
        step, saved = self.shared[STEP], self.shared[SAVED]
        try:
            state = checkpoint.load(out, training=True).document("training/state")
            stored_step = int(state["progress"]["step"])
        except ChargenError as error:
            if saved or checkpoint.exists(out):
                self.lost(f"{case}: step {saved} was saved, and now: {error}")
            return
        self.largest_loss_of_steps = max(self.largest_loss_of_steps, step - stored_step)
        if stored_step < saved:
            self.lost(f"{case}: step {saved} was saved, {stored_step} is there")

    def check_end(self, out: Path, case: str) -> None:
        """Check that the run ended as if never stopped, and that no other files are left."""
        if tensors(out) != self.whole:
            self.lost(f"{case}: other weights at the end")
        here = {path.name for path in out.parent.iterdir()} - {out.name}
        if here:
            self.lost(f"{case}: left {sorted(here)}")
        cache = self.folder / "cache" / "corpora"
        odd = [path.name for path in cache.iterdir() if not path.name.isalnum()]
        if odd:
            self.lost(f"{case}: left in the cache {odd}")

    def arguments(self, out: Path) -> tuple[object, ...]:
        """Return the arguments that begin a run, or resume it if there is a checkpoint."""
        if checkpoint.exists(out):
            return ("train", "--resume", out)
        return ("train", self.corpus, "--out", out, *OPTIONS)

    def finish(self, out: Path, case: str) -> None:
        code, stderr = self.run(self.arguments(out), no_fault)
        if code != 0:
            self.lost(f"{case}: cannot go on: {stderr.strip()[-300:]}")
            return
        self.check_end(out, case)

    # ------------------------------------------------------------ faults

    def kill(self, index: int, kills: int) -> None:
        """Stop one run at most `kills` times, then let it finish."""
        with self.place(index) as out:
            for attempt in range(kills):
                kind = self.chance.choice(["fault", "fault", "moment", "signal"])
                case = f"run {index}, stop {attempt}, {kind}"
                code, stderr = self._stopped(kind, self.arguments(out))
                if code == 0:
                    break  # the run had finished before
                self.counts[kind] += 1
                if kind == "signal" and self.shared[STEP]:
                    self._check_signal(code, stderr, out, case)
                self.check_saved(out, case)
            self.finish(out, f"run {index}")

    def _stopped(self, kind: str, arguments: tuple[object, ...]) -> tuple[int, str]:
        if kind == "fault":
            # Mostly early calls, so that a run can be stopped several times.
            point = self.chance.randrange(1, max(2, self.calls // 2))
            way = self.chance.choice(["before", "after", "torn"])
            return self.run(arguments, killed_at(point, way))
        after = self.chance.random() * self.seconds * 0.6
        number = signal.SIGKILL
        if kind == "signal":
            number = self.chance.choice([signal.SIGINT, signal.SIGTERM])
        return self.run(arguments, no_fault, after, number)

    def _check_signal(self, code: int, said: str, out: Path, case: str) -> None:
        if code == 130 and "Traceback" not in said:
            if checkpoint.exists(out) and f"--resume {out}" not in said:
                self.lost(f"{case}: does not say how to go on: {said.strip()[-200:]}")
        elif code != -signal.SIGTERM:  # before the loop began
            self.lost(f"{case}: exit code {code}: {said.strip()[-200:]}")

    def refuse(self, index: int, case: str, fault: Fault, words: str) -> None:
        """Check one run in which the system refuses something."""
        with self.place(index) as out:
            code, stderr = self.run(self.arguments(out), fault)
            self.counts[case] += 1
            if code != 1 or words not in stderr or "Traceback" in stderr:
                self.lost(f"{case}: exit code {code}: {stderr.strip()[-300:]}")
            self.check_saved(out, case)
            self.finish(out, case)

    def remove_corpus(self, index: int) -> None:
        """Check that training needs only the encoding, and is refused if that is removed too."""
        case = "corpus removed"
        with self.place(index) as out:
            self.counts[case] += 1
            code, stderr = self.run(self.arguments(out), removed_at(20, self.corpus))
            if code != 0:
                self.lost(f"{case}: exit code {code}: {stderr.strip()[-300:]}")
            self.check_end(out, case)
            cache = self.folder / "cache"
            cache.rename(self.folder / "kept")
            code, stderr = self.run(("train", "--resume", out, "--steps", "61"), no_fault)
            if code != 1 or str(self.corpus) not in stderr or "Traceback" in stderr:
                self.lost(f"{case}, cache too: exit code {code}: {stderr.strip()[-300:]}")
            shutil.rmtree(cache, ignore_errors=True)
            (self.folder / "kept").rename(cache)
            self.corpus.write_text(TEXT)

    @contextlib.contextmanager
    def place(self, index: int) -> Iterator[Path]:
        """Yield a path for a run's checkpoint in an empty folder."""
        parent = self.folder / f"run-{index}"
        parent.mkdir()
        yield parent / "out"
        shutil.rmtree(parent)


def tensors(directory: Path) -> dict[str, bytes]:
    """Return all weights and states of a checkpoint, as stored on disk."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*.safetensors"))
    }


def run(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Stop runs until there were `kills` stops, then test the refusals."""
    harness = Harness(folder, seed)
    began = time.perf_counter()
    index = 0
    while sum(harness.counts.values()) < kills:
        index += 1
        harness.kill(index, min(4, kills - sum(harness.counts.values())))
    points = [harness.chance.randrange(2, harness.calls // 2) for _ in range(3)]
    refusals = (
        ("disk full", refused_at(points[0], ("fsync",), errno.ENOSPC), "No space left"),
        ("file too large", small_files_at(points[1]), "File too large"),
        ("read-only", refused_at(points[2], ("mkdir", "rename"), errno.EROFS), "Read-only"),
    )
    for number, (case, fault, words) in enumerate(refusals, index + 1):
        harness.refuse(number, case, fault, words)
    harness.remove_corpus(index + len(refusals) + 1)
    return {
        "kills": sum(harness.counts[kind] for kind in ("fault", "moment", "signal")),
        "counts": dict(harness.counts),
        "runs": index + len(refusals) + 1,
        "calls_in_a_run": harness.calls,
        "steps_between_checkpoints": INTERVAL,
        "largest_loss_of_steps": harness.largest_loss_of_steps,
        "seconds": round(time.perf_counter() - began, 1),
        "losses": harness.losses[:20],
        "lost": len(harness.losses),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a forked process has no other threads
    run_and_report(
        lambda folder: run(arguments.kills, arguments.seed, folder), "kills", "lost", arguments.json
    )


if __name__ == "__main__":
    main()
