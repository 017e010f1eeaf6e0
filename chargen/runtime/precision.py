"""The precision of the products, chosen by trying what the machine does faster."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from chargen.errors import ConfigError


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context in which products run in `precision`; parameters stay float32."""
    return torch.autocast(
        device.type,
        dtype=torch.bfloat16,
        enabled=precision == "bfloat16",
        # Weights change at every step, and a cached cast would outlive the step under no_grad.
        cache_enabled=False,
    )


REPEATS = 5
"""Timed steps for each precision; the fastest counts."""


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision settled on, why (a clause for people), and how long a trial step took."""

    name: str
    reason: str
    seconds_per_step: float


def choose_precision(
    requested: str, device: torch.device, trial_step: Callable[[], object]
) -> PrecisionChoice:
    """Settle --precision ("auto", "float32", "bfloat16") by timing some training steps.

    On a CPU what counts is the processor time of this thread, which waits for the others: so a
    machine that is busy now is not taken for a slow one. Where bfloat16 was demanded and does not
    work here, that is a `ConfigError`.
    """
    clock = time.thread_time if device.type == "cpu" else time.perf_counter

    def fastest(precision: str) -> float:
        best = float("inf")
        for _ in range(1 + REPEATS):  # the first call also pays for set-up
            started = clock()
            with autocast(device, precision):
                trial_step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, clock() - started)
        return best

    if requested == "float32":
        return PrecisionChoice("float32", "as asked", fastest("float32"))
    try:
        half = fastest("bfloat16")
    except RuntimeError as error:  # oneDNN: "could not create a primitive descriptor"
        reason = f"bfloat16 does not work here: {str(error).splitlines()[0]}"
        if requested == "bfloat16":
            raise ConfigError(f"--precision {reason}") from error
        return PrecisionChoice("float32", reason, fastest("float32"))
    if requested == "bfloat16":
        return PrecisionChoice("bfloat16", "as asked", half)
    single = fastest("float32")
    if single / half < 1.1:
        reason = f"bfloat16 would only be {single / half:.2f} times as fast here"
        return PrecisionChoice("float32", reason, single)
    return PrecisionChoice("bfloat16", f"{single / half:.1f} times as fast as float32 here", half)


def precision_of(config: Any, device: torch.device, *, timed: bool) -> PrecisionChoice:
    """The precision of a run: as its configuration asks, or by the stopwatch.

    That takes a second, so float32 is timed only where the speed decides something (`timed`).
    """
    # A choice by stopwatch can fall out differently, which --deterministic rules out.
    sure = config.deterministic and config.precision == "auto"
    requested = "float32" if sure else config.precision
    if requested == "float32" and not timed:
        reason = "as asked" if config.precision == "float32" else "for --deterministic"
        return PrecisionChoice("float32", reason, math.inf)
    return choose_precision(requested, device, reference_step(device))


def reading_precision(requested: str, device: torch.device) -> str:
    """As `choose_precision`, for products that are not trained: float32 asks no stopwatch."""
    if requested == "float32":
        return requested
    return choose_precision(requested, device, reference_step(device)).name


_HIDDEN, _EMBEDDING, _BATCH, _WINDOW = 512, 128, 32, 64
REFERENCE_FLOPS = 6.0 * 4 * _HIDDEN * (_HIDDEN + _EMBEDDING) * _BATCH * _WINDOW
"""Of a reference step: 6 for each weight of the four gates and each character."""


def reference_step(device: torch.device) -> Callable[[], None]:
    """A forward and backward pass of one LSTM layer, for measuring the machine."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.LSTM(_EMBEDDING, _HIDDEN).to(device)
    inputs = torch.randn(_WINDOW, _BATCH, _EMBEDDING, generator=generator).to(device)

    def step() -> None:
        layer.zero_grad()
        outputs, _ = layer(inputs)
        outputs.float().sum().backward()

    return step
