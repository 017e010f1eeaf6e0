"""The device that computes, its threads, and modules without memory."""

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
    """The device called `name`; auto is cuda where there is one, else cpu."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
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


def device_of(config: Any, ranks: Ranks | None = None) -> torch.device:
    """The device of a run, or of this rank of it, with its threads set."""
    set_threads(config.threads)
    ranks = ranks or Ranks()
    return ranks.together(lambda: choose_device(ranks.device_name(config.device)))


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": str(torch.__version__)}
