"""Measurement of how much training text a model repeats verbatim; it works on ids alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.sampling.config import MemorizationConfig
from chargen.sampling.decoder import Decoder
from chargen.sampling.filters import require_finite

STREAMS = 64
_BLOCK = 1 << 20  # ids that are searched at a time


@dataclass(frozen=True)
class Memorization:
    """How much of each passage greedy sampling reproduced."""

    # (N,) int64: position in the text at which each passage begins, after its context
    starts: NDArray[np.int64]
    # (N,) int64: number of ids of each passage before the first that differed
    agreeing: NDArray[np.int64]
    length: int  # number of ids in a passage

    @property
    def share(self) -> float:
        """Share of the passages that were reproduced completely."""
        return float((self.agreeing == self.length).mean())

    @property
    def mean_agreeing(self) -> float:
        """Mean number of ids before the first that differed."""
        return float(self.agreeing.mean())


def memorization(
    decoder: Decoder,
    ids: NDArray[np.integer],
    config: MemorizationConfig | None = None,
    *,
    separator_id: int | None = None,
    first_label_id: int | None = None,
    unknown_id: int | None = None,
) -> Memorization:
    """Let a decoder continue `ids` (N,) from random positions, and compare the result with `ids`.

    For each passage, the decoder starts from its initial state, reads the context before the
    passage, and then always takes the likeliest id (Carlini et al. 2023, "Quantifying memorization
    across neural language models").

    If documents end with `separator_id`, each passage lies within one document, because the order
    of documents is not part of their text. Ids from `first_label_id` on are labels: the decoder
    reads them in a context, but they are not part of a passage and are never predicted. Nor is
    `unknown_id`, which no model writes: a passage with an unknown character is not reproduced.

    Raises
    ------
    CorpusError
        If the text is too short for a context and a passage, or every document for a passage.
    ChargenError
        If the model's predictions are not numbers.
    """
    config = config or MemorizationConfig()
    length, context = config.length, config.context
    if len(ids) < context + length:
        raise CorpusError(
            f"the text has {len(ids)} characters; a context and a passage need {context + length}"
        )
    begins, counts = _possible_starts(ids, length, context, separator_id, first_label_id)
    num_starts = int(counts.sum())
    if not num_starts:
        raise CorpusError(
            f"no document has {length} characters after a context of {context}: give a smaller "
            "--length or --context"
        )
    generator = np.random.default_rng(config.seed)
    chosen = np.sort(generator.choice(num_starts, min(config.passages, num_starts), replace=False))
    ends = np.cumsum(counts)
    documents = np.searchsorted(ends, chosen, side="right")
    starts = begins[documents] + chosen - (ends - counts)[documents]
    agreeing = np.concatenate(
        [
            _count_agreeing(
                decoder,
                ids,
                starts[first : first + STREAMS],
                length,
                context,
                first_label_id,
                unknown_id,
            )
            for first in range(0, len(starts), STREAMS)
        ]
    )
    return Memorization(starts, agreeing, length)


def _possible_starts(
    ids: NDArray[np.integer],
    length: int,
    context: int,
    separator_id: int | None,
    first_label_id: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first possible start of a passage in each document, and the number of starts."""
    parts = []
    for first in range(0, len(ids), _BLOCK):
        block = np.asarray(ids[first : first + _BLOCK])
        special = np.zeros(len(block), bool)
        if separator_id is not None:
            special |= block == separator_id
        if first_label_id is not None:
            special |= block >= first_label_id
        parts.append(first + np.flatnonzero(special))
    boundaries = np.concatenate(parts)
    begins = np.maximum(np.append(0, boundaries + 1), context)
    ends = np.append(boundaries, len(ids))
    return begins, np.maximum(0, ends - length - begins + 1)


def _count_agreeing(
    decoder: Decoder,
    ids: NDArray[np.integer],
    starts: NDArray[np.int64],
    length: int,
    context: int,
    first_label_id: int | None,
    unknown_id: int | None,
) -> NDArray[np.int64]:
    positions = starts + np.arange(-context, 0)[:, None]  # (T, B)
    passages = ids[starts + np.arange(length)[:, None]]
    logits = decoder.prefill(torch.from_numpy(ids[positions].astype(np.int64)))
    agreeing = np.zeros(len(starts), np.int64)
    for step, expected in enumerate(passages):
        require_finite(logits.cpu().numpy())
        if unknown_id is not None:
            logits[:, unknown_id] = -torch.inf
        drawn = logits[:, :first_label_id].argmax(-1)
        agreeing += (agreeing == step) & (drawn.cpu().numpy() == expected)
        if not (agreeing > step).any():
            break
        logits = decoder.step(drawn)
    return agreeing
