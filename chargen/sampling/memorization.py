"""How much of a training text a model gives back word for word when it is asked to go on.

Knows ids only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.lm.model import CharLM
from chargen.sampling.config import MemorizationConfig
from chargen.sampling.decoder import Decoder

STREAMS = 64


@dataclass(frozen=True)
class Memorization:
    """What greedy sampling gave back."""

    # (N,) int64: where in the text each passage begins, after its context
    starts: NDArray[np.int64]
    # (N,) int64: how many ids of each passage came before the first that was another
    agreeing: NDArray[np.int64]
    length: int  # ids of a passage

    @property
    def share(self) -> float:
        """Share of the passages that were given back whole."""
        return float((self.agreeing == self.length).mean())

    @property
    def mean_agreeing(self) -> float:
        """Ids until the first that was another, on average."""
        return float(self.agreeing.mean())


def memorization(
    model: CharLM, ids: NDArray[np.integer], config: MemorizationConfig | None = None
) -> Memorization:
    """Let a model go on after pieces of `ids`, (N,), and compare with what stands there.

    Each passage is drawn at random; the model reads the context before it from its initial
    state and then always takes the likeliest id (Carlini et al. 2023, "Quantifying memorization
    across neural language models"). A text that is shorter than a context and a passage is a
    `CorpusError`.
    """
    config = config or MemorizationConfig()
    length, context = config.length, config.context
    places = len(ids) - context - length + 1
    if places < 1:
        raise CorpusError(
            f"the text has {len(ids)} characters; a context and a passage need {context + length}"
        )
    generator = np.random.default_rng(config.seed)
    starts = (
        np.sort(generator.choice(places, min(config.passages, places), replace=False)) + context
    )
    decoder = Decoder(model)
    agreeing = np.concatenate(
        [
            _agreeing(decoder, ids, starts[first : first + STREAMS], length, context)
            for first in range(0, len(starts), STREAMS)
        ]
    )
    return Memorization(starts, agreeing, length)


def _agreeing(
    decoder: Decoder, ids: NDArray[np.integer], starts: NDArray[np.int64], length: int, context: int
) -> NDArray[np.int64]:
    before = starts + np.arange(-context, 0)[:, None]  # (T, B)
    wanted = ids[starts + np.arange(length)[:, None]]
    logits = decoder.prefill(torch.from_numpy(ids[before].astype(np.int64)))
    agreeing = np.zeros(len(starts), np.int64)
    for step, right in enumerate(wanted):
        drawn = logits.argmax(-1)
        agreeing += (agreeing == step) & (drawn.cpu().numpy() == right)
        if not (agreeing > step).any():
            break
        logits = decoder.step(drawn)
    return agreeing
