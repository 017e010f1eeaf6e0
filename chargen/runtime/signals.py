"""Handle Ctrl-C and SIGTERM while a job or a command runs."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol


class Stoppable(Protocol):
    """A loop that checks `stop_requested` after each step."""

    stop_requested: bool


def exit_when_terminated() -> contextlib.AbstractContextManager[None]:
    """Exit as after an error, which removes temporary files, on SIGTERM and when a terminal closes.

    A signal that the process ignores, as under nohup, is still ignored.
    """
    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    return _handle(
        [n for n in numbers if n is not None and signal.getsignal(n) is signal.SIG_DFL],
        lambda number: sys.exit(128 + number),
    )


def handle_interrupts(on_interrupt: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    """Call `on_interrupt` on Ctrl-C and SIGTERM while the block runs; only in the main thread."""
    return _handle((signal.SIGINT, signal.SIGTERM), lambda _: on_interrupt())


@contextlib.contextmanager
def _handle(numbers: Iterable[int], handler: Callable[[int], object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda n, _: handler(n)) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def stop_after_step(job: Stoppable) -> contextlib.AbstractContextManager[None]:
    """Stop the job after its step on Ctrl-C or SIGTERM, and at once on a second signal."""

    def stop() -> None:
        if job.stop_requested:
            raise KeyboardInterrupt
        job.stop_requested = True

    return handle_interrupts(stop)
