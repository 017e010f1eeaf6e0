"""Readers who have enough, full disks, closed streams, logs: through the real entry point."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest

from chargen.cli import progress
from chargen.cli.main import main
from chargen.cli.sentiment import verdicts
from chargen.storage import checkpoint
from tests.sentiment.models import save_classifier, tiny_classifier

from .conftest import SMALL, Command

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")
MANY = "a fine day\n" * 6_000

COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "help of a command": ["train", "--help"],
    "list": ["corpus", "list"],
    "list as JSON": ["corpus", "list", "--json"],
    "corpus info": ["corpus", "info", "CORPUS"],
    "info": ["info", "MODEL"],
    "sample": ["sample", "MODEL", "--length", "5000", "-q"],
    "predict lines": ["sentiment", "predict", "CLASSIFIER"],
    "predict a table": ["sentiment", "predict", "CLASSIFIER", "--input", "LINES", "-q"],
}


@pytest.fixture(scope="module")
def places(trained: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pipes")
    (folder / "lines.txt").write_text(MANY)
    classifier = save_classifier(tiny_classifier(), folder / "classifier")
    found = {
        "MODEL": trained,
        "CORPUS": corpus,
        "CLASSIFIER": classifier,
        "LINES": folder / "lines.txt",
    }
    return {name: str(path) for name, path in found.items()}


def start(name: str, places: dict[str, str], stdout: int | IO[bytes]) -> subprocess.Popen[bytes]:
    arguments = [places.get(word, word) for word in COMMANDS[name]]
    with Path(places["LINES"]).open("rb") as lines:
        return subprocess.Popen(
            [sys.executable, "-m", "chargen", *arguments],
            stdin=lines,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    error = process.communicate(timeout=300)[1]
    return process.returncode, error.decode()


PROCESSES = ["help", "list as JSON"]
"""Those that are also run in a process of their own, where Python itself ends."""

Here = Callable[[str, IO[str]], tuple[int, str]]


@pytest.fixture
def here(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Here:
    """Run a command in this process, with another stdout: its exit code and what it said."""

    def run(name: str, stdout: IO[str]) -> tuple[int, str]:
        capfd.readouterr()
        with Path(places["LINES"]).open(encoding="utf-8") as lines:
            monkeypatch.setattr(sys, "stdin", lines)
            monkeypatch.setattr(sys, "stdout", stdout)
            with pytest.raises(SystemExit) as stopped:
                main([places.get(word, word) for word in COMMANDS[name]])
        code = stopped.value.code
        assert isinstance(code, int)
        return code, capfd.readouterr().err

    return run


def gone() -> int:
    """A pipe that nobody reads, to write into."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_who_is_gone(name: str, here: Here) -> None:
    with os.fdopen(gone(), "w", encoding="utf-8") as writing:
        assert here(name, writing) == (0, "")


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_whose_reader_is_gone(name: str, places: dict[str, str]) -> None:
    with os.fdopen(gone(), "wb") as writing:
        process = start(name, places, writing)
    assert ended(process) == (0, "")


@pytest.mark.parametrize("name", ["sample", "predict lines", "predict a table"])
def test_a_reader_who_has_enough(name: str, here: Here) -> None:
    reading, writing = os.pipe()

    def leave() -> bytes:
        with os.fdopen(reading, "rb", buffering=0) as stream:
            return stream.read(10)

    with ThreadPoolExecutor(1) as threads, os.fdopen(writing, "w", encoding="utf-8") as stream:
        read = threads.submit(leave)
        assert here(name, stream) == (0, "")
        assert len(read.result()) > 0


@needs_full
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk(name: str, here: Here) -> None:
    full = FULL.open("w", encoding="utf-8")  # closing it would write again
    assert here(name, full) == (1, "chargen: No space left on device\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    full.close()


@needs_full
@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_on_a_full_disk(name: str, places: dict[str, str]) -> None:
    with FULL.open("wb") as full:
        assert ended(start(name, places, full)) == (1, "chargen: No space left on device\n")


def test_a_reader_who_is_gone_ends_no_verification(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = checkpoint.load(trained)
    for tensor in stored.tensors["model"].values():
        tensor.fill_(math.nan)
    checkpoint.save(tmp_path / "broken", stored)
    for directory, code in ((tmp_path / "broken", 1), (trained, 0)):
        with os.fdopen(gone(), "w", encoding="utf-8") as writing:
            monkeypatch.setattr(sys, "stdout", writing)
            with pytest.raises(SystemExit) as stopped:
                main(["verify", str(directory)])
        assert stopped.value.code == code


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    chargen: Command, tmp_path: Path
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    place = next((p for p in (locked, Path("/proc/sys")) if not os.access(p, os.W_OK)), None)
    if place is None:
        pytest.skip("all places can be written")
    (tmp_path / "link.csv").symlink_to(place / "new.csv")
    for output in (place / "new.csv", tmp_path / "link.csv"):
        result = chargen("score", "no-model", "no-text", "--table", output)
        assert result.code == 2
        assert result.err == f"chargen: --table {output}: its folder cannot be written to\n"


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=needs_full)])
def test_a_run_outlives_the_reader_of_its_progress(
    full: bool, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "fox"
    stream = FULL.open("w") if full else os.fdopen(gone(), "w", encoding="utf-8")
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(corpus), "--out", str(out), "--steps", "5", *SMALL])
    assert stopped.value.code == 0
    assert json.loads((out / "config.json").read_text())["results"]["finished"]
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    stream.close()


@pytest.mark.skipif(sys.platform == "win32", reason="sh closes the streams")
@pytest.mark.parametrize(
    ("closed", "printed"), [("<&-", True), (">&-", False), ("2>&-", True), ("<&- >&- 2>&-", False)]
)
def test_closed_streams(closed: str, printed: bool) -> None:
    command = f'"{sys.executable}" -m chargen corpus list {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("python-docs" in done.stdout) == printed


def calm(error: str) -> bool:
    """Whole lines, without what only a terminal understands."""
    return error.endswith("\n") and not re.search(r"[\r\x1b\x08]", error)


@pytest.fixture
def _talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is worth a line."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "STAGE_SECONDS", 0.0)
    monkeypatch.setattr(verdicts, "LINE_SECONDS", 0.0)


@pytest.mark.usefixtures("_talkative")
def test_training_into_a_log(chargen: Command, corpus: Path, tmp_path: Path) -> None:
    result = chargen("train", corpus, "--out", tmp_path / "fox", "--steps", 5, *SMALL)
    assert result.code == 0
    assert calm(result.err)
    assert re.search(r"^step 3, 60%: loss .* left$", result.err, re.M)


@pytest.mark.usefixtures("_talkative")
def test_a_table_into_a_log(chargen: Command, places: dict[str, str], tmp_path: Path) -> None:
    arguments: list[Any] = [places["CLASSIFIER"], "--input", places["LINES"]]
    result = chargen("sentiment", "predict", *arguments, "--output", tmp_path / "out.csv")
    assert result.code == 0
    assert calm(result.err)
    assert re.search(r"^\d+%: [\d,]+ rows, [\d,]+/s$", result.err, re.M)
