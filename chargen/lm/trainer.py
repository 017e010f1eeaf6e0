"""The training loop: truncated BPTT with clipping, evaluated, logged, saved, and able to go on.

It knows ids and weights. Where text is drawn, or a checkpoint written, it calls what it was given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import TrainingError
from ..reporting import Reporter, log_line
from ..runtime import autocast, generator_states, restore_generators
from .batching import Streams, Window
from .config import settled
from .evaluation import bits, mean_nats
from .model import CharLM, detach
from .optim import (
    WeightAverage,
    clip_gradient,
    learning_rate_factor,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
)
from .progress import Progress
from .recipes import Plan

LOG_EVERY = 10
"""Steps between two rows of metrics."""

GIVE_UP_AFTER = 10
"""Steps in a row without a finite loss and gradient."""

EVALUATION_STREAMS = 32
CHECKPOINT_SECONDS = 60.0


class Trainer:
    """One run over one corpus.

    Parameters
    ----------
    model : CharLM
        On its device; its weights are trained in place.
    plan : Plan
    train_ids, valid_ids : (N,) integers
        Validation may be empty: then the last weights count as the best.
    start_id : int
        What validation text is predicted from.
    precision : {"float32", "bfloat16"}
    save : callable
        Called with this trainer when a checkpoint is due.
    sample : callable, optional
        Draws a short text from a model for people to see.
    reporter : Reporter
    """

    def __init__(
        self,
        model: CharLM,
        plan: Plan,
        train_ids: NDArray[np.integer],
        valid_ids: NDArray[np.integer],
        start_id: int,
        precision: str,
        save: Callable[[Trainer], None],
        sample: Callable[[CharLM], str] | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        config = plan.train
        self.model = model
        self.plan = plan
        self.config = config
        self.valid_ids = valid_ids
        self.start_id = start_id
        self.precision = precision
        self.save = save
        self.sample = sample
        self.reporter = reporter or Reporter()
        self.device = model.embedding.weight.device
        self.streams = Streams(
            train_ids,
            settled(config.batch_size),
            settled(config.window),
            config.seed,
            config.window_jitter,
        )
        self.learning_rate = settled(config.learning_rate)
        self.eval_every = settled(config.eval_every)
        self.optimizer = make_optimizer(model, self.learning_rate, settled(config.weight_decay))
        self.average = WeightAverage(model, config.ema) if config.ema else None
        self.state = model.initial_state(self.streams.batch_size)
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.rows: list[str] = []
        self.stop_requested = False
        self._saved_at = (0, 0.0)

    # ---------------------------------------------------------------- the loop

    def run(self) -> None:
        """Train until the budget is used, patience ends, or `stop_requested` is set.

        Raises
        ------
        TrainingError
            Where `GIVE_UP_AFTER` steps in a row had no finite loss; the last checkpoint stays.
        """
        self.model.train()
        began = time.perf_counter() - self.progress.seconds
        while not self.finished and not self.stop_requested:
            window = self.streams.next()
            row = self.step(window)
            self.progress.seconds = time.perf_counter() - began
            if self.progress.step % LOG_EVERY == 0:
                self._log(row)
            self.reporter.step(self.share_done, row)
            if self.progress.step % self.eval_every == 0 and not self.finished:
                self.evaluate()
            # A finished run is only saved with its last evaluation: resuming it does nothing.
            if self._checkpoint_is_due() and not self.finished:
                self.save_now()
            self.progress.seconds = time.perf_counter() - began
        if self.finished:
            self.evaluate()
            if not self.best:
                raise self._diverged("at any evaluation")
            self._measure_best()
        self.save_now()

    def step(self, window: Window) -> dict[str, Any]:
        """Learn from one window.

        Returns
        -------
        dict
            loss in nats, learning rate, norm of the gradient before clipping, and counts.
        """
        config, progress = self.config, self.progress
        inputs = window.inputs.to(self.device, non_blocking=True)  # (T, B)
        targets = window.targets.to(self.device, non_blocking=True)
        if window.starts_epoch:
            self.state = self.model.initial_state(self.streams.batch_size)
        rate = self._learning_rate(len(inputs))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

        with autocast(self.device, self.precision):
            logits, state = self.model(inputs, self.state)  # (T, B, V)
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = clip_gradient(self.model.parameters(), config.clip)
        loss_value, norm_value = torch.stack([loss.detach(), norm]).tolist()

        progress.step += 1
        progress.characters += targets.numel()
        if math.isfinite(loss_value) and math.isfinite(norm_value):
            self.optimizer.step()
            self.state = detach(state)
            progress.skipped_in_row = 0
            progress.clipped += config.clip > 0 and norm_value > config.clip
            if self.average:
                self.average.update(progress.step)
        else:
            self._skip()
        return {
            "step": progress.step,
            "epoch": self.streams.epoch,
            "characters": progress.characters,
            "seconds": round(progress.seconds, 3),
            "loss": loss_value,
            "learning_rate": rate,
            "gradient_norm": norm_value,
            "clipped_share": progress.clipped / progress.step,
            "skipped": progress.skipped,
        }

    def _skip(self) -> None:
        """Leave the weights alone; the state may be spoilt too, so the streams start afresh."""
        self.progress.skipped += 1
        self.progress.skipped_in_row += 1
        self.state = self.model.initial_state(self.streams.batch_size)
        if self.progress.skipped_in_row >= GIVE_UP_AFTER:
            raise self._diverged(f"for {GIVE_UP_AFTER} steps in a row")

    def _diverged(self, when: str) -> TrainingError:
        kept = (
            "the last good checkpoint is kept"
            if self._saved_at[0]
            else "no checkpoint had been written"
        )
        return TrainingError(
            f"the loss was not a finite number {when} (step {self.progress.step}): try a smaller "
            f"--learning-rate than {self.learning_rate:g}, or --precision float32; {kept}"
        )

    def _learning_rate(self, length: int) -> float:
        factor = learning_rate_factor(
            self.share_done, self.progress.step, settled(self.config.warmup_steps)
        )
        # A shorter window is a smaller sample of the gradient (Merity et al. 2018).
        return self.learning_rate * factor * length / self.streams.window

    @property
    def share_done(self) -> float:
        """Used share of the budget, 0 to 1."""
        config, progress = self.config, self.progress
        if config.steps is not None:
            return progress.step / config.steps
        if config.epochs is not None:
            return progress.step / self.total_steps
        return progress.seconds / (settled(config.minutes) * 60)

    @property
    def total_steps(self) -> int:
        """Steps of a budget in epochs."""
        return max(1, round(settled(self.config.epochs) * self.streams.windows_per_epoch))

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        patience = self.config.patience
        return self.share_done >= 1 or (patience is not None and self.progress.stale >= patience)

    # ---------------------------------------------------------------- evaluation

    def evaluate(self) -> None:
        """Read validation text, keep the weights where they are the best, show a sample.

        Only the first `plan.evaluation_characters` are read, the same ones each time.
        """
        ids = self.valid_ids[: self.plan.evaluation_characters]
        if self.average:
            self.average.swap()
        self.model.eval()
        try:
            row: dict[str, Any] = {"step": self.progress.step}
            nats = None
            if len(ids):
                # In float32 this took twice the time, for figures 2e-4 nats apart; the figure of
                # the run (`_measure_best`) is float32.
                with autocast(self.device, self.precision):
                    nats = mean_nats(self.model, ids, self.start_id, EVALUATION_STREAMS)
                row |= {
                    "valid_nats": nats,
                    "valid_bits": bits(nats),
                    "valid_characters": len(ids),
                    "seconds": round(self.progress.seconds, 3),
                }
            self._keep_if_best(nats)
            sane = nats is None or math.isfinite(nats)
            text = self.sample(self.model) if self.sample and sane else None
        finally:
            self.model.train()
            if self.average:
                self.average.swap()
        self._log(row)
        self.reporter.evaluated(row, text)

    def _measure_best(self) -> None:
        """The figure of the run: the best weights over the validation text, at most 20 times as
        much of it as on the way.
        """
        ids = self.valid_ids[: 20 * self.plan.evaluation_characters]
        if not len(ids) or not self.best:
            return
        last = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.best)
        nats = mean_nats(self.model, ids, self.start_id, EVALUATION_STREAMS)
        self.model.load_state_dict(last)
        self.progress.final_nats = nats
        self._log({"step": self.progress.step, "final_nats": nats, "final_characters": len(ids)})

    def _keep_if_best(self, nats: float | None) -> None:
        progress = self.progress
        if nats is not None and not math.isfinite(nats):
            progress.stale += 1
            return
        if nats is None or progress.best_nats is None or nats < progress.best_nats:
            progress.best_nats, progress.best_step, progress.stale = nats, progress.step, 0
            self.best = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        else:
            progress.stale += 1

    def _log(self, row: dict[str, Any]) -> None:
        self.rows.append(log_line(row))

    # ---------------------------------------------------------------- saving and going on

    def _checkpoint_is_due(self) -> bool:
        step, seconds = self.progress.step, self.progress.seconds
        if self.config.checkpoint_every is not None:
            return step % self.config.checkpoint_every == 0
        return seconds - self._saved_at[1] >= CHECKPOINT_SECONDS

    def save_now(self) -> None:
        """Write a checkpoint of this step."""
        self.save(self)
        self._saved_at = (self.progress.step, self.progress.seconds)

    def training_state(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """Everything that going on exactly needs.

        Returns
        -------
        document : dict
            JSON values.
        tensors : dict of str to dict of str to Tensor
            "model", "optimizer", "generators" and, with EMA, "average".
        """
        document = {"progress": asdict(self.progress), "streams": self.streams.state()}
        generators = generator_states(self.device)
        generators["streams"] = self.streams.generator.get_state()
        tensors = {
            "model": dict(self.model.state_dict()),
            "optimizer": optimizer_tensors(self.optimizer),
            "generators": generators,
            "state": {str(index): part for index, part in enumerate(self.state)},
        }
        if self.average:
            tensors["average"] = dict(self.average.average)
        # Tied weights are one tensor under two names, which safetensors refuses.
        tensors["model"] = {k: v.clone() for k, v in tensors["model"].items()}
        return document, tensors

    def restore(
        self,
        document: dict[str, Any],
        tensors: dict[str, dict[str, Tensor]],
        best: dict[str, Tensor],
    ) -> None:
        """Go on where `training_state` was taken, with the best weights so far."""
        self.progress = Progress(**document["progress"])
        self.model.load_state_dict(tensors["model"])
        load_optimizer_tensors(self.optimizer, tensors["optimizer"])
        if self.average:
            self.average.load(tensors["average"])
        self.state = tuple(
            tensors["state"][str(index)].to(self.device) for index in range(len(self.state))
        )
        self.streams.restore(document["streams"], tensors["generators"]["streams"])
        restore_generators(tensors["generators"], self.device)
        self.best = best
        self._saved_at = (self.progress.step, self.progress.seconds)
