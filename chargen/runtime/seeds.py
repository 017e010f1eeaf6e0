"""Random generators: seeded once, kept in a checkpoint, put back."""

from __future__ import annotations

import secrets

import torch


def new_seed() -> int:
    """A seed that nobody chose, short enough to be typed again."""
    return secrets.randbits(32)


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
