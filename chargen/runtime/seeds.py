"""Random generators: seed them, save their states in a checkpoint, and restore them."""

from __future__ import annotations

import os
import secrets

import torch


def new_seed() -> int:
    """Return a random seed, short enough to type again."""
    return secrets.randbits(32)


def sklearn_seed(seed: int) -> int:
    """Return a seed for scikit-learn, whose seeds have 32 bits."""
    return seed % 2**32


def seed_everything(seed: int, deterministic: bool = False) -> None:
    """Seed torch's generators on every device, and rule out nondeterministic kernels if asked."""
    torch.manual_seed(seed)
    if deterministic:  # older releases of torch refuse to use cuBLAS without it
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if torch.are_deterministic_algorithms_enabled() != deterministic:
        torch.use_deterministic_algorithms(deterministic)


def generator_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of torch's generators for the CPU and `device`, for a checkpoint."""
    states = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore the states from `generator_states`, as far as `device` has such a generator."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
