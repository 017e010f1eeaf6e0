"""What a long-running job tells: the library calls these methods, the command line shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def log_line(row: Mapping[str, Any]) -> str:
    """A row of a log as JSON, which has no NaN: a value that is not finite is null."""
    return json.dumps(
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    )


class Reporter:
    """Hears what happens and says nothing; subclasses show it."""

    def note(self, text: str) -> None:
        """Something the user should know, a sentence."""

    def stage(self, name: str, done: int, total: int) -> None:
        """Preparation, such as encoding: `done` of `total` bytes."""

    def step(self, progress: float, metrics: Mapping[str, Any]) -> None:
        """A training step ended; `progress` is the used share of the budget, 0 to 1."""

    def evaluated(self, metrics: Mapping[str, Any], sample: str | None) -> None:
        """The validation text was read; `sample` is text drawn just then."""

    def close(self) -> None:
        """Nothing more will come."""
