"""`chargen` in a process of its own that need not import torch again.

On Linux one process imports what training needs, and the others are forked from it: with streams,
signals and an exit code of their own, and seconds sooner. Tests of how Python itself begins and
ends start it anew, as `python -m chargen` does.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeAlias

import pytest

FORKS = sys.platform == "linux"  # elsewhere a process that has threads or frameworks cannot fork


def warm_context() -> ForkServerContext | SpawnContext:
    """Where processes come from that need not import torch again, if the system has it."""
    if not FORKS:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["chargen.cli.main", "chargen.training.run", "torch._dynamo", "tests.processes"]
    )
    return context


@contextlib.contextmanager
def warm_processes() -> Iterator[None]:
    """Let `multiprocessing` give that context, whatever it is asked for."""
    context = warm_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda _: context)
        yield


def in_process(function: Callable[..., None], *arguments: Any, **env: str) -> BaseProcess:
    """Call a function of a module in a process that has this one's variables and folder."""
    place = ({**os.environ, **env}, str(Path.cwd()))
    process = warm_context().Process(target=_call, args=(function, arguments, *place), daemon=True)
    process.start()
    return process


def _call(
    function: Callable[..., None], arguments: tuple[Any, ...], env: dict[str, str], folder: str
) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    function(*arguments)


class Forked:
    """As much of `subprocess.Popen` as tests need.

    Standard input is a pipe that holds `stdin`. What is written goes to an open file, `stdout`, or
    to those that `communicate` reads.
    """

    def __init__(
        self, *arguments: object, stdin: bytes = b"", stdout: int | None = None, **env: str
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._places = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        for place in self._places:
            place.touch()
        places = list(map(str, self._places))
        if stdout is not None:
            places[0] = f"/proc/{os.getpid()}/fd/{stdout}"
        reading, writing = multiprocessing.Pipe(duplex=False)
        self._process = in_process(_run, [*map(str, arguments)], reading, *places, **env)
        reading.close()
        with (
            contextlib.suppress(BrokenPipeError),
            os.fdopen(os.dup(writing.fileno()), "wb") as pipe,
        ):
            pipe.write(stdin)
        writing.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        self._process.join(timeout)
        if self._process.is_alive():
            raise subprocess.TimeoutExpired("chargen", timeout or 0)
        out, err = (place.read_bytes() for place in self._places)
        return out, err


def _run(arguments: list[str], stdin: Connection, stdout: str, stderr: str) -> None:
    from chargen.cli.main import main

    os.dup2(stdin.fileno(), 0)
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY), number)
    sys.stdin = io.TextIOWrapper(io.FileIO(0), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w"), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    main(arguments)


Process: TypeAlias = "Forked | subprocess.Popen[bytes]"


def start(*arguments: object, stdin: bytes = b"", stdout: int | None = None, **env: str) -> Process:
    """The command with these arguments; `communicate` gives what it wrote."""
    if FORKS:
        return Forked(*arguments, stdin=stdin, stdout=stdout, **env)
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        return subprocess.Popen(
            [sys.executable, "-m", "chargen", *map(str, arguments)],
            stdin=file,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **env},
        )
