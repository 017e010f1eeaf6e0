"""Training for the page: one run at a time, in a process of its own.

The page stays quick while a model is trained, and a run that dies takes nothing else with it. The
run tells what happens through a pipe; a cancelled one keeps its checkpoint, as after Ctrl-C.
"""

from __future__ import annotations

import math
import multiprocessing
import re
import shlex
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from chargen.errors import ChargenError, ConfigError
from chargen.storage.checkpoint import exists
from chargen.storage.whole_files import write_file
from chargen.training.reporting import Reporter

STEP_SECONDS = 0.5
"""Between two points of the curve."""

MOST_POINTS = 400
"""Of a curve; then every second one goes."""

_NAME = re.compile(r"[\w][\w .-]{0,79}")


@dataclass
class Job:
    """A run, as the page shows it. Changed by the thread that listens to it."""

    name: str
    # "preparing", "training", "finished", "stopped" (with a checkpoint to go on with), "failed"
    state: str = "preparing"
    progress: float = 0.0  # the used share of the time, 0 to 1
    # (characters read, bits per character)
    training: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    sample: str = ""  # the last text that was drawn
    notes: list[str] = field(default_factory=list)  # what was chosen, and why
    message: str = ""  # how it ended, a sentence
    news: int = 0  # how often something was heard

    @property
    def over(self) -> bool:
        return self.state in ("finished", "stopped", "failed")

    def hear(self, kind: str, values: Mapping[str, Any]) -> None:
        """Take what the run told."""
        if kind == "note":
            self.notes.append(values["text"])
        elif kind == "step":
            self.state, self.progress = "training", values["progress"]
            self.training.append((values["characters"], values["bits"]))
            if len(self.training) > MOST_POINTS:
                del self.training[1::2]
        elif kind == "evaluated":
            if values["bits"] is not None:
                self.validation.append((values["characters"], values["bits"]))
            self.sample = values["sample"] or self.sample
        elif kind == "end":
            self.state, self.message = values["state"], values["message"]
            self.sample = values["sample"] or self.sample
            if self.state == "finished":
                self.progress = 1.0
        self.news += 1


class JobRunner:
    """Runs trainings into a folder, one at a time, each a checkpoint with its text beside it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.job: Job | None = None
        self._lock = threading.Lock()
        # A fork would copy the server with its threads and locks.
        self._processes = multiprocessing.get_context("spawn")
        self._stop = self._processes.Event()
        self._listener: threading.Thread | None = None

    def start(self, name: str, text: str, **options: Any) -> Job:
        """Begin a run on a text, which is kept as ``NAME.txt``, with options of `chargen.train`.

        Raises `ConfigError` where the name is taken or cannot be one, there is no text, or another
        run goes on; `CorpusError` where the text cannot be kept.
        """
        name = name.strip()
        if not _NAME.fullmatch(name) or name.endswith("."):
            raise ConfigError(
                "the name of a model may contain letters, digits, spaces and . _ - (at most 80)"
            )
        if not text.strip():
            raise ConfigError("there is no text: paste one, or choose files")
        with self._lock:
            if self.job is not None and not self.job.over:
                raise ConfigError(
                    f"{self.job.name} is being trained: wait until it is done, or cancel it"
                )
            out, kept = self.folder / name, self.folder / f"{name}.txt"
            if exists(out) or out.exists() or kept.exists():
                raise ConfigError(f"the name {name} is already used: choose another name")
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"{self.folder} cannot be made: {error.strerror}") from error
            write_file(str(kept), text.encode("utf-8", "replace"))
            self._stop.clear()
            hears, tells = self._processes.Pipe(duplex=False)
            process = self._processes.Process(
                target=_run, args=(tells, self._stop, str(kept), str(out), options)
            )
            process.start()
            tells.close()  # the child's end is then the only one: its death ends the listening
            job = self.job = Job(name)

            def listen() -> None:
                _listen(hears, process, job)
                if not exists(out):
                    kept.unlink(missing_ok=True)  # nothing goes on with it, and the name is free

            self._listener = threading.Thread(target=listen, daemon=True)
            self._listener.start()
            return job

    def cancel(self) -> None:
        """Let the run end after its step and keep what it has."""
        self._stop.set()

    def close(self) -> None:
        """Cancel, and wait until the checkpoint is written."""
        self.cancel()
        if self._listener is not None:
            self._listener.join()


def _listen(pipe: Connection, process: Any, job: Job) -> None:
    while True:
        try:
            kind, values = pipe.recv()
        except (EOFError, OSError):
            break
        job.hear(kind, values)
    process.join()
    if not job.over:
        words = f"the run ended without a word (exit code {process.exitcode})"
        job.hear("end", {"state": "failed", "message": words, "sample": ""})


# ---------------------------------------------------------------- in the run's process


class _Telling(Reporter):
    """Tells a pipe what happens, and ends the run where it was asked to or nobody listens."""

    def __init__(self, pipe: Connection, stop: Any) -> None:
        self._pipe = pipe
        self._stop = stop
        self._stopping = False
        self._told_at = time.monotonic()
        self._losses: list[float] = []
        self._characters = 0

    def tell(self, kind: str, **values: Any) -> None:
        try:
            self._pipe.send((kind, values))
        except OSError:
            self._stop.set()  # the server is gone

    def _look(self) -> None:
        if self._stop.is_set() and not self._stopping:
            self._stopping = True
            signal.raise_signal(signal.SIGINT)  # as if by Ctrl-C: after the step, with a checkpoint

    def note(self, text: str) -> None:
        self.tell("note", text=text)
        self._look()

    def stage(self, name: str, done: int, total: int) -> None:
        self._look()

    def step(self, progress: float, metrics: Mapping[str, Any]) -> None:
        self._look()
        self._characters = metrics["characters"]
        if math.isfinite(metrics["loss"]):
            self._losses.append(metrics["loss"])
        now = time.monotonic()
        if not self._losses or now - self._told_at < STEP_SECONDS:
            return
        bits = sum(self._losses) / len(self._losses) / math.log(2)
        self.tell("step", progress=progress, characters=self._characters, bits=bits)
        self._losses.clear()
        self._told_at = now

    def evaluated(self, metrics: Mapping[str, Any], sample: str | None) -> None:
        bits = metrics.get("valid_bits")
        self.tell("evaluated", characters=self._characters, bits=bits, sample=sample)


def _run(pipe: Connection, stop: Any, corpus: str, out: str, options: dict[str, Any]) -> None:
    reporter = _Telling(pipe, stop)
    state, message, sample = "failed", "", ""
    try:
        from chargen.training.run import train

        run = train(corpus, out, reporter=reporter, **options)
        state, sample = ("finished" if run.finished else "stopped"), run.sample
        message = f"{run.steps:,} steps in {run.seconds:.0f} s"
        if run.valid_bits is not None:
            message += f", {run.valid_bits:.3f} bits per character on text that was held back"
        if not run.finished:
            message += f"; it can go on: chargen train --resume {shlex.quote(out)}"
    except KeyboardInterrupt:
        message = "cancelled before anything was learnt"
    except MemoryError:
        message = "there is not enough memory"
    except (ChargenError, OSError) as error:
        message = str(error)
    reporter.tell("end", state=state, message=message, sample=sample)
