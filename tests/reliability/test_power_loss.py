"""Power that fails during a save: the short form of `benchmarks/power_loss.py`."""

from __future__ import annotations

import os
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chargen.storage import checkpoint, directories, whole_files

from .loading import benchmark

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="needs /proc, to know what a descriptor is"
)


@pytest.fixture(scope="module")
def power() -> ModuleType:
    return benchmark("power_loss")


@pytest.fixture(autouse=True)
def own_cache_and_no_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARGEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "fsync", nothing)  # it is recorded all the same


def test_no_state_of_the_disk_loses_anything(power: ModuleType, tmp_path: Path) -> None:
    found = power.run(450, 1, tmp_path)
    assert found["losses"] == []
    assert found["states"] == 450
    assert found["disks"] > 150
    assert all(case["disks"] > 3 for case in found["cases"].values())


def nothing(*_: Any) -> None:
    """Syncs nothing."""


def unsynced_directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


FORGOTTEN = {
    "files": (checkpoint, "sync_file"),
    "names and notes": (checkpoint, "sync_path"),
    "the exchange": (directories, "sync_path"),
    "a whole file": (whole_files, "sync_file"),
    "new folders": (checkpoint, "make_directory"),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_a_sync_that_is_forgotten_is_found(
    what: str, power: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = FORGOTTEN[what]
    made = name == "make_directory"
    monkeypatch.setattr(owner, name, unsynced_directory if made else nothing)
    for case in power.small_cases(tmp_path):
        for state in case.disk.states(60, random.Random(2)):
            case.try_state(state, tmp_path)
            if case.losses:
                return
    pytest.fail("nothing was lost")


def test_what_is_kept_and_lost(power: ModuleType, tmp_path: Path) -> None:
    record = power.Recorder(tmp_path)
    with record.recording():
        (tmp_path / "a").mkdir()
        directories.sync_path(tmp_path)
        for name in ("one", "two"):
            (tmp_path / "a" / name).write_text(name)
        with (tmp_path / "a" / "one").open("rb") as file:
            directories.sync_file(file)
        (tmp_path / "a" / "two").rename(tmp_path / "two")
        record.returned("all")
    disk = power.Disk(record)
    trees = {frozenset(state.tree.items()) for state in disk.states(2000, random.Random(0))}
    assert frozenset() in trees
    whole = {"a": None, "a/one": b"one", "two": b"two"}
    assert frozenset(whole.items()) in trees
    contents = {b"", b"t", b"tw", b"two", b"\0\0\0"}
    point = len(disk.operations)
    assert disk.rebuilt(point, {}, random.Random(0)).tree == whole
    lost = dict.fromkeys(disk.pending(point), "lost")
    assert disk.rebuilt(point, lost, random.Random(0)).tree == {"a": None}
    for tree in map(dict, trees):
        # A name may be lost though its file was synced; its place is one or the other.
        assert not {"a/two", "two"} <= tree.keys()
        for path, data in tree.items():
            if path.endswith("two"):
                assert data in contents
