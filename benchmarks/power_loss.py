"""Power failures during saves: whatever may then be on the disk loads, and the run continues.

    python benchmarks/power_loss.py --states 10000

Saves are recorded at the level of system calls: files and folders that are made, written, renamed,
exchanged, removed and synced. From the record, disks are rebuilt as a power failure at any point
may leave them, by what POSIX promises and no more (as SQLite's tests do, and Pillai et al. 2014,
"All File Systems Are Not Created Equal"):

- what was written to a file since its last fsync is kept, lost, torn (a prefix of it) or zeros;
- each change of the names in a folder since its last fsync is kept or lost by itself, as long as
  what the change needs is there; an fsync of a file does not keep its name.

The recorded cases are a first save into folders that have to be made, a save over an older
checkpoint with notes beside it (with the system call that exchanges two folders, and with two
renames), the same over the remains of a killed run and of an earlier power failure, a file that is
written whole, and a training run. For each disk the benchmark checks that

- the checkpoint loads with every byte, tensor and row of its log; it is the one whose save had
  returned or the one being saved; or there is none, if none had been saved, and a run may begin;
- notes beside it are there;
- the next save succeeds, keeps the notes, and leaves nothing else;
- the run continues from it to the bits of an uninterrupted run (checked once for each checkpoint
  and set of files beside it).

Prints the numbers of states and of different disks in each case. The exit code is 1 if anything was
lost; the first losses are shown. Needs /proc, to find the path of a descriptor.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from long_form import run_and_report

import chargen
from chargen.errors import ChargenError
from chargen.storage import checkpoint, directories
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.outputs import refuse_to_overwrite
from chargen.storage.whole_files import write_file

NOTES, NOTES_TEXT = "MODEL_CARD.md", b"what I think of it\n"
ROOT = 0
"""The number of the recorded folder; all of its earlier contents are on the disk."""

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 120
OPTIONS: dict[str, Any] = {
    **{"hidden_size": 8, "num_layers": 1, "batch_size": 4, "window": 16, "dropout": 0.2},
    **{"steps": 8, "checkpoint_every": 2, "eval_every": 4, "precision": "float32", "ema": 0.9},
    "samples": False,
}


# ---------------------------------------------------------------- recording


@dataclass(frozen=True)
class Names:
    """A change of names: the number that each (folder, name) refers to, before and after."""

    what: str
    before: dict[tuple[int, str], int | None]
    after: dict[tuple[int, str], int | None]

    @property
    def folders(self) -> set[int]:
        return {folder for folder, _ in self.before}


@dataclass(frozen=True)
class Write:
    """A file gets new content."""

    file: int
    data: bytes


@dataclass(frozen=True)
class Sync:
    """An fsync of a file or folder."""

    thing: int


@dataclass(frozen=True)
class Returned:
    """A save has returned."""

    version: Any


Operation = Names | Write | Sync | Returned


class Recorder:
    """Records what happens in a folder during `recording`.

    The calls are recorded in their order; what was written between them is found by looking. A name
    that appears or vanishes without a recorded call is an error, so nothing is missed.

    Attributes
    ----------
    folders : dict of int to dict
        Names to numbers in each folder, by the folder's number, at the beginning.
    contents : dict of int to bytes
        The content of each file, by its number, at the beginning.
    made : set of int
        Files that were made since.
    operations : list
        In their order.
    """

    def __init__(self, root: Path, *, exchange: bool = True) -> None:
        self.root = root
        self._exchange = exchange
        self._numbers = 0
        self._begun = False
        self.operations: list[Operation] = []
        self._folders: dict[int, dict[str, int]] = {ROOT: {}}
        self._contents: dict[int, bytes] = {}
        self.made: set[int] = set()
        self._look()
        self.folders = {number: dict(names) for number, names in self._folders.items()}
        self.contents = dict(self._contents)
        self.made.clear()
        self._begun = True
        self.operations.clear()

    @contextlib.contextmanager
    def recording(self) -> Iterator[Recorder]:
        watched: list[tuple[Any, str, Callable[..., Any]]] = [
            (os, "fsync", self._fsync),
            (os, "mkdir", self._one_name("mkdir")),
            (os, "unlink", self._one_name("unlink")),
            (os, "remove", self._one_name("unlink")),
            (os, "rmdir", self._one_name("rmdir")),
            (os, "rename", self._two_names("rename")),
            (os, "replace", self._two_names("rename")),
            (directories, "exchange", self._exchanged),
        ]
        calls = [getattr(owner, name) for owner, name, _ in watched]
        for (owner, name, record), call in zip(watched, calls, strict=True):
            setattr(owner, name, _calling(record, call))
        try:
            yield self
        finally:
            for (owner, name, _), call in zip(watched, calls, strict=True):
                setattr(owner, name, call)

    def returned(self, version: Any) -> None:
        """Record that a version was saved."""
        self._look()
        self.operations.append(Returned(version))

    def _look(self) -> None:
        """Record what was written since the last look."""
        waiting = [(ROOT, self.root)]
        while waiting:
            folder, path = waiting.pop()
            names = self._folders[folder]
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
            gone = names.keys() - {entry.name for entry in entries}
            assert not gone, f"{gone} went unseen"
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if entry.name not in names:
                    assert not is_folder or not self._begun, f"{entry.path} came unseen"
                    number = self._new(is_folder)
                    self._name("create", {(folder, entry.name): number})
                number = names[entry.name]
                if is_folder:
                    waiting.append((number, Path(entry.path)))
                    continue
                data = Path(entry.path).read_bytes()
                if data != self._contents[number]:
                    self._contents[number] = data
                    self.operations.append(Write(number, data))

    def _new(self, is_folder: bool) -> int:
        self._numbers += 1
        if is_folder:
            self._folders[self._numbers] = {}
        else:
            self._contents[self._numbers] = b""
            self.made.add(self._numbers)
        return self._numbers

    def _name(self, what: str, after: dict[tuple[int, str], int | None]) -> None:
        before = {(f, name): self._folders[f].get(name) for f, name in after}
        self.operations.append(Names(what, before, after))
        for (folder, name), number in after.items():
            if number is None:
                self._folders[folder].pop(name, None)
            else:
                self._folders[folder][name] = number

    def _place(self, path: Any, folder: int | None = None) -> tuple[int, str] | None:
        """Return the folder's number and the name in it; None outside the recorded folder."""
        above = "" if folder is None else Path(f"/proc/self/fd/{folder}").readlink()
        whole = Path(os.path.abspath(os.path.join(above, os.fsdecode(path))))  # noqa: PTH100, PTH118
        if whole == self.root or not whole.is_relative_to(self.root):
            return None
        number = ROOT
        *parts, name = whole.relative_to(self.root).parts
        for part in parts:
            if part not in self._folders[number]:
                return None  # the call will fail
            number = self._folders[number][part]
        return number, name

    def _fsync(self, call: Callable[[], Any], descriptor: int) -> Any:
        self._look()
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        place = self._place(path)
        result = call()
        if place is not None:
            self.operations.append(Sync(self._folders[place[0]][place[1]]))
        elif path == self.root:
            self.operations.append(Sync(ROOT))
        return result

    def _one_name(self, what: str) -> Callable[..., Any]:
        def record(call: Callable[[], Any], path: Any, *_: Any, dir_fd: int | None = None) -> Any:
            place = self._place(path, dir_fd)
            self._look()
            result = call()
            if place is not None:
                self._name(what, {place: self._new(True) if what == "mkdir" else None})
            return result

        return record

    def _two_names(self, what: str) -> Callable[..., Any]:
        def record(call: Callable[[], Any], one: Any, other: Any) -> Any:
            first, second = self._place(one), self._place(other)
            self._look()
            result = call()
            if first is not None and second is not None:
                number = self._folders[first[0]][first[1]]
                self._name(what, {first: None, second: number})
            return result

        return record

    def _exchanged(self, call: Callable[[], Any], one: Path, other: Path) -> Any:
        if not self._exchange:
            return False
        first, second = self._place(one), self._place(other)
        self._look()
        result = call()
        if result and first is not None and second is not None:
            numbers = [self._folders[folder][name] for folder, name in (first, second)]
            self._name("exchange", {first: numbers[1], second: numbers[0]})
        return result


