"""What depends on the machine: device, precision, threads, seeds, signals."""

from __future__ import annotations

import contextlib
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .errors import ConfigError


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; auto is cuda where there is one, else cpu.

    Raises
    ------
    ConfigError
        Where torch does not know the name or has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
        if device.type == "meta":
            raise RuntimeError("it holds no values")
    except (ImportError, RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(". ")[0][:200]
        raise ConfigError(f"--device {name} cannot be used: {reason}") from error
    return device


class _NoInitialisation(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Modules made in this context have shapes but neither memory nor initial values.

    Drawing initial values even for tensors without memory makes torch import 800 modules, which
    takes a second.
    """
    with torch.device("meta"), _NoInitialisation():
        yield


def set_threads(threads: int | None) -> None:
    """Let torch use this many processor threads; None leaves its own choice."""
    if threads is not None:
        torch.set_num_threads(threads)


def seed_everything(seed: int, deterministic: bool = False) -> None:
    """Seed torch's generators on every device, on request with deterministic kernels only."""
    torch.manual_seed(seed)
    if torch.are_deterministic_algorithms_enabled() != deterministic:
        torch.use_deterministic_algorithms(deterministic)


def generator_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Where torch's generators of the CPU and of `device` stand, for a checkpoint."""
    states = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put back what `generator_states` gave, as far as `device` has such a generator."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The context in which products run in `precision`; parameters stay float32."""
    return torch.autocast(
        device.type,
        dtype=torch.bfloat16,
        enabled=precision == "bfloat16",
        # Weights change at every step, and a cached cast would outlive the step under no_grad.
        cache_enabled=False,
    )


def asked_precision(precision: str, deterministic: bool) -> str:
    """What to ask `choose_precision` for.

    A choice by stopwatch can fall out differently, which --deterministic rules out.
    """
    return "float32" if deterministic and precision == "auto" else precision


def versions() -> dict[str, str]:
    """Of what a checkpoint was made with."""
    return {"python": platform.python_version(), "torch": str(torch.__version__)}


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision settled on, why (a clause for people), and how long a trial step took."""

    name: str
    reason: str
    seconds_per_step: float


def choose_precision(
    requested: str, device: torch.device, trial_step: Callable[[], object], repeats: int = 5
) -> PrecisionChoice:
    """Settle --precision by trying.

    Parameters
    ----------
    requested : {"auto", "float32", "bfloat16"}
    device : torch.device
    trial_step : callable
        One training step on throw-away gradients.
    repeats : int
        Timed steps for each precision; the fastest counts.

    Raises
    ------
    ConfigError
        Where bfloat16 was demanded and does not work here.
    """

    def fastest(precision: str) -> float:
        best = float("inf")
        for _ in range(1 + repeats):  # the first call also pays for set-up
            started = time.perf_counter()
            with autocast(device, precision):
                trial_step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - started)
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


def reading_precision(requested: str, device: torch.device) -> str:
    """As `choose_precision`, for products that are not trained: float32 asks no stopwatch."""
    if requested == "float32":
        return requested
    return choose_precision(requested, device, reference_step(device)).name


_REFERENCE = {"hidden": 512, "embedding": 128, "batch": 32, "window": 64}
REFERENCE_FLOPS = (
    6.0
    * 4
    * _REFERENCE["hidden"]
    * (_REFERENCE["hidden"] + _REFERENCE["embedding"])
    * _REFERENCE["batch"]
    * _REFERENCE["window"]
)


def reference_step(device: torch.device) -> Callable[[], None]:
    """A forward and backward pass of one LSTM layer, for measuring the machine."""
    sizes = _REFERENCE
    generator = torch.Generator().manual_seed(0)
    layer = nn.LSTM(sizes["embedding"], sizes["hidden"]).to(device)
    inputs = torch.randn(
        sizes["window"], sizes["batch"], sizes["embedding"], generator=generator
    ).to(device)

    def step() -> None:
        layer.zero_grad()
        outputs, _ = layer(inputs)
        outputs.float().sum().backward()

    return step


class Stoppable(Protocol):
    """A loop that looks at `stop_requested` after each step."""

    stop_requested: bool


@contextlib.contextmanager
def stopping_softly(job: Stoppable) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run after the step; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        if job.stop_requested:
            raise KeyboardInterrupt
        job.stop_requested = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
