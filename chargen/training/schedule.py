"""The learning-rate schedules of language models."""

from __future__ import annotations

import math


def learning_rate_factor(
    progress: float, step: int, warmup_steps: int, schedule: str = "cosine", cooldown: float = 0.2
) -> float:
    """Return the share of the highest learning rate: a linear warm-up, then the schedule."""
    rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return rise * schedule_factor(progress, schedule, cooldown)


def schedule_factor(progress: float, schedule: str, cooldown: float) -> float:
    """Return the share of the highest learning rate after warm-up at `progress`, 0 to 1.

    `progress` is the used share of the budget. The schedule is a cosine to zero (Loshchilov &
    Hutter 2017), or "constant-cooldown": a constant rate that falls linearly to zero over the last
    share `cooldown` of the budget (Zhai et al. 2022; Hägele et al. 2024).
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return min(1.0, max(0.0, 1 - progress) / cooldown)