def _calling(record: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    def recorded(*arguments: Any, **options: Any) -> Any:
        plain = {name: value for name, value in options.items() if name == "dir_fd"}
        return record(lambda: call(*arguments, **options), *arguments, **plain)

    return recorded


# ---------------------------------------------------------------- rebuilding

Tree = dict[str, bytes | None]
"""Files with their contents, and folders (None), by path."""


@dataclass(frozen=True)
class State:
    """A disk after a power failure."""

    point: int  # operations requested before the failure
    tree: Tree


class Disk:
    """All disks that a record may have left."""

    def __init__(self, record: Recorder) -> None:
        self._record = record
        self.operations = record.operations

    def saved(self, point: int) -> tuple[Any, Any]:
        """Return the version whose save returned last, and the next one; None if there is none."""
        versions = [op.version for op in self.operations if isinstance(op, Returned)]
        done = sum(isinstance(op, Returned) for op in self.operations[:point])
        last = versions[done - 1] if done else None
        return last, versions[done] if done < len(versions) else last

    def pending(self, point: int) -> list[int]:
        """Return the operations before a point that no fsync has made durable."""
        return [
            index
            for index, operation in enumerate(self.operations[:point])
            if isinstance(operation, Names | Write) and not self._sure(index, operation, point)
        ]

    def _sure(self, place: int, operation: Names | Write, point: int) -> bool:
        needed = operation.folders if isinstance(operation, Names) else {operation.file}
        later = self.operations[place + 1 : point]
        return needed <= {op.thing for op in later if isinstance(op, Sync)}

    def rebuilt(self, point: int, fates: dict[int, str], chance: random.Random) -> State:
        """Return the disk if each pending operation is "kept", "lost", "torn" or "zeros"."""
        folders = {number: dict(names) for number, names in self._record.folders.items()}
        contents = dict(self._record.contents)
        contents |= dict.fromkeys(self._record.made, b"")
        for index, operation in enumerate(self.operations[:point]):
            fate = fates.get(index, "kept")
            if isinstance(operation, Names) and fate != "lost":
                if any(
                    folders.get(folder, {}).get(name) != number
                    for (folder, name), number in operation.before.items()
                ):
                    continue  # what it needs was lost
                for (folder, name), number in operation.after.items():
                    names = folders.setdefault(folder, {})
                    if number is None:
                        names.pop(name, None)
                    else:
                        names[name] = number
            elif isinstance(operation, Write) and fate != "lost":
                data = operation.data
                if fate == "torn":
                    data = data[: chance.randrange(len(data) + 1)]
                elif fate == "zeros":
                    data = bytes(len(data))
                contents[operation.file] = data
        return State(point, dict(self._paths(folders, contents, ROOT, "")))

    def _paths(
        self,
        folders: dict[int, dict[str, int]],
        contents: dict[int, bytes],
        number: int,
        above: str,
    ) -> Iterator[tuple[str, bytes | None]]:
        for name, inner in folders.get(number, {}).items():
            path = above + name
            if inner in contents:
                yield path, contents[inner]
            else:
                yield path, None
                yield from self._paths(folders, contents, inner, path + "/")

    def states(self, count: int, chance: random.Random) -> Iterator[State]:
        """Yield `count` disks: the plain ones of each point in random order, then random ones."""
        plain = list(self._plain())
        chance.shuffle(plain)
        for point, fates in plain[:count]:
            yield self.rebuilt(point, fates, chance)
        for _ in range(count - len(plain)):
            point = chance.randrange(len(self.operations) + 1)
            ways = ["kept", "lost", "torn", "zeros"]
            fates = {index: chance.choice(ways) for index in self.pending(point)}
            yield self.rebuilt(point, fates, chance)

    def _plain(self) -> Iterator[tuple[int, dict[int, str]]]:
        """Yield, at each point: all pending operations kept, none, all but one, and one alone."""
        for point in range(len(self.operations) + 1):
            pending = self.pending(point)
            for usual, odd in (("kept", "lost"), ("lost", "kept")):
                usually = dict.fromkeys(pending, usual)
                yield point, usually
                for index in pending:
                    yield point, usually | {index: odd}


def written(tree: Tree, folder: Path) -> None:
    """Write a disk into an empty folder."""
    for name, data in tree.items():
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)


