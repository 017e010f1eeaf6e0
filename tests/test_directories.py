"""Nobody sees half of a directory or file, and a failure leaves what was there."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from chargen.errors import CorpusError
from chargen.storage import directories
from chargen.storage.directories import replace_directory, sync_file, sync_path
from chargen.storage.whole_files import write_file


def names(path: Path) -> list[str]:
    """What lies in a folder, hidden things too."""
    return sorted(entry.name for entry in path.iterdir())


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of replacing; the first only where the system has it."""
    if request.param == "two renames":
        monkeypatch.setattr(directories, "exchange", lambda *_: False)
    return str(request.param)


def test_replaces_what_was_there(way: str, tmp_path: Path) -> None:
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old")
    replace_directory(new, target, tmp_path / "previous")
    assert names(tmp_path) == ["target"]
    assert (target / "file").read_text() == "new"


def test_first_one(way: str, tmp_path: Path) -> None:
    new = folder(tmp_path / "new", "new")
    replace_directory(new, tmp_path / "target", tmp_path / "previous")
    assert names(tmp_path) == ["target"]
    assert (tmp_path / "target" / "file").read_text() == "new"


@pytest.mark.parametrize("target_exists", [False, True])
def test_leftovers_of_a_crash_are_cleared(way: str, target_exists: bool, tmp_path: Path) -> None:
    new, previous = folder(tmp_path / "new", "new"), folder(tmp_path / "previous", "older")
    if target_exists:
        folder(tmp_path / "target", "old")
    replace_directory(new, tmp_path / "target", previous)
    assert names(tmp_path) == ["target"]
    assert (tmp_path / "target" / "file").read_text() == "new"


def test_target_always_exists_while_it_is_exchanged(tmp_path: Path) -> None:
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old")
    if not directories.exchange(new, target):
        pytest.skip("this system cannot exchange two names")
    assert (target / "file").read_text() == "new"
    assert (new / "file").read_text() == "old"


def test_a_failing_rename_leaves_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "exchange", lambda *_: False)
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old")
    rename = Path.rename

    def failing(self: Path, other: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match=r"(?i)input/output"):
        replace_directory(new, target, tmp_path / "previous")
    assert (target / "file").read_text() == "old"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system call is Linux's")
def test_an_exchange_that_fails_is_an_error(tmp_path: Path) -> None:
    folder(tmp_path / "target", "old")
    with pytest.raises(FileNotFoundError):
        directories.exchange(tmp_path / "missing", tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "old"


def test_other_systems_do_not_try_to_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old")
    assert not directories.exchange(new, target)
    assert (target / "file").read_text() == "old"


def test_syncing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with (tmp_path / "file").open("wb") as file:
        file.write(b"text")
        sync_file(file)
        assert (tmp_path / "file").read_bytes() == b"text"  # flushed, too
        assert synced == [file.fileno()]
    sync_path(tmp_path)
    assert len(synced) == (1 if sys.platform == "win32" else 2)


@pytest.mark.skipif(sys.platform == "win32", reason="directories are not synced there")
@pytest.mark.parametrize("call", ["open", "fsync"])
def test_a_directory_that_cannot_be_synced(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems refuse it, and a directory that may only be written cannot be opened."""
    real = getattr(os, call)

    def refusing(place: str | int, *arguments: int) -> int:
        if stat.S_ISDIR(os.stat(place).st_mode):  # noqa: PTH116  it may be a descriptor
            number = errno.EACCES if call == "open" else errno.EINVAL
            raise OSError(number, os.strerror(number))
        result: int = real(place, *arguments)
        return result

    monkeypatch.setattr(os, call, refusing)
    write_file(str(tmp_path / "file"), b"text")
    assert (tmp_path / "file").read_bytes() == b"text"
    sync_path(tmp_path / "file")
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "target", "old")
    replace_directory(new, target, tmp_path / "previous")
    assert (target / "file").read_text() == "new"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(mode)
    before = (tmp_path / "file").stat().st_mode
    write_file(str(tmp_path / "file"), b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_mode == before


@pytest.mark.parametrize("name", ["x" * 250, "x" * 300, "file/within", "missing/file"])
def test_a_file_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(CorpusError, match=r"cannot be written: \w"):
        write_file(str(tmp_path / name), b"new")
    assert names(tmp_path) == ["file"]
