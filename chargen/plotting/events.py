"""The rows of a run's log as event files of TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chargen.errors import ConfigError, MissingExtraError

_PLACE = ("step", "epoch", "characters", "seconds", "valid_characters", "final_characters")


class Events:
    """Writes each row as scalars at its step; give it to `chargen.training.reporting.Log.follow`.

    Of a run that goes on, what an earlier try wrote from `first_step` on counts no more.
    """

    def __init__(self, directory: Path, first_step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("--tensorboard", "tensorboard") from error
        try:
            self._writer: Any = SummaryWriter(str(directory), purge_step=first_step or None)
        except OSError as error:
            raise ConfigError(f"--tensorboard: {directory}: {error.strerror}") from error

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Write a row."""
        for key, value in row.items():
            if key in _PLACE or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            kind, _, rest = key.partition("_")
            tag = f"{kind}/{rest}" if kind in ("valid", "final", "train") else f"train/{key}"
            self._writer.add_scalar(tag, value, row["step"])

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
