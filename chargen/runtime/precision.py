"""Choose the precision of matrix products by timing which is faster on this machine."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from chargen.errors import ConfigError
from chargen.options import PRECISION, check_argument


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which products use `precision`; parameters stay float32."""
    return torch.autocast(
        device.type,
        dtype=torch.bfloat16,
        enabled=precision == "bfloat16",
        # Weights change at each step, but under no_grad a cached cast would outlive the step.
        cache_enabled=False,
    )


TIMED_STEPS = 5
"""Number of timed steps per precision; the fastest counts."""


@dataclass(frozen=True)
class PrecisionChoice:
    """The chosen precision, the reason (a clause for messages) and the time of a trial step."""

    name: str
    reason: str
    seconds_per_step: float


def choose_precision(
    requested: str, device: torch.device, trial_step: Callable[[], object]
) -> PrecisionChoice:
    """Resolve a precision ("auto", "float32" or "bfloat16") by timing some training steps.

    On a CPU, the time is the processor time of this thread, which waits for the other threads, so
    that a busy machine is not mistaken for a slow one. Raises `ConfigError` for another precision,
    or if bfloat16 was requested and does not work here.
    """
    check_argument("--precision", requested, str, choices=PRECISION.metadata["choices"])
    clock = time.thread_time if device.type == "cpu" else time.perf_counter

    def fastest(precision: str) -> float:
        best = float("inf")
        for _ in range(1 + TIMED_STEPS):  # the first call includes set-up
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
        bf16 = fastest("bfloat16")
    except RuntimeError as error:  # oneDNN: "could not create a primitive descriptor"
        reason = f"bfloat16 does not work here: {str(error).splitlines()[0]}"
        if requested == "bfloat16":
            raise ConfigError(f"--precision {reason}") from error
        return PrecisionChoice("float32", reason, fastest("float32"))
    if requested == "bfloat16":
        return PrecisionChoice("bfloat16", "as asked", bf16)
    fp32 = fastest("float32")
    if fp32 / bf16 < 1.1:
        reason = f"bfloat16 would only be {fp32 / bf16:.2f} times as fast here"
        return PrecisionChoice("float32", reason, fp32)
    return PrecisionChoice("bfloat16", f"{fp32 / bf16:.1f} times as fast as float32 here", bf16)


def run_precision(config: Any, device: torch.device, *, timed: bool) -> PrecisionChoice:
    """Choose the precision of a run from its configuration, or by timing.

    Timing takes a second, so float32 is timed only if the speed is used afterwards (`timed`).
    """
    # Timing may choose differently the next time, which --deterministic rules out.
    repeatable = config.deterministic and config.precision == "auto"
    requested = "float32" if repeatable else config.precision
    if requested == "float32" and not timed:
        choice = PrecisionChoice("float32", "as asked", math.inf)
    else:
        choice = choose_precision(requested, device, reference_step(device))
    return replace(choice, reason="for --deterministic") if repeatable else choice


def inference_precision(requested: str, device: torch.device) -> str:
    """Return the precision for inference as `choose_precision` does; float32 needs no timing."""
    if requested == "float32":
        return requested
    return choose_precision(requested, device, reference_step(device)).name


_HIDDEN, _EMBEDDING, _BATCH, _WINDOW = 512, 128, 32, 64
REFERENCE_FLOPS = 6.0 * 4 * _HIDDEN * (_HIDDEN + _EMBEDDING) * _BATCH * _WINDOW
"""FLOPs of a reference step: 6 per weight of the four gates and per character."""


def reference_step(device: torch.device) -> Callable[[], None]:
    """Return a function that runs an LSTM layer forward and backward, to measure the machine."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay the same
        layer = nn.LSTM(_EMBEDDING, _HIDDEN).to(device)
    inputs = torch.randn(_WINDOW, _BATCH, _EMBEDDING, generator=generator).to(device)

    def step() -> None:
        layer.zero_grad()
        outputs, _ = layer(inputs)
        outputs.float().sum().backward()

    return step
