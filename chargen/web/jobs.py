"""Training for the page: one run at a time, in a separate process.

The page stays responsive while a model is trained, and a run that crashes affects nothing else. The
run reports through a pipe; a cancelled run keeps its checkpoint, as after Ctrl-C.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import shlex
import signal
import sys
import threading
import time
import unicodedata
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
"""Time between two points of the curve."""

MOST_POINTS = 400
"""Most points of a curve; when there are more, every second point is removed."""

_NAME = re.compile(r"[\w][\w .-]*")


@dataclass
class Job:
    """A run as the page shows it, updated by the thread that receives its messages."""

    name: str
    # "preparing", "training", "finished", "stopped" (it can be resumed), "failed"
    state: str = "preparing"
    progress: float = 0.0  # share of the time used, 0 to 1
    # (characters read, bits per character)
    training: list[tuple[int, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    sample: str = ""  # the latest sample
    notes: list[str] = field(default_factory=list)  # the choices that the run made, and why
    message: str = ""  # a sentence on how the run ended
    num_messages: int = 0  # number of messages received

    @property
    def ended(self) -> bool:
        return self.state in ("finished", "stopped", "failed")

    def update(self, kind: str, values: Mapping[str, Any]) -> None:
        """Update the job from a message of the run."""
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
        self.num_messages += 1


class JobRunner:
    """Trains models into a folder, one at a time, and keeps each text beside its checkpoint."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.job: Job | None = None
        self._lock = threading.Lock()
        # A fork would copy the server with its threads and locks.
        self._processes = multiprocessing.get_context("spawn")
        self._stop = self._processes.Event()
        self._listener: threading.Thread | None = None

    def start(self, name: str, text: str, **options: Any) -> Job:
        """Start training on a text, saved as ``NAME.txt``, with options of `chargen.train`.

        Raises `ConfigError` if the name is taken or invalid, the text is empty, another run is in
        progress or the folder cannot be made, and `CorpusError` if the text cannot be saved.
        """
        name = name.strip()
        # Marks are parts of letters, as are the vowel signs of Hindi and Thai, but not in \w.
        letters = "".join(c for c in name if not unicodedata.category(c).startswith("M"))
        if not _NAME.fullmatch(letters) or len(name) > 80 or name.endswith("."):
            raise ConfigError(
                "the name of a model may contain letters, digits, spaces and . _ - (at most 80)"
            )
        if not text.strip():
            raise ConfigError("there is no text: paste one, or choose files")
        with self._lock:
            if self.job is not None and not self.job.ended:
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
            incoming, outgoing = self._processes.Pipe(duplex=False)
            process = self._processes.Process(
                target=_run, args=(outgoing, self._stop, str(kept), str(out), options)
            )
            process.start()
            outgoing.close()  # only the child then holds this end, so that its exit ends `listen`
            job = self.job = Job(name)

            def listen() -> None:
                _receive_messages(incoming, process, job)
                if not exists(out):
                    kept.unlink(missing_ok=True)  # no checkpoint needs it; this frees the name

            self._listener = threading.Thread(target=listen, daemon=True)
            self._listener.start()
            return job

    def cancel(self) -> None:
        """Stop the run after its current step, with a checkpoint."""
        self._stop.set()

    def close(self) -> None:
        """Cancel the run, and wait until its checkpoint is written."""
        self.cancel()
        if self._listener is not None:
            self._listener.join()


def _receive_messages(pipe: Connection, process: Any, job: Job) -> None:
    while True:
        try:
            kind, values = pipe.recv()
        except (EOFError, OSError):
            break
        job.update(kind, values)
    process.join()
    if not job.ended:
        words = f"the run ended without an error message (exit code {process.exitcode})"
        job.update("end", {"state": "failed", "message": words, "sample": ""})


# ---------------------------------------------------------------- in the run's process


class _JobReporter(Reporter):
    """Reports to a pipe, and stops the run on request or when the pipe has no reader."""

    def __init__(self, pipe: Connection, stop: Any) -> None:
        self._pipe = pipe
        self._stop = stop
        self._stopping = False
        self._reported_at = time.monotonic()
        self._losses: list[float] = []
        self._characters = 0

    def report(self, kind: str, **values: Any) -> None:
        try:
            self._pipe.send((kind, values))
        except OSError:
            self._stop.set()  # the server is gone

    def _check_stop(self) -> None:
        if self._stop.is_set() and not self._stopping:
            self._stopping = True
            signal.raise_signal(signal.SIGINT)  # like Ctrl-C: after the step, with a checkpoint

    def note(self, text: str) -> None:
        self.report("note", text=text)
        self._check_stop()

    def stage(self, name: str, done: int, total: int) -> None:
        self._check_stop()

    def step(self, progress: float, metrics: Mapping[str, Any]) -> None:
        self._check_stop()
        self._characters = metrics["characters"]
        if math.isfinite(metrics["loss"]):
            self._losses.append(metrics["loss"])
        now = time.monotonic()
        if not self._losses or now - self._reported_at < STEP_SECONDS:
            return
        bits = sum(self._losses) / len(self._losses) / math.log(2)
        self.report("step", progress=progress, characters=self._characters, bits=bits)
        self._losses.clear()
        self._reported_at = now

    def evaluated(self, metrics: Mapping[str, Any], sample: str | None) -> None:
        bits = metrics.get("valid_bits")
        self.report("evaluated", characters=self._characters, bits=bits, sample=sample)


def _run(pipe: Connection, stop: Any, corpus: str, out: str, options: dict[str, Any]) -> None:
    if sys.platform != "win32":
        # Ctrl-C in a terminal reaches a whole process group. The server stops the run; a second
        # signal would end it without a checkpoint.
        os.setpgrp()
    reporter = _JobReporter(pipe, stop)
    state, message, sample = "failed", "", ""
    try:
        from chargen.training.run import train

        run = train(corpus, out, reporter=reporter, **options)
        state, sample = ("finished" if run.finished else "stopped"), run.sample
        message = f"{run.steps:,} steps in {run.seconds:.0f} s"
        if run.valid_bits is not None:
            message += f", {run.valid_bits:.3f} bits per character on held-out text"
        if not run.finished:
            message += f"; continue with: chargen train --resume {shlex.quote(out)}"
    except KeyboardInterrupt:
        message = "cancelled before anything was learnt"
    except MemoryError:
        message = "there is not enough memory"
    except (ChargenError, OSError) as error:
        message = str(error)
    reporter.report("end", state=state, message=message, sample=sample)
