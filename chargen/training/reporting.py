"""Log and progress of a run: the library calls these methods, and the command line shows them."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from chargen.errors import ConfigError, MissingExtraError
from chargen.storage.directories import real_path

MAX_ROWS = 20_000
"""Maximum number of rows in a run's log, whatever the length of the run."""


class Log:
    """Rows about a run, for people and plots, as lines of JSON.

    If there are too many rows, every second row with a loss is dropped, and every second of the
    others if that is not enough: the log becomes coarser. What is dropped depends on the rows
    alone, so a run that was interrupted keeps the same rows as one that was not.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self.lines = list(lines)
        self._followers: list[Callable[[Mapping[str, Any]], None]] = []

    def follow(self, follower: Callable[[Mapping[str, Any]], None]) -> None:
        """Call `follower` with each row that is added from now on."""
        self._followers.append(follower)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; a value that is not finite becomes null, because JSON has no NaN."""
        plain = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
        }
        self.lines.append(json.dumps(plain))
        for follower in self._followers:
            follower(plain)
        if len(self.lines) > MAX_ROWS:
            self._thin("loss")
        if len(self.lines) > MAX_ROWS:
            self._thin("step")

    def _thin(self, key: str) -> None:
        seen = 0
        kept = []
        for line in self.lines:
            chosen = f'"{key}":' in line
            if not chosen or seen % 2 == 0:
                kept.append(line)
            seen += chosen
        self.lines = kept


_POSITION_KEYS = ("step", "epoch", "characters", "seconds", "valid_characters", "final_characters")


@contextlib.contextmanager
def log_to_tensorboard(
    log: Log, folder: str | Path | None, run: Path, first_step: int = 0
) -> Iterator[None]:
    """Write each new row of a run's log to TensorBoard event files too.

    They lie in a folder inside `folder` that has the name of the run's directory. When a run is
    continued, what an earlier attempt wrote from `first_step` on is discarded.
    """
    if folder is None:
        yield
        return
    directory = Path(folder) / run.name
    if real_path(directory).is_relative_to(real_path(run)):
        raise ConfigError(
            f"--tensorboard: {directory} is in {run}, which is replaced at each checkpoint: choose "
            "another folder"
        )
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("--tensorboard", "tensorboard") from error
    try:
        writer: Any = SummaryWriter(str(directory), purge_step=first_step or None)
    except (OSError, UnicodeEncodeError) as error:  # TensorBoard takes no path that is not UTF-8
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"--tensorboard: {directory}: {reason}") from error

    def write(row: Mapping[str, Any]) -> None:
        """Write each figure of a row as a scalar at the row's step."""
        for key, value in row.items():
            if (
                key in _POSITION_KEYS
                or isinstance(value, bool)
                or not isinstance(value, int | float)
            ):
                continue
            kind, _, rest = key.partition("_")
            tag = f"{kind}/{rest}" if kind in ("valid", "final", "train") else f"train/{key}"
            writer.add_scalar(tag, value, row["step"])

    with contextlib.closing(writer):
        log.follow(write)
        yield


class Reporter:
    """Receives the progress of a run and ignores it; subclasses show it."""

    def note(self, text: str) -> None:
        """Receive a sentence for the user."""

    def stage(self, name: str, done: int, total: int) -> None:
        """Receive the progress of a preparation such as encoding: `done` of `total` bytes."""

    def step(self, progress: float, metrics: Mapping[str, Any]) -> None:
        """Receive the end of a step; `progress` is the used share of the budget, 0 to 1."""

    def evaluated(self, metrics: Mapping[str, Any], sample: str | None) -> None:
        """Receive the result of an evaluation; `sample` is a text that the model then wrote."""

    def close(self) -> None:
        """Receive the end of training in steps; a run that adapts its encoder trains twice."""
