"""Text generation: one text or a batch, complete or streamed, reproducible by seed.

A text depends only on the model, the prompt, the options and its seed, streamed or not. In a batch,
each text has its own random numbers, and the decoder gives each row the same logits in any batch;
texts that have ended leave the batch.
(Between a batch and a single text, rounding changes a probability by about 1e-7, so that about one
character in a million differs. A decoder in bfloat16 draws other texts in a batch.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import ArrayLike

from chargen.errors import ConfigError, VocabularyError
from chargen.options import check_argument
from chargen.runtime.seeds import new_seed
from chargen.sampling.config import SamplingConfig
from chargen.sampling.decoder import Decoder
from chargen.sampling.detokenizer import Detokenizer, forbidden_ids
from chargen.sampling.filters import (
    REPETITION_WINDOW,
    Ids,
    Logits,
    Mask,
    Uniforms,
    build_filter,
    draw,
    log_probability,
)
from chargen.text.config import matching_label
from chargen.text.vocabulary import Vocabulary

_MAX_PENDING_LOGITS = 2**14
"""Number of logits that are kept before the log-probabilities of the drawn ids are computed."""


@dataclass(frozen=True)
class Sample:
    """One text that a model wrote.

    Attributes
    ----------
    text : str
        The new text, without the prompt.
    log_probs : tuple of float
        Natural log-probability of each character of `text` under the model, before any filter.
    seed : int
        Sampling with this seed reproduces the text.
    ended : str
        Why the text ended: ``"length"``, ``"end"`` (the model ended the document) or ``"stop"`` (a
        stop text occurred); empty while the text is being written (`watch`).
    """

    text: str
    log_probs: tuple[float, ...]
    seed: int
    ended: str


def encode_prompt(
    vocabulary: Vocabulary, text: str, config: SamplingConfig
) -> tuple[ArrayLike, str]:
    """Return the ids of a prompt, and its characters that the model has never seen.

    The ids begin with the id of ``config.label``. ``config.unknown`` specifies what becomes of
    unseen characters: with ``"error"`` they raise a `ConfigError`, as does an unknown label.
    """
    keep = "skip" if config.unknown == "skip" else "replace"
    ids, unknown = vocabulary.encode_prompt(text, keep)
    if config.label is not None:
        try:
            symbol = vocabulary.label_symbol(matching_label(config.label, vocabulary.labels))
        except VocabularyError as error:
            raise ConfigError(f"--label: {error}") from error
        ids = np.concatenate([vocabulary.encode(symbol), ids])
    if unknown and config.unknown == "error":
        raise ConfigError(
            f"--prompt has characters that the model has never seen: {unknown!r} "
            "(use --unknown replace or --unknown skip)"
        )
    return ids, unknown


def generate(
    decoder: Decoder,
    vocabulary: Vocabulary,
    prompt: ArrayLike,
    config: SamplingConfig,
    num_samples: int = 1,
) -> list[Sample]:
    """Write `num_samples` texts as one batch; text ``i`` has seed ``config.seed + i`` or a new one.

    `prompt` contains the ids (T,) of complete characters and may be empty. The state of the decoder
    is neither used nor changed. Raises `ChargenError` if the model's predictions are not numbers.
    """
    check_argument("--num-samples", num_samples, int, low=1)
    if config.seed is not None and config.seed + num_samples > 2**63:
        raise ConfigError(
            f"--seed is too large for {num_samples} consecutive seeds, got {config.seed}"
        )
    outputs = _detokenizers(vocabulary, config, num_samples)
    for _ in _write(decoder, vocabulary, prompt, config, outputs):
        pass
    return [_to_sample(output) for output in outputs]


def stream(
    decoder: Decoder, vocabulary: Vocabulary, prompt: ArrayLike, config: SamplingConfig
) -> Iterator[str]:
    """Write one text and yield it as it is drawn, in pieces of complete characters.

    Together the pieces are the text that `generate` returns. See `generate` for the arguments.
    """
    outputs = _detokenizers(vocabulary, config, 1)
    for piece in _write(decoder, vocabulary, prompt, config, outputs):
        if piece:
            yield piece


def watch(
    decoder: Decoder,
    vocabulary: Vocabulary,
    prompt: ArrayLike,
    config: SamplingConfig,
    seconds: float = 0.1,
) -> Iterator[Sample]:
    """Write one text; every `seconds`, yield the text so far with its log-probabilities.

    The last sample is the one that `generate` returns. See `generate` for the other arguments.
    """
    (output,) = outputs = _detokenizers(vocabulary, config, 1)
    shown_at = time.monotonic()
    for _ in _write(decoder, vocabulary, prompt, config, outputs, max_pending_logits=0):
        if time.monotonic() - shown_at >= seconds and not output.ended:
            yield _to_sample(output)
            shown_at = time.monotonic()
    yield _to_sample(output)


def _detokenizers(vocabulary: Vocabulary, config: SamplingConfig, count: int) -> list[Detokenizer]:
    @cache
    def character(i: int) -> str:
        return vocabulary.decode([i])

    seed = new_seed() if config.seed is None else config.seed
    return [Detokenizer(vocabulary, config, seed + i, character) for i in range(count)]


def _to_sample(output: Detokenizer) -> Sample:
    text = output.text
    # Characters of a stop text were drawn and have log-probabilities, but are not in the text.
    return Sample(text, tuple(output.log_probs[: len(text)]), output.seed, output.ended or "")


def _write(
    decoder: Decoder,
    vocabulary: Vocabulary,
    prompt: ArrayLike,
    config: SamplingConfig,
    outputs: Sequence[Detokenizer],
    max_pending_logits: int = _MAX_PENDING_LOGITS,
) -> Iterator[str]:
    """Draw until every stream has ended; at each step, yield the new text of the first stream."""
    context = np.concatenate([[vocabulary.start_id], np.asarray(prompt)]).astype(np.int64)
    live = [output for output in outputs if output.ended is None]
    if not live:
        return
    decoder = decoder.clone()
    logits = decoder.prefill(torch.from_numpy(context)).cpu().numpy()
    if len(live) > 1:
        decoder.select([0] * len(live))
        logits = logits.repeat(len(live), axis=0)
    apply = build_filter(config)
    excluded = _excluded_ids(vocabulary)
    recent = _RecentIds(context, len(live)) if config.repetition_penalty != 1 else None
    uniforms = Uniforms([output.seed for output in live])
    pending: list[tuple[Logits, Ids]] = []
    while True:
        logits = logits.astype(np.float64)
        mask = excluded[[output.utf8_state for output in live]] if excluded.ndim > 1 else excluded
        filtered = apply(logits, mask, None if recent is None else recent.ids)
        ids = draw(filtered, next(uniforms))
        pending.append((logits, ids))
        pieces = [output.feed(i) for output, i in zip(live, ids.tolist(), strict=True)]
        ended = any(output.ended for output in live)
        if ended or len(pending) * logits.size >= max_pending_logits:
            _add_log_probs(live, pending)
        if live[0] is outputs[0]:
            yield pieces[0]
        if ended:
            rows = [row for row, output in enumerate(live) if output.ended is None]
            live = [live[row] for row in rows]
            if not live:
                return
            decoder.select(rows)
            uniforms.select(rows)
            ids = ids[rows]
            if recent is not None:
                recent.select(rows)
        if recent is not None:
            recent.add(ids)
        logits = decoder.step(torch.from_numpy(ids)).cpu().numpy()


def _add_log_probs(outputs: Sequence[Detokenizer], steps: list[tuple[Logits, Ids]]) -> None:
    """Pass the log-probabilities of the ids in `steps` to their streams, and clear `steps`."""
    logits = np.concatenate([logits for logits, _ in steps])
    ids = np.concatenate([ids for _, ids in steps])
    log_probs = log_probability(logits, ids).reshape(len(steps), len(outputs))
    for output, column in zip(outputs, log_probs.T.tolist(), strict=True):
        output.add_log_probs(column)
    steps.clear()


def _excluded_ids(vocabulary: Vocabulary) -> Mask:
    """Return a mask of the ids that may not be drawn: (V,), or (states, V) for bytes of UTF-8.

    They are the symbols that are not text and, by state, the bytes that break a character.
    """
    never = np.zeros(vocabulary.size, dtype=np.bool_)
    never[vocabulary.never_sampled] = True
    return forbidden_ids(vocabulary.size) | never if vocabulary.level == "byte" else never


class _RecentIds:
    """The last ids of each stream, for the repetition penalty."""

    def __init__(self, context: Ids, batch_size: int) -> None:
        last = context[-REPETITION_WINDOW:]
        # A short context is padded with its own first id, so that the set of ids stays the same.
        filled = np.concatenate([np.full(REPETITION_WINDOW - len(last), last[0]), last])
        self.ids = np.tile(filled, (batch_size, 1))  # (B, W)
        self._oldest = 0

    def add(self, ids: Ids) -> None:
        """Replace the oldest ids by `ids` (B,)."""
        self.ids[:, self._oldest] = ids
        self._oldest = (self._oldest + 1) % REPETITION_WINDOW

    def select(self, rows: Sequence[int]) -> None:
        """Keep only these streams."""
        self.ids = self.ids[list(rows)]
