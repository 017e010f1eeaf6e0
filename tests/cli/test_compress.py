"""`chargen compress` and `chargen decompress`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import TEXT, Command

DATA = TEXT[:300].encode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(DATA)
    return path


def test_there_and_back(chargen: Command, trained: Path, file: Path, tmp_path: Path) -> None:
    done = chargen("compress", file, "--model", trained)
    packed = tmp_path / "a.txt.chargen"
    assert done.code == 0
    assert done.err.startswith(f"{len(DATA):,} bytes became {packed.stat().st_size}")
    assert file.read_bytes() == DATA

    done = chargen("decompress", packed, "--model", trained)
    assert (done.code, done.out) == (2, "")
    assert f"{file} exists" in done.err
    # The name does not make it another file: it comes back byte for byte.
    again = tmp_path / "again.gz"
    assert chargen("decompress", packed, "--model", trained, "--output", again).code == 0
    assert again.read_bytes() == DATA
    file.unlink()
    assert chargen("decompress", packed, "--model", trained).code == 0
    assert file.read_bytes() == DATA


def test_through_pipes(chargen_process: Command, trained: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    done = chargen_process("compress", "-", "--model", trained, "--output", packed, stdin=DATA)
    assert (done.code, done.out) == (0, "")
    done = chargen_process(
        "decompress", "-", "--model", trained, "--output", "-", stdin=packed.read_bytes()
    )
    assert (done.code, done.out, done.err) == (0, DATA.decode(), "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compress", "{file}.none"), "cannot be read: No such file"),
        (("compress", "{file}", "--dynamic", "--streams", "2"), "one stream: leave --streams out"),
        (("compress", "{file}", "--streams", "0"), "--streams"),
        (("compress", "{file}", "--output", "{folder}"), "is a folder: name a file"),
        (("decompress", "{file}"), "does not end in .chargen: give --output"),
        (("decompress", "{file}", "--output", "{folder}/b"), "is not a file of chargen compress"),
    ],
)
def test_refusals(
    chargen: Command,
    trained: Path,
    file: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    given = [a.format(file=file, folder=tmp_path) for a in arguments]
    done = chargen(*given, "--model", trained)
    assert done.code in (1, 2)
    assert message in done.err
    assert "Traceback" not in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt"]
