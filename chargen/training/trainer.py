"""The training loop: truncated BPTT with clipping, evaluated, logged, saved, and able to go on.

It knows ids and weights. Where text is drawn, or a checkpoint written, it calls what it was given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chargen.errors import TrainingError
from chargen.lm.batching import Streams, Window
from chargen.lm.config import TrainConfig, settled
from chargen.lm.evaluation import bits, mean_nats
from chargen.lm.model import CharLM
from chargen.lm.optim import (
    WeightAverage,
    clip_gradient,
    learning_rate_factor,
    load_optimizer_tensors,
    make_optimizers,
    optimizer_tensors,
    schedule_factor,
)
from chargen.lm.recipes import Plan
from chargen.lm.recurrent import State, detach
from chargen.runtime.distributed import Ranks
from chargen.runtime.precision import autocast
from chargen.training import carried
from chargen.training.progress import Progress
from chargen.training.reporting import Log, Reporter

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
        Called with this trainer when a checkpoint is due; on every rank.
    sample : callable, optional
        Draws a short text from a model for people to see.
    reporter : Reporter
    ranks : Ranks, optional
        The processes that train this model together, each its own streams; this one alone by
        default.
    log : Log, optional
        What the run was until now.
    separator_id : int, optional
        What ends a document, where documents are kept apart.
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
        ranks: Ranks | None = None,
        log: Log | None = None,
        separator_id: int | None = None,
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
        self.ranks = ranks or Ranks()
        self.device = model.embedding.weight.device
        self.streams = Streams(
            train_ids,
            settled(config.batch_size),
            settled(config.window),
            config.seed,
            config.window_jitter,
            self.ranks.columns(settled(config.batch_size)),
            separator_id if config.shuffle_documents else None,
        )
        self.learning_rate = settled(config.learning_rate)
        self.eval_every = settled(config.eval_every)
        self.optimizers = make_optimizers(model, config, precision)
        self.average = WeightAverage(model, config.ema) if config.ema else None
        self.state = self._fresh_state()
        example = torch.zeros((2, len(self.streams.columns)), dtype=torch.int64).to(self.device)
        self.learner = self.ranks.wrapped(model, example, self.state)
        self.ranks.seed_own(config.seed)
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.log = log or Log()
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
        while self._goes_on(began):
            row = self.step(self.streams.next())
            if self.progress.step % LOG_EVERY == 0:
                self.log.add(row)
            self.reporter.step(self.share_done, row)
            if self.progress.step % self.eval_every == 0 and not self.finished:
                self.evaluate()
            # A finished run is only saved with its last evaluation: resuming it does nothing.
            if self._checkpoint_is_due() and not self.finished:
                self.save_now()
        if self.finished:
            self.evaluate()
            self.ranks.shared(self._measure_best)
        self.save_now()

    def _goes_on(self, began: float) -> bool:
        # Signals and clocks differ between ranks; a decision must not, or they wait for each other.
        self.progress.seconds, stop = self.ranks.agree(
            time.perf_counter() - began, self.stop_requested
        )
        return not stop and not self.finished

    def step(self, window: Window) -> dict[str, Any]:
        """Learn from one window.

        Returns
        -------
        dict
            loss in nats, learning rate, norm of the gradient before clipping, and counts: of all
            ranks together.
        """
        config, progress = self.config, self.progress
        inputs = window.inputs.to(self.device, non_blocking=True)  # (T, B)
        targets = window.targets.to(self.device, non_blocking=True)
        if window.starts_epoch:
            self.state = self._fresh_state()
        rate = self._learning_rate(len(inputs))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

        with autocast(self.device, self.precision):
            logits, state = self.learner(inputs, self.state)  # (T, B, V)
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        # The mean over the ranks is then the mean over the streams, however they are split.
        loss = loss * (len(self.streams.columns) * self.ranks.size / self.streams.batch_size)
        self.model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = clip_gradient(self.model.parameters(), config.clip)
        loss_value, norm_value = self.ranks.mean(torch.stack([loss.detach(), norm])).tolist()

        progress.step += 1
        progress.characters += len(targets) * self.streams.batch_size
        if math.isfinite(loss_value) and math.isfinite(norm_value):
            for optimizer in self.optimizers:
                optimizer.step()
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
        self.state = self._fresh_state()
        if self.progress.skipped_in_row >= GIVE_UP_AFTER:
            self.ranks.shared(lambda: self._give_up(f"for {GIVE_UP_AFTER} steps in a row"))

    def _fresh_state(self) -> State:
        return self.model.initial_state(len(self.streams.columns))

    def _give_up(self, when: str) -> NoReturn:
        kept = (
            "the last good checkpoint is kept"
            if self.saved_step
            else "no checkpoint had been written"
        )
        raise TrainingError(
            f"the loss was not a finite number {when} (step {self.progress.step}): try a smaller "
            f"--learning-rate than {self.learning_rate:g}, or --precision float32; {kept}"
        )

    def _learning_rate(self, length: int) -> float:
        config = self.config
        factor = learning_rate_factor(
            self.share_done,
            self.progress.step,
            settled(config.warmup_steps),
            config.schedule,
            config.cooldown,
        )
        # A shorter window is a smaller sample of the gradient (Merity et al. 2018).
        return self.learning_rate * factor * length / self.streams.window

    @property
    def rate_factor(self) -> float:
        """Share of the highest learning rate that the schedule gives now, warm-up aside."""
        return schedule_factor(self.share_done, self.config.schedule, self.config.cooldown)

    def take_budget(self, config: TrainConfig) -> None:
        """Go on with the budget, schedule and learning rate of `config`; patience begins anew."""
        self.config = config
        self.learning_rate = settled(config.learning_rate)
        self.progress.stale = 0

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

        Only the first `plan.evaluation_characters` are read, the same ones each time; by rank 0,
        and the others take over how the run stands.
        """
        self.progress = self.ranks.shared(self._evaluated)

    def _evaluated(self) -> Progress:
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
        self.log.add(row)
        self.reporter.evaluated(row, text)
        return self.progress

    def _measure_best(self) -> None:
        """The figure of the run: the best weights over the validation text, at most 20 times as
        much of it as on the way.
        """
        if not self.best:
            self._give_up("at any evaluation")
        ids = self.valid_ids[: 20 * self.plan.evaluation_characters]
        if not len(ids):
            return
        last = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.best)
        nats = mean_nats(self.model, ids, self.start_id, EVALUATION_STREAMS)
        self.model.load_state_dict(last)
        self.progress.final_nats = nats
        self.log.add({"step": self.progress.step, "final_nats": nats, "final_characters": len(ids)})

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

    # ---------------------------------------------------------------- saving and going on

    def _checkpoint_is_due(self) -> bool:
        step, seconds = self.progress.step, self.progress.seconds
        if self.config.checkpoint_every is not None:
            return step % self.config.checkpoint_every == 0
        return seconds - self._saved_at[1] >= CHECKPOINT_SECONDS

    @property
    def saved_step(self) -> int:
        """The step of the last checkpoint; 0 before the first."""
        return self._saved_at[0]

    def save_now(self) -> None:
        """Write a checkpoint of this step."""
        self.save(self)
        self._saved_at = (self.progress.step, self.progress.seconds)

    def training_state(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """Everything that going on exactly needs; each rank gives its part to rank 0.

        Returns
        -------
        document : dict
            JSON values.
        tensors : dict of str to dict of str to Tensor
            "model", "optimizer", "generators", "state" and, with EMA, "average".
        """
        document: dict[str, Any] = {
            "progress": asdict(self.progress),
            "streams": self.streams.state(),
        }
        if self.ranks.size > 1:
            document["ranks"] = self.ranks.size
        states, generators = carried.merged(self.ranks, self.state, self.device)
        generators["streams"] = self.streams.generator.get_state()
        tensors = {
            "model": dict(self.model.state_dict()),
            "optimizer": optimizer_tensors(*self.optimizers),
            "generators": generators,
            "state": states,
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
        """Go on where `training_state` was taken, with the best weights so far.

        The number of ranks may be another: then the streams are dealt anew, and dropout draws
        other random numbers.

        Raises
        ------
        ValueError, LookupError, TypeError, RuntimeError
            Where it was taken from another run (see `storage.fitting`).
        """
        self.progress = Progress(**document["progress"])
        self.model.load_state_dict(tensors["model"])
        load_optimizer_tensors(tensors["optimizer"], *self.optimizers)
        if self.average:
            self.average.load(tensors["average"])
        fresh_state = self._fresh_state()
        self.state = carried.dealt(tensors["state"], self.streams.columns, self.device)
        if [(p.shape, p.dtype) for p in self.state] != [(p.shape, p.dtype) for p in fresh_state]:
            raise ValueError("the states of the streams have another shape or type")
        self.streams.restore(document["streams"], tensors["generators"]["streams"])
        # A rank that is new does not draw the numbers again that the run began with.
        fresh = self.config.seed + self.progress.step
        carried.restore_own_generators(self.ranks, tensors["generators"], self.device, fresh)
        self.best = best
        self._saved_at = (self.progress.step, self.progress.seconds)
