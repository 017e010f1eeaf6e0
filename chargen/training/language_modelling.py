"""The training task of a language model: truncated BPTT over streams of ids.

This module handles ids and weights only; samples of text come from a function of the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chargen.lm.batching import Streams, Window
from chargen.lm.config import required
from chargen.lm.evaluation import bits, mean_nats
from chargen.lm.model import Network
from chargen.lm.recipes import Plan
from chargen.lm.recurrent import State, detach
from chargen.runtime.distributed import Ranks
from chargen.runtime.precision import autocast
from chargen.runtime.seeds import generator_states, restore_generators
from chargen.training.loss import language_model_loss
from chargen.training.optimizers import make_optimizers
from chargen.training.schedule import learning_rate_factor
from chargen.training.task import Evaluation, Progress, Settings, Task, Tensors

_BLOCK = 1 << 20  # ids that are counted at a time

EVALUATION_STREAMS = 32

FINAL_EVALUATION_FACTOR = 20
"""Text of the last evaluation, as a multiple of that of each evaluation during the run."""

CHECKED_SYMBOLS = 4096
"""Number of symbols of the training text that are scored if there is no validation text."""


@dataclass
class ReadingProgress(Progress):
    """Progress of the training of a language model."""

    best_nats: float | None = None  # per symbol, of the best evaluation so far
    final_nats: float | None = None  # of the best weights, over more text, once the run has ended

    @property
    def reported_nats(self) -> float | None:
        """Nats per symbol of the best weights: the final figure if there is one."""
        return self.best_nats if self.final_nats is None else self.final_nats


class LanguageModelling(Task):
    """The task of training a language model on one corpus.

    Parameters
    ----------
    train_ids, valid_ids : (N,) integers
        Without validation ids, the last weights that can score the training ids count as the best.
    start_id : int
        Symbol that precedes the validation text.
    precision : {"float32", "bfloat16"}
    sample : callable, optional
        Draws a short text from a model, for people to read.
    separator_id : int, optional
        Symbol that ends a document, if documents are kept apart.
    first_label_id : int, optional
        Ids from here on are labels, if documents have any: they are read but not predicted.
    """

    model: Network
    progress: ReadingProgress

    def __init__(
        self,
        model: Network,
        plan: Plan,
        train_ids: NDArray[np.integer],
        valid_ids: NDArray[np.integer],
        start_id: int,
        precision: str,
        sample: Callable[[Network], str] | None = None,
        ranks: Ranks | None = None,
        separator_id: int | None = None,
        first_label_id: int | None = None,
    ) -> None:
        config = plan.train
        self.model = model
        self.plan = plan
        self.config = config
        self.valid_ids = valid_ids
        self.start_id = start_id
        self.first_label_id = first_label_id
        self._predicted_share = _share_below(train_ids, first_label_id)
        self.precision = precision
        self.sample = sample
        self.ranks = ranks or Ranks()
        self.progress = ReadingProgress()
        self.device = model.device
        self.streams = Streams(
            train_ids,
            required(config.batch_size),
            required(config.window),
            config.seed,
            config.window_jitter,
            self.ranks.own_streams(required(config.batch_size)),
            separator_id if config.shuffle_documents else None,
        )
        self.optimizers = make_optimizers(model, config, precision)
        self.hidden = self._fresh_state()  # of the streams, carried from window to window
        # Each network of an ensemble learns from its own errors.
        self._extra_args = (True,) if model.config.num_networks > 1 else ()
        example = torch.zeros((2, len(self.streams.own_streams)), dtype=torch.int64).to(self.device)
        self.learner = self.ranks.data_parallel(model, example, self.hidden)
        self.ranks.seed_rank(config.seed)

    def settings(self) -> Settings:
        config = self.config

        def schedule(share_done: float, step: int) -> float:
            warmup_steps = required(config.warmup_steps)
            return learning_rate_factor(
                share_done, step, warmup_steps, config.schedule, config.cooldown
            )

        return Settings(
            self._budget(),
            schedule,
            required(config.learning_rate),
            config.clip,
            config.ema,
            config.patience,
            required(config.eval_every),
            0,
            config.checkpoint_every,
        )

    def _budget(self) -> tuple[str, float]:
        config = self.config
        if config.steps is not None:
            return "step", config.steps
        if config.epochs is not None:
            return "step", max(1, round(config.epochs * self.streams.windows_per_epoch))
        return "seconds", required(config.minutes) * 60

    # ---------------------------------------------------------------- one step

    def next_batch(self) -> Window:
        return self.streams.next()

    def loss(self, batch: Window, factor: float) -> tuple[Tensor, dict[str, Any]]:
        """Return the mean loss over the streams; keep the hidden state, detached from the past."""
        inputs = batch.inputs.to(self.device, non_blocking=True)  # (T, B)
        targets = batch.targets.to(self.device, non_blocking=True)
        if batch.starts_epoch:
            self.hidden = self._fresh_state()
        # A shorter window samples less of the gradient: its rate is lower (Merity et al. 2018).
        rate = required(self.config.learning_rate) * factor * len(inputs) / self.streams.window
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        with autocast(self.device, self.precision):
            logits, hidden = self.learner(inputs, self.hidden, *self._extra_args)  # (T, N B, V)
        targets = targets.repeat(1, self.model.config.num_networks)
        # Labels are among the targets: divided by the share of the others, the loss is their mean.
        loss = language_model_loss(logits, targets, self.first_label_id) / self._predicted_share
        self.hidden = detach(hidden)
        self.progress.characters += len(targets) * self.streams.batch_size
        # With this factor the mean over ranks is the mean over streams, however they are split.
        loss = loss * (len(self.streams.own_streams) * self.ranks.size / self.streams.batch_size)
        return loss, {"epoch": self.streams.passes}

    def skipped(self) -> None:
        """Reset the hidden state of the streams, which may not be finite either."""
        self.hidden = self._fresh_state()

    def _fresh_state(self) -> State:
        return self.model.initial_state(len(self.streams.own_streams))

    # ---------------------------------------------------------------- evaluation

    def evaluate(self) -> Evaluation:
        """Score the first `plan.evaluation_characters` of the validation text and draw a sample."""
        progress, ids = self.progress, self.valid_ids[: self.plan.evaluation_characters]
        # Without validation text it only matters whether the weights can score a text at all.
        scored = ids if len(ids) else self.streams.ids[:CHECKED_SYMBOLS]
        # Float32 took twice as long for figures that differed by 2e-4 nats. The figure of the run
        # (`conclude`) is computed in float32.
        with autocast(self.device, self.precision):
            nats = self._nats(scored)
        row: dict[str, Any] = {}
        if len(ids):
            row = {"valid_nats": nats, "valid_bits": bits(nats), "valid_characters": len(ids)}
        if not math.isfinite(nats):
            return Evaluation(row, False, False)
        better = not len(ids) or progress.best_nats is None or nats < progress.best_nats
        if better and len(ids):
            progress.best_nats = nats
        return Evaluation(row, better, better, self._draw_sample())

    @property
    def measured_ids(self) -> NDArray[np.integer]:
        """The part of the validation text over which `progress.reported_nats` is the mean."""
        times = 1 if self.progress.final_nats is None else FINAL_EVALUATION_FACTOR
        return self.valid_ids[: times * self.plan.evaluation_characters]

    def _nats(self, ids: NDArray[np.integer]) -> float:
        start, first_label = self.start_id, self.first_label_id
        return mean_nats(self.model, ids, start, EVALUATION_STREAMS, first_label)

    def _draw_sample(self) -> str | None:
        return self.sample(self.model) if self.sample else None

    def conclude(self, best: dict[str, Tensor]) -> dict[str, Any]:
        """Score more of the validation text than in each evaluation."""
        ids = self.valid_ids[: FINAL_EVALUATION_FACTOR * self.plan.evaluation_characters]
        if not len(ids):
            return {}
        nats = self._nats(ids)
        self.progress.final_nats = nats
        return {"final_nats": nats, "final_characters": len(ids)}

    # ---------------------------------------------------------------- resuming

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return the position of the streams, and the ranks' tensors: "state" and "generators"."""
        document: dict[str, Any] = {"streams": self.streams.state()}
        if self.ranks.size > 1:
            document["ranks"] = self.ranks.size
        states, generators = gather_states(self.ranks, self.hidden, self.device)
        generators["streams"] = self.streams.generator.get_state()
        return document, {"generators": generators, "state": states}

    def restore(self, document: dict[str, Any], tensors: Tensors) -> None:
        """Continue from what `state` returned.

        With a different number of ranks the streams are redistributed, and dropout draws other
        random numbers.
        """
        fresh_state = self._fresh_state()
        self.hidden = scatter_states(tensors["state"], self.streams.own_streams, self.device)
        if [(p.shape, p.dtype) for p in self.hidden] != [(p.shape, p.dtype) for p in fresh_state]:
            raise ValueError("the states of the streams have another shape or type")
        self.streams.restore(document["streams"], tensors["generators"]["streams"])
        # A new rank must not repeat the random numbers that the run began with.
        fresh = self.config.seed + self.progress.step
        restore_rank_generators(self.ranks, tensors["generators"], self.device, fresh)