# ---------------------------------------------------------------- what must hold


@dataclass
class Case:
    """A record, and its check: `check` raises an error if something was lost."""

    name: str
    disk: Disk
    check: Callable[[Path, State], None]
    states: int = 0
    disks: set[tuple[Any, ...]] = field(default_factory=set)
    losses: list[str] = field(default_factory=list)

    def try_state(self, state: State, folder: Path) -> None:
        """Rebuild a disk and check it, unless an equal disk has been checked."""
        self.states += 1
        last, _ = self.disk.saved(state.point)
        key = (id(last), *sorted(state.tree.items()))
        if key in self.disks:
            return
        self.disks.add(key)
        disk_folder = folder / "disk"
        disk_folder.mkdir()
        try:
            written(state.tree, disk_folder)
            self.check(disk_folder, state)
        except (ChargenError, AssertionError, OSError) as error:
            done = [str(op)[:100] for op in self.disk.operations[: state.point]]
            self.losses.append(f"{self.name}, after {done[-1:]}: {type(error).__name__}: {error}")
        finally:
            shutil.rmtree(disk_folder)


def small(number: int) -> Checkpoint:
    """Return a small checkpoint with a training state."""
    return Checkpoint(
        "language-model",
        documents={"config": {"number": number}, "training/state": {"step": number}},
        tensors={
            "model": {"weight": torch.full((3, 2), float(number))},
            "training/optimizer": {"mean": torch.arange(number + 4)},
        },
    )


