"""Choose the device and its threads, and create modules without memory."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from chargen.errors import ConfigError
from chargen.runtime.distributed import Ranks


def choose_device(name: str = "auto") -> torch.device:
    """Return the device `name` ("auto": cuda if available, else cpu), or raise `ConfigError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if not isinstance(name, str | int | torch.device):
            raise RuntimeError("it is not the name of a device")
        device = torch.device(name)
        torch.empty(1, device=device)
        if device.type == "meta":
            raise RuntimeError("it cannot store values")
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
    """Create modules in this context with shapes but without memory or initial values.

    Drawing initial values, even for tensors without memory, makes torch import 800 modules, which
    takes a second.
    """
    with torch.device("meta"), _NoInitialisation():
        yield


def set_threads(threads: int | None) -> None:
    """Set the number of CPU threads that torch uses; None keeps torch's default."""
    if threads is not None:
        torch.set_num_threads(threads)


def set_up_device(config: Any, ranks: Ranks | None = None) -> torch.device:
    """Return the device of a run, or of one of its ranks, and set the number of threads."""
    set_threads(config.threads)
    ranks = ranks or Ranks()
    return ranks.on_all_ranks(lambda: choose_device(ranks.device_name(config.device)))


@contextlib.contextmanager
def restored_settings() -> Iterator[None]:
    """Restore torch's threads, generators and choice of kernels afterwards; also a decorator."""
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    cuda: Any = torch.cuda  # partly without types
    devices = range(cuda.device_count()) if cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            if torch.get_deterministic_debug_mode() != deterministic:
                torch.set_deterministic_debug_mode(deterministic)


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": str(torch.__version__)}
