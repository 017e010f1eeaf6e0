"""What a rank carries from step to step: its streams' states and its random generators.

For a checkpoint they are put together, all streams in order, so that a run can go on with any
number of ranks; one process alone leaves what it always left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from chargen.lm.recurrent import State
from chargen.runtime.distributed import Ranks
from chargen.runtime.seeds import generator_states, restore_generators


def merged(
    ranks: Ranks, state: State, device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The states and generators of all ranks, on rank 0; on the others only their own.

    Returns
    -------
    states : dict of str to Tensor
        "0" and, for an LSTM, "1": each (num_layers, B, H) with all B streams.
    generators : dict of str to Tensor
        Rank 0's under their own names, those of rank N as "rankN.name".
    """
    own = tuple(part.cpu() for part in state), generator_states(device)
    states, generators = zip(*ranks.gathered(own), strict=True)
    kept = dict(generators[0])
    for number, others in enumerate(generators[1:], start=1):
        kept |= {f"rank{number}.{name}": value for name, value in others.items()}
    parts = zip(*states, strict=True)
    return {str(index): torch.cat(part, dim=1) for index, part in enumerate(parts)}, kept


def dealt(states: dict[str, Tensor], columns: range, device: torch.device) -> State:
    """A rank's part of the states that `merged` gave: those of its streams."""
    return tuple(
        states[str(index)][:, columns.start : columns.stop].contiguous().to(device)
        for index in range(len(states))
    )


def restore_own_generators(
    ranks: Ranks, generators: dict[str, Tensor], device: torch.device, seed: int
) -> None:
    """Put a rank's generators back; one that had no such rank begins with `seed` and its number."""
    start = f"rank{ranks.rank}." if ranks.rank else ""
    own = {k.removeprefix(start): v for k, v in generators.items() if k.startswith(start)}
    if own:
        restore_generators(own, device)
    else:
        ranks.seed_own(seed)
