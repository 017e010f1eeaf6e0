"""Handle Ctrl-C and SIGTERM while a job runs."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Protocol


class Stoppable(Protocol):
    """A loop that checks `stop_requested` after each step."""

    stop_requested: bool


@contextlib.contextmanager
def handle_interrupts(on_interrupt: Callable[[], None]) -> Iterator[None]:
    """Call `on_interrupt` on Ctrl-C and SIGTERM while the block runs; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: on_interrupt()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_after_step(job: Stoppable) -> contextlib.AbstractContextManager[None]:
    """Stop the job after its step on Ctrl-C or SIGTERM, and at once on a second signal."""

    def stop() -> None:
        if job.stop_requested:
            raise KeyboardInterrupt
        job.stop_requested = True

    return handle_interrupts(stop)