def _share_below(ids: NDArray[np.integer], limit: int | None) -> float:
    """Return the share of `ids` that are below `limit`, read in blocks; 1 without a limit."""
    if limit is None:
        return 1.0
    blocks = (ids[first : first + _BLOCK] for first in range(0, len(ids), _BLOCK))
    return sum(int((block < limit).sum()) for block in blocks) / len(ids)


def gather_states(
    ranks: Ranks, state: State, device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the states and generators of all ranks on rank 0, and only their own on the others.

    States are "0" and, for an LSTM, "1": each (num_layers, B, H) with all B streams in order, so
    that a run can continue with any number of ranks. The generators of rank N are named
    "rankN.name", those of rank 0 "name".
    """
    own = tuple(part.cpu() for part in state), generator_states(device)
    states, generators = zip(*ranks.gather(own), strict=True)
    kept = dict(generators[0])
    for number, tensors in enumerate(generators[1:], start=1):
        kept |= {f"rank{number}.{name}": value for name, value in tensors.items()}
    parts = zip(*states, strict=True)
    return {str(index): torch.cat(part, dim=1) for index, part in enumerate(parts)}, kept


def scatter_states(states: dict[str, Tensor], own_streams: range, device: torch.device) -> State:
    """Return the part of the states from `gather_states` that belongs to a rank's streams."""
    return tuple(
        states[str(index)][:, own_streams.start : own_streams.stop].contiguous().to(device)
        for index in range(len(states))
    )


def restore_rank_generators(
    ranks: Ranks, generators: dict[str, Tensor], device: torch.device, seed: int
) -> None:
    """Restore a rank's generators; a rank without saved ones starts from `seed` and its number."""
    start = f"rank{ranks.rank}." if ranks.rank else ""
    own = {k.removeprefix(start): v for k, v in generators.items() if k.startswith(start)}
    if own:
        restore_generators(own, device)
    else:
        ranks.seed_rank(seed)
