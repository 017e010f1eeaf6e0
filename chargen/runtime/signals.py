"""Ctrl-C and SIGTERM end a loop after its step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Protocol


class Stoppable(Protocol):
    """A loop that looks at `stop_requested` after each step."""

    stop_requested: bool


@contextlib.contextmanager
def stopping_softly(job: Stoppable) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run after the step; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        if job.stop_requested:
            raise KeyboardInterrupt
        job.stop_requested = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
