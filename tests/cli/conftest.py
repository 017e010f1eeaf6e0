"""The command line through its entry point, in this process or in one of its own."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chargen.cli.main import main
from chargen.runtime import precision
from tests.processes import start

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 120
SMALL = ("--hidden-size", "32", "--batch-size", "4", "--window", "32", "--precision", "float32")


@pytest.fixture(scope="package", autouse=True)
def _one_try_of_a_precision() -> Iterator[None]:
    """Which of them is faster nobody asks here, and more tries would take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "TIMED_STEPS", 0)
        yield


@dataclass
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def chargen(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process."""

    def run(*arguments: object, stdin: str | bytes = b"") -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        capfd.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
            with pytest.raises(SystemExit) as stopped:
                main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def chargen_process() -> Command:
    """Run a command in a process of its own."""

    def run(*arguments: object, stdin: str | bytes = b"") -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        process = start(*arguments, stdin=data)
        out, err = process.communicate(timeout=120)
        assert process.returncode is not None
        return Result(process.returncode, out.decode(), err.decode())

    return run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small text."""
    path = tmp_path_factory.mktemp("corpus") / "fox.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a model that knows the small text nearly by heart."""
    out = tmp_path_factory.mktemp("trained") / "fox"
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(corpus), "--out", str(out), "--steps", "150", "--quiet", *SMALL])
    assert stopped.value.code == 0
    return out