def log(number: int) -> list[str]:
    return [f'{{"step": {step}}}' for step in range(number + 1)]


def found_version(directory: Path, disk: Disk, state: State) -> Any:
    """Return the intact checkpoint, the last one saved or the next one; None if there is none."""
    last, following = disk.saved(state.point)
    if last is None and not checkpoint.exists(directory):
        refuse_to_overwrite(directory, force=False)  # a run may begin
        return None
    stored = checkpoint.load(directory, training=True)
    for version, rows in filter(None, (last, following)):
        if checkpoint.file_contents(stored) == version:
            assert checkpoint.read_metrics(directory, 10**9) == rows, "rows of the log"
            return stored
    raise AssertionError("another checkpoint")


def check_checkpoint(directory: Path, disk: Disk, state: State, notes: bytes | None) -> None:
    """Check log and notes, and that the next save keeps the notes and leaves nothing else."""
    stored = found_version(directory, disk, state)
    if notes is not None:
        assert stored is not None
        assert (stored.path / NOTES).read_bytes() == notes, "the notes"
    checkpoint.check_writable(directory)
    checkpoint.save(directory, small(99), metrics=log(99))
    assert checkpoint.file_contents(
        checkpoint.load(directory, training=True)
    ) == checkpoint.file_contents(small(99)), "next save"
    if notes is not None:
        assert (directory / NOTES).read_bytes() == notes, "the notes after the next save"
    left = {path.name for path in directory.parent.iterdir()} - {directory.name}
    assert not left, f"left over: {left}"


# ---------------------------------------------------------------- the cases


def saving(
    name: str,
    root: Path,
    target: str,
    prepare: Callable[[Path], None],
    versions: tuple[int, ...],
    *,
    exchange: bool = True,
    notes: bytes | None = None,
) -> Case:
    """Return a case of small saves; `prepare` may write an older checkpoint (0) before."""
    root.mkdir()
    prepare(root)
    record = Recorder(root, exchange=exchange)
    if checkpoint.exists(root / target):
        record.returned((checkpoint.file_contents(small(0)), log(0)))
    with record.recording():
        for number in versions:
            checkpoint.save(root / target, small(number), metrics=log(number))
            record.returned((checkpoint.file_contents(small(number)), log(number)))
    disk = Disk(record)

    def check(place: Path, state: State) -> None:
        with contextlib.ExitStack() as stack:
            if not exchange:
                stack.enter_context(without_exchange())
            check_checkpoint(place / target, disk, state, notes)

    return Case(name, disk, check)


@contextlib.contextmanager
def without_exchange() -> Iterator[None]:
    """Simulate a system that cannot exchange two folders."""
    exchange = directories.exchange
    directories.exchange = lambda *_: False
    try:
        yield
    finally:
        directories.exchange = exchange


def with_notes(root: Path) -> None:
    checkpoint.save(root / "run", small(0), metrics=log(0))
    (root / "run" / NOTES).write_bytes(NOTES_TEXT)


