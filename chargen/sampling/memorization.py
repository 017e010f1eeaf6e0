"""How much of a training text a model gives back word for word when it is asked to go on.

Knows ids only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.sampling.config import MemorizationConfig
from chargen.sampling.decoder import Decoder

STREAMS = 64
_BLOCK = 1 << 20  # ids looked at together


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
    decoder: Decoder,
    ids: NDArray[np.integer],
    config: MemorizationConfig | None = None,
    *,
    separator_id: int | None = None,
    first_label_id: int | None = None,
) -> Memorization:
    """Let a decoder go on after pieces of `ids`, (N,), and compare with what stands there.

    Each passage is drawn at random; the decoder reads the context before it from its initial
    state and then always takes the likeliest id (Carlini et al. 2023, "Quantifying memorization
    across neural language models").

    Where documents end with `separator_id`, a passage lies in one: which comes next is no text of
    theirs. Ids from `first_label_id` on are labels, which are read in the context, and are neither
    part of a passage nor taken for the likeliest.

    Raises
    ------
    CorpusError
        Where no context and passage fit into the text, or no passage into a document.
    """
    config = config or MemorizationConfig()
    length, context = config.length, config.context
    if len(ids) < context + length:
        raise CorpusError(
            f"the text has {len(ids)} characters; a context and a passage need {context + length}"
        )
    begins, counts = _places(ids, length, context, separator_id, first_label_id)
    places = int(counts.sum())
    if not places:
        raise CorpusError(
            f"no document has {length} characters behind a context of {context}: give a smaller "
            "--length or --context"
        )
    generator = np.random.default_rng(config.seed)
    chosen = np.sort(generator.choice(places, min(config.passages, places), replace=False))
    ends = np.cumsum(counts)
    documents = np.searchsorted(ends, chosen, side="right")
    starts = begins[documents] + chosen - (ends - counts)[documents]
    agreeing = np.concatenate(
        [
            _agreeing(
                decoder, ids, starts[first : first + STREAMS], length, context, first_label_id
            )
            for first in range(0, len(starts), STREAMS)
        ]
    )
    return Memorization(starts, agreeing, length)


def _places(
    ids: NDArray[np.integer],
    length: int,
    context: int,
    separator_id: int | None,
    first_label_id: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where passages may begin: the first place in each document, and how many there are."""
    parts = []
    for first in range(0, len(ids), _BLOCK):
        block = np.asarray(ids[first : first + _BLOCK])
        apart = np.zeros(len(block), bool)
        if separator_id is not None:
            apart |= block == separator_id
        if first_label_id is not None:
            apart |= block >= first_label_id
        parts.append(first + np.flatnonzero(apart))
    between = np.concatenate(parts)
    begins = np.maximum(np.append(0, between + 1), context)
    ends = np.append(between, len(ids))
    return begins, np.maximum(0, ends - length - begins + 1)


def _agreeing(
    decoder: Decoder,
    ids: NDArray[np.integer],
    starts: NDArray[np.int64],
    length: int,
    context: int,
    first_label_id: int | None,
) -> NDArray[np.int64]:
    before = starts + np.arange(-context, 0)[:, None]  # (T, B)
    wanted = ids[starts + np.arange(length)[:, None]]
    logits = decoder.prefill(torch.from_numpy(ids[before].astype(np.int64)))
    agreeing = np.zeros(len(starts), np.int64)
    for step, right in enumerate(wanted):
        drawn = logits[:, :first_label_id].argmax(-1)
        agreeing += (agreeing == step) & (drawn.cpu().numpy() == right)
        if not (agreeing > step).any():
            break
        logits = decoder.step(drawn)
    return agreeing
