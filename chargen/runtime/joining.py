"""How a run gets its ranks: this process alone, or the group that torchrun started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chargen.errors import ConfigError
from chargen.runtime.distributed import Ranks, world_size


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks of this run: those that torchrun started, or this process alone.

    Raises `ConfigError` where torch was built without torch.distributed; `TrainingError` where the
    ranks do not find each other, or one of them stops answering.
    """
    if world_size() == 1:
        yield Ranks()
        return
    import torch.distributed

    if not torch.distributed.is_available():
        raise ConfigError("this build of torch has no torch.distributed: start without torchrun")
    from chargen.runtime.process_group import JoinedRanks

    ranks = JoinedRanks()
    try:
        with ranks.watching():
            yield ranks
            # Not after an error: whoever waits for a dead rank waits here too.
            ranks.close()
    finally:
        ranks.silence()
