"""Named pipes that can be read once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_once(pipe: Path, text: str) -> Iterator[None]:
    """Make a named pipe that holds `text` for its first reader, and nothing for a second one."""
    os.mkfifo(pipe)

    def write() -> None:
        for content in (text, ""):
            pipe.write_text(content)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    yield
    second = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer.join()
    os.close(second)
