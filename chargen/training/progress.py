"""Where a training run stands."""

from __future__ import annotations

from dataclasses import dataclass, fields

from chargen.errors import brief

LARGEST = 2.0**63
"""No count, and no number of seconds or nats, is as large."""


@dataclass
class Progress:
    """Where a run stands; all of it goes into the checkpoint. A `Task` may count more.

    Attributes
    ----------
    Raises `ValueError` for what is no number that it could be, naming the field: it may come from a
    file.
    """

    step: int = 0  # optimizer steps done and symbols learnt from, repeats included
    characters: int = 0
    seconds: float = 0.0  # time spent in the loop, over all resumptions
    best_step: int = 0  # of the evaluation whose weights are kept; 0 before there is any
    stale: int = 0  # evaluations since the best one
    clipped: int = 0  # steps whose gradient was clipped; steps without a finite loss or gradient
    skipped: int = 0
    skipped_in_row: int = 0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, default = getattr(self, entry.name), entry.default
            if default is not None and type(default) not in (int, float):
                continue
            allowed = (int,) if type(default) is int else (int, float)
            missing = value is None and default is None
            if not missing and (type(value) not in allowed or not 0 <= value < LARGEST):
                raise ValueError(f"{entry.name} is {brief(value)}")