def after_a_kill(root: Path) -> None:
    with_notes(root)
    for role in ("writing", "previous"):
        (root / f".run.{role}" / "training").mkdir(parents=True)
        (root / f".run.{role}" / "manifest.json").write_text("{")


def between_renames(root: Path) -> None:
    with_notes(root)
    (root / "run").rename(root / ".run.previous")


def small_cases(folder: Path) -> Iterator[Case]:
    """Yield all cases except the training run."""
    yield whole_file(folder / "file")
    yield saving("first save", folder / "first", "new/deep/run", lambda _: None, (1, 2))
    for way, exchange in (("exchange", True), ("two renames", False)):
        for name, prepare in (
            ("over an older one", with_notes),
            ("over what a kill left", after_a_kill),
            ("over what a cut left", between_renames),
        ):
            root = folder / f"{name} {exchange}"
            options: dict[str, Any] = {"exchange": exchange, "notes": NOTES_TEXT}
            yield saving(f"{name}, {way}", root, "run", prepare, (1, 2), **options)


def whole_file(root: Path) -> Case:
    """Return a case that writes a file over an older one."""
    root.mkdir()
    (root / "out.txt").write_bytes(b"old")
    record = Recorder(root)
    record.returned(b"old")
    with record.recording():
        write_file(str(root / "out.txt"), b"something new")
        record.returned(b"something new")
    disk = Disk(record)

    def check(place: Path, state: State) -> None:
        assert (place / "out.txt").read_bytes() in disk.saved(state.point), "the file"

    return Case("a whole file", disk, check)


def training(folder: Path) -> Case:
    """Return the case of a training run, from its first call to its end."""
    text, root = folder / "fox.txt", folder / "training"
    text.write_text(TEXT)
    root.mkdir()
    record, save = Recorder(root), checkpoint.save

    def told(directory: Path, stored: Checkpoint, *, metrics: list[str]) -> None:
        save(directory, stored, metrics=metrics)
        # The metrics are copied, because the log grows.
        record.returned((checkpoint.file_contents(stored), list(metrics)))

    checkpoint.save = told  # type: ignore[assignment]
    try:
        with record.recording():
            chargen.train(text, root / "run", **OPTIONS)
    finally:
        checkpoint.save = save
    disk, seen = Disk(record), set()
    whole = checkpoint.load(root / "run", training=True).tensors

    def check(place: Path, state: State) -> None:
        stored = found_version(place / "run", disk, state)
        if stored is None:
            return
        beside = tuple(sorted(path.name for path in place.iterdir()))
        key = (stored.document("training/state")["progress"]["step"], beside)
        if key in seen:
            return
        seen.add(key)
        chargen.resume(place / "run")
        tensors = checkpoint.load(place / "run", training=True).tensors
        for name, group in whole.items():
            for key, value in group.items():
                assert torch.equal(tensors[name][key], value), f"{name} {key} after going on"

    return Case("a run of training", disk, check)


# ---------------------------------------------------------------- all of them


def run(states: int, seed: int, folder: Path) -> dict[str, Any]:
    """Check `states` states in total, the same number in each case."""
    began, cpu = time.perf_counter(), time.process_time()
    os.environ["CHARGEN_CACHE_DIR"] = str(folder / "cache")
    fsync = os.fsync
    os.fsync = lambda _: None  # syncs are only recorded, because no power fails here
    try:
        cases = [*small_cases(folder), training(folder)]
        for index, case in enumerate(cases):
            share = states // len(cases) + (index < states % len(cases))
            for state in case.disk.states(share, random.Random(seed + index)):
                case.try_state(state, folder)
    finally:
        os.fsync = fsync
    losses = [loss for case in cases for loss in case.losses]
    counted = Counter({case.name: case.states for case in cases})
    return {
        "states": counted.total(),
        "disks": sum(len(case.disks) for case in cases),
        "cases": {
            case.name: {
                "operations": len(case.disk.operations),
                "states": case.states,
                "disks": len(case.disks),
                "lost": len(case.losses),
            }
            for case in cases
        },
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "seconds": round(time.perf_counter() - began, 1),
        "losses": losses[:20],
        "lost": len(losses),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--states", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run_and_report(
        lambda folder: run(arguments.states, arguments.seed, folder),
        "power",
        "lost",
        arguments.json,
    )


if __name__ == "__main__":
    main()
