"""The training loop: budget, schedule, patience, averaging, best weights, log and checkpoints.

A `Task` defines what a step and an evaluation do; the caller decides where checkpoints are written.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Generic, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from chargen.errors import TrainingError, convert_memory_errors
from chargen.training.optimizers import (
    clip_gradient,
    load_optimizer_tensors,
    optimizer_tensors,
)
from chargen.training.reporting import Log, Reporter
from chargen.training.task import Progress, Task, Tensors
from chargen.training.weight_average import WeightAverage

AnyTask = TypeVar("AnyTask", bound=Task)

LOG_EVERY = 10
"""Steps between two rows of metrics."""

MAX_SKIPPED_STEPS = 10
"""Consecutive steps without a finite loss and gradient after which the run ends."""

CHECKPOINT_SECONDS = 60.0


class Loop(Generic[AnyTask]):
    """One training run of a task.

    On every rank, `save` is called with the loop when a checkpoint is due.

    Attributes
    ----------
    best : dict of str to Tensor
        The weights of the best evaluation, on the CPU; empty until there is one.
    stop_requested : bool
        If set, the run ends after the current step.
    """

    def __init__(
        self,
        task: AnyTask,
        save: Callable[[Loop[AnyTask]], None],
        reporter: Reporter | None = None,
        log: Log | None = None,
    ) -> None:
        self.task = task
        self.save = save
        self.reporter = reporter or Reporter()
        self.log = log or Log()
        self.settings = task.settings()
        self.average = WeightAverage(task.model, self.settings.ema) if self.settings.ema else None
        self.best: dict[str, Tensor] = {}
        self.stop_requested = False
        self._evaluated_at = -1
        self._saved_at = (0, 0.0)

    @property
    def progress(self) -> Progress:
        return self.task.progress

    def run(self) -> None:
        """Train until the budget is used, patience ends, or `stop_requested` is set.

        Raises `TrainingError` after `MAX_SKIPPED_STEPS` consecutive steps without a finite loss, or
        if no evaluation had finite figures, and `OutOfMemoryError` if memory runs out. The last
        checkpoint is kept.
        """
        with convert_memory_errors(self._saved_clause):
            self._run()

    def _run(self) -> None:
        began = time.perf_counter() - self.progress.seconds
        due = self._evaluations_due
        while self._should_continue(began):
            row = self.step(self.task.next_batch())
            if self.progress.step % LOG_EVERY == 0:
                self.log.add(row)
            self.reporter.step(self.share_done, row)
            if self._evaluations_due > due and not self.finished:
                self.evaluate()
            due = self._evaluations_due
            # A finished run is saved only after its last evaluation: resuming does nothing more.
            if self._checkpoint_is_due() and not self.finished:
                self.save_now()
        if self.finished:
            if self._evaluated_at != self.progress.step:
                self.evaluate()
            self.task.ranks.broadcast(self._conclude)
        self.save_now()

    def _should_continue(self, start_time: float) -> bool:
        # Signals and clocks differ between ranks: without agreement, some would wait forever.
        self.progress.seconds, stop = self.task.ranks.agree_on_time_and_stop(
            time.perf_counter() - start_time, self.stop_requested
        )
        return not stop and not self.finished

    def step(self, batch: Any) -> dict[str, Any]:
        """Train on one batch and return a row for the log, with means over all ranks."""
        task, progress, clip = self.task, self.progress, self.settings.clip
        task.model.train()
        factor = self.settings.schedule(self.share_done, progress.step)
        loss, extras = task.loss(batch, factor)
        task.model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = clip_gradient(task.model.parameters(), clip)
        loss_value, norm_value = task.ranks.mean(torch.stack([loss.detach(), norm])).tolist()

        progress.step += 1
        if math.isfinite(loss_value) and math.isfinite(norm_value):
            for optimizer in task.optimizers:
                optimizer.step()
            progress.skipped_in_row = 0
            progress.clipped += clip > 0 and norm_value > clip
            if self.average:
                self.average.update(progress.step)
        else:
            self._skip()
        return {
            "step": progress.step,
            "characters": progress.characters,
            "seconds": round(progress.seconds, 3),
            "loss": loss_value,
            "learning_rate": task.optimizers[0].param_groups[0]["lr"],
            "gradient_norm": norm_value,
            "clipped_share": progress.clipped / progress.step,
            "skipped": progress.skipped,
            **{k: v.item() if isinstance(v, Tensor) else v for k, v in extras.items()},
        }

    def _skip(self) -> None:
        self.progress.skipped += 1
        self.progress.skipped_in_row += 1
        self.task.skipped()
        if self.progress.skipped_in_row >= MAX_SKIPPED_STEPS:
            self.task.ranks.broadcast(
                lambda: self._give_up(f"for {MAX_SKIPPED_STEPS} steps in a row")
            )

    def _give_up(self, when: str) -> NoReturn:
        raise TrainingError(
            f"the loss was not a finite number {when} (step {self.progress.step}): try a smaller "
            f"--learning-rate than {self.settings.learning_rate:g}, or --precision float32; "
            f"{self._saved_clause()}"
        )

    def _saved_clause(self) -> str:
        if not self.saved_step:
            return "no checkpoint had been written"
        return f"the last good checkpoint, step {self.saved_step}, is kept"

    # ---------------------------------------------------------------- budget

    @property
    def share_done(self) -> float:
        """Used share of the budget, 0 to 1."""
        count, end = self.settings.budget
        return float(getattr(self.progress, count) / end)

    @property
    def finished(self) -> bool:
        """Whether the budget is used or patience has ended."""
        patience = self.settings.patience
        return self.share_done >= 1 or (patience is not None and self.progress.stale >= patience)

    def set_budget(self, config: Any) -> None:
        """Continue with the budget, schedule and learning rate of `config`; reset patience."""
        self.task.config = config
        self.settings = self.task.settings()
        self.progress.stale = 0

    # ---------------------------------------------------------------- evaluation

    @property
    def _evaluations_due(self) -> int:
        """Number of evaluations that are due by now."""
        if self.settings.eval_every is not None:
            return self.progress.step // self.settings.eval_every
        return int(self.share_done * self.settings.evaluations)

    def evaluate(self) -> None:
        """Evaluate on rank 0, and keep the weights if they are the best.

        The other ranks take over the progress of rank 0.
        """
        self._evaluated_at = self.progress.step
        self.task.progress = self.task.ranks.broadcast(self._run_evaluation)

    def _run_evaluation(self) -> Progress:
        progress = self.progress
        with self._averaged_weights():
            evaluation = self.task.evaluate()
            if evaluation.keep:
                self.best, progress.best_step = _copied_weights(self.task.model), progress.step
        progress.stale = 0 if evaluation.better else progress.stale + 1
        row = {"step": progress.step, **evaluation.row, "seconds": round(progress.seconds, 3)}
        self.log.add(row)
        self.reporter.evaluated(row, evaluation.text)
        return progress

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Use the averaged weights in evaluation mode, then restore weights, buffers and mode."""
        model = self.task.model
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        if self.average:
            self.average.swap()
        model.eval()
        try:
            yield
        finally:
            model.train()
            for buffer, before in buffers:
                buffer.copy_(before)
            if self.average:
                self.average.swap()

    def _conclude(self) -> None:
        if not self.best:
            self._give_up("at any evaluation")
        model = self.task.model
        last = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(last | self.best)  # a checkpoint omits what only training needs
        model.eval()
        row = self.task.conclude(self.best)
        model.load_state_dict(last)
        model.train()
        if row:
            self.log.add({"step": self.progress.step, **row})

    # ---------------------------------------------------------------- saving and resuming

    def _checkpoint_is_due(self) -> bool:
        step, seconds = self.progress.step, self.progress.seconds
        if self.settings.checkpoint_every is not None:
            return step % self.settings.checkpoint_every == 0
        return seconds - self._saved_at[1] >= CHECKPOINT_SECONDS

    @property
    def saved_step(self) -> int:
        """Step of the last checkpoint; 0 before the first."""
        return self._saved_at[0]

    def save_now(self) -> None:
        self.save(self)
        self._saved_at = (self.progress.step, self.progress.seconds)

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return what an exact continuation needs, as JSON and tensors, gathered on rank 0."""
        document, tensors = self.task.state()
        tensors["model"] = _copied_weights(self.task.model)
        tensors["optimizer"] = optimizer_tensors(*self.task.optimizers)
        if self.average:
            tensors["average"] = dict(self.average.average)
        return {"progress": asdict(self.progress), **document}, tensors

    def restore(self, document: dict[str, Any], tensors: Tensors, best: dict[str, Tensor]) -> None:
        """Continue from what `state` returned, with the best weights so far.

        Errors caused by the state of a different run become a `CheckpointError` in
        `chargen.lm.storage.convert_restore_errors`.
        """
        task = self.task
        task.progress = type(task.progress)(**document["progress"])
        task.model.load_state_dict(tensors["model"])
        load_optimizer_tensors(tensors["optimizer"], *task.optimizers)
        if self.average:
            self.average.load(tensors["average"])
        task.restore(document, tensors)
        self.best = best if self.progress.best_step else {}
        self._saved_at = (self.progress.step, self.progress.seconds)


def _copied_weights(model: nn.Module) -> dict[str, Tensor]:
    """Copy all weights and buffers to the CPU; tied weights become separate copies."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
