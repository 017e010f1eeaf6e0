"""The fine-tuning loop: batches of whole texts, evaluated, logged, saved, and able to go on.

It knows ids, targets and weights. Where a checkpoint is written, it calls what it was given.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chargen.errors import TrainingError
from chargen.lm.optim import (
    WeightAverage,
    clip_gradient,
    load_optimizer_tensors,
    optimizer_tensors,
)
from chargen.runtime.precision import autocast
from chargen.runtime.seeds import generator_states, restore_generators
from chargen.sentiment.batching import EncodedTexts, read_all, shuffled_batches
from chargen.sentiment.config import FinetuneConfig
from chargen.sentiment.network import ClassifierNetwork
from chargen.sentiment.schedule import layer_groups, make_optimizer, set_rates
from chargen.sentiment.storage import load_weights, weights_of
from chargen.training.progress import check_numbers
from chargen.training.reporting import Log, Reporter

LOG_EVERY = 10
GIVE_UP_AFTER = 10
CHECKPOINT_SECONDS = 60.0

STATISTICS_TEXTS = 512
"""Texts from which batch renormalisation's statistics are taken before an evaluation."""

TRUSTED_VALIDATION = 100
"""With fewer validation texts the last weights are kept, not those that were luckiest on them."""


@dataclass
class TuningProgress:
    """Where a run stands; all of it goes into the checkpoint.

    Attributes
    ----------
    step, texts, characters : int
        Optimizer steps done, texts and symbols learnt from, repeats included.
    seconds : float
        Time in the loop, over all resumptions.
    epoch, position : int
        Passes begun, and batches of this one that are done.
    evaluations, stale : int
        Evaluations that were due and done, and those since the best one.
    score : list of float
        Macro-F1 and negative log loss of the best one; empty before there is any.
    best : dict
        Figures of the evaluation whose weights are kept.
    skipped, skipped_in_row : int
        Steps without a finite loss or gradient.
    """

    step: int = 0
    texts: int = 0
    characters: int = 0
    seconds: float = 0.0
    epoch: int = 0
    position: int = 0
    evaluations: int = 0
    stale: int = 0
    score: list[float] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    skipped: int = 0
    skipped_in_row: int = 0

    def __post_init__(self) -> None:
        check_numbers(self)
        if not isinstance(self.best, dict) or any(type(n) is not float for n in self.score):
            raise ValueError("score and best are not those of an evaluation")


@dataclass(frozen=True)
class Labelled:
    """Texts to learn from or to validate on.

    Attributes
    ----------
    encoded : EncodedTexts
    targets : (N, C) float32
        Probabilities of the classes; one-hot where a person labelled.
    weights : (N,) float32
        How much each text counts.
    """

    encoded: EncodedTexts
    targets: Tensor
    weights: Tensor


class Tuner:
    """One fine-tuning run.

    Parameters
    ----------
    network : ClassifierNetwork
        On its device; trained in place.
    train, valid : Labelled
        Validation may be empty.
    config : FinetuneConfig
        With a budget: `minutes` or `epochs`.
    precision : {"float32", "bfloat16"}
    figures : callable
        ``figures(targets (N,), probabilities (N, C))`` to a dict with "macro_f1" and "log_loss".
    save : callable
        Called with this tuner when a checkpoint is due.
    reporter : Reporter
    log : Log, optional
        What the run was until now.
    """

    def __init__(
        self,
        network: ClassifierNetwork,
        train: Labelled,
        valid: Labelled,
        config: FinetuneConfig,
        precision: str,
        figures: Callable[[NDArray[np.int64], NDArray[np.float32]], dict[str, Any]],
        save: Callable[[Tuner], None],
        reporter: Reporter | None = None,
        log: Log | None = None,
    ) -> None:
        self.network = network
        self.train = train
        self.valid = valid
        self.config = config
        self.precision = precision
        self.figures = figures
        self.save = save
        self.reporter = reporter or Reporter()
        self.device = network.temperature.device
        self.groups = layer_groups(network, config)
        self.optimizer = make_optimizer(self.groups, config.weight_decay)
        self.average = WeightAverage(network, config.ema) if config.ema else None
        self.progress = TuningProgress()
        self.best: dict[str, Tensor] = {}
        self.log = log or Log()
        self.stop_requested = False
        self._batches: list[list[int]] = []
        self._evaluated_at = -1
        self._saved_at = 0.0

    # ---------------------------------------------------------------- the loop

    def run(self) -> None:
        """Train until the budget is used, patience ends, or `stop_requested` is set.

        Raises
        ------
        TrainingError
            Where `GIVE_UP_AFTER` steps in a row had no finite loss, or no evaluation found numbers;
            the last checkpoint stays.
        """
        progress = self.progress
        began = time.perf_counter() - progress.seconds
        while not self.finished and not self.stop_requested:
            row = self.step(self._next_batch())
            progress.seconds = time.perf_counter() - began
            if progress.step % LOG_EVERY == 0:
                self.log.add(row)
            self.reporter.step(self.share_done, row)
            if self._evaluations_due > progress.evaluations:
                self.evaluate()
            if progress.seconds - self._saved_at >= CHECKPOINT_SECONDS and not self.finished:
                self.save_now()
            progress.seconds = time.perf_counter() - began
        if self.finished:
            if self._evaluated_at != progress.step:
                self.evaluate()
            if not self.best:
                raise self._diverged("at any evaluation")
        self.save_now()

    def step(self, indices: list[int]) -> dict[str, Any]:
        """Learn from one batch of texts; the metrics of the step."""
        progress, config = self.progress, self.config
        set_rates(self.groups, self.optimizer, self.share_done)
        self.network.train()
        readings = self.train.encoded.readings(indices, self.device)
        targets = self.train.targets[indices].to(self.device)  # (B, C)
        weights = self.train.weights[indices].to(self.device)  # (B,)
        with autocast(self.device, self.precision):
            logits, lm_loss = self.network(readings, config.window, bool(config.lm_weight))
        each = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        loss = (each * weights).sum() / weights.sum()
        whole = loss if lm_loss is None else loss + config.lm_weight * lm_loss
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(whole)
        trained = [p for p in self.network.parameters() if p.grad is not None]
        norm = float(clip_gradient(trained, config.clip))
        value = float(whole.detach())

        progress.step += 1
        progress.texts += len(indices)
        progress.characters += sum(int(reading.lengths.sum()) for reading in readings)
        if math.isfinite(value) and math.isfinite(norm):
            self.optimizer.step()
            progress.skipped_in_row = 0
            if self.average:
                self.average.update(progress.step)
        else:
            self._skip()
        right = logits.detach().argmax(-1) == targets.argmax(-1)
        return {
            "step": progress.step,
            "epoch": progress.epoch,
            "texts": progress.texts,
            "characters": progress.characters,
            "seconds": round(progress.seconds, 3),
            "loss": float(loss.detach()),
            "lm_loss": None if lm_loss is None else float(lm_loss.detach()),
            "train_accuracy": float(right.float().mean()),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "gradient_norm": norm,
        }

    def _next_batch(self) -> list[int]:
        progress = self.progress
        if not self._batches or progress.position >= len(self._batches):
            progress.epoch += bool(self._batches)
            progress.position = 0
            self._batches = self._epoch(progress.epoch)
        batch = self._batches[progress.position]
        progress.position += 1
        return batch

    def _epoch(self, number: int) -> list[list[int]]:
        """The batches of an epoch depend on the seed and its number alone."""
        generator = torch.Generator().manual_seed((self.config.seed + 7919 * number) % 2**63)
        return shuffled_batches(self.train.encoded.lengths, self.config.batch_size, generator)

    def _skip(self) -> None:
        self.progress.skipped += 1
        self.progress.skipped_in_row += 1
        if self.progress.skipped_in_row >= GIVE_UP_AFTER:
            raise self._diverged(f"for {GIVE_UP_AFTER} steps in a row")

    def _diverged(self, when: str) -> TrainingError:
        kept = "the last good checkpoint is kept" if self._saved_at else "nothing had been saved"
        return TrainingError(
            f"the loss was not a finite number {when} (step {self.progress.step}): try a smaller "
            f"--learning-rate than {self.config.learning_rate:g}, or --precision float32; {kept}"
        )

    @property
    def share_done(self) -> float:
        """Used share of the budget, 0 to 1."""
        if self.config.minutes is not None:
            return self.progress.seconds / (self.config.minutes * 60)
        assert self.config.epochs is not None
        return self.progress.texts / (self.config.epochs * len(self.train.encoded))

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        patience = self.config.patience
        return self.share_done >= 1 or (patience is not None and self.progress.stale >= patience)

    @property
    def _evaluations_due(self) -> int:
        """Evaluations that a run this far along should have had."""
        return int(min(1.0, self.share_done) * self.config.evaluations)

    # ---------------------------------------------------------------- evaluation

    def evaluate(self) -> None:
        """Classify the validation texts with the averaged weights; keep the best ones."""
        progress = self.progress
        progress.evaluations = max(progress.evaluations + 1, self._evaluations_due)
        self._evaluated_at = progress.step
        if self.average:
            self.average.swap()
        own = [value.clone() for value in self._statistics()]
        try:
            self.refresh_statistics()
            self.network.eval()
            row: dict[str, Any] = {"step": progress.step}
            logits = self.logits(self.valid.encoded)
            if not self._all_finite(logits):
                progress.stale += 1
            else:
                if len(logits):
                    truth = self.valid.targets.argmax(-1).numpy()
                    found = self.figures(truth, logits.softmax(-1).numpy())
                    row |= {f"valid_{name}": value for name, value in found.items()}
                self._keep_if_best(row)
        finally:
            for value, before in zip(self._statistics(), own, strict=True):
                value.copy_(before)
            if self.average:
                self.average.swap()
        self.log.add(row)
        self.reporter.evaluated(row, None)

    def _norms(self) -> list[nn.BatchNorm1d]:
        return [m for m in self.network.modules() if isinstance(m, nn.BatchNorm1d)]

    def _statistics(self) -> list[Tensor]:
        """What training goes on with: means, variances and counts of batches."""
        return [value for norm in self._norms() for value in norm.buffers()]

    def _all_finite(self, logits: Tensor) -> bool:
        values = (logits, *self.network.state_dict().values())
        return all(bool(value.isfinite().all()) for value in values)

    def logits(self, encoded: EncodedTexts) -> Tensor:
        """Logits (N, C) of texts under the network as it is, on the CPU."""
        width = self.network.config.num_classes
        return read_all(encoded, self.network.logits, width, self.device, self.precision)

    @torch.no_grad()
    def refresh_statistics(self) -> None:
        """Take batch renormalisation's statistics anew, for the weights as they are.

        Running ones lag behind an encoder that moves, and belong to other weights than the
        averaged ones (Izmailov et al. 2018 do this for averaged weights).
        """
        norms = self._norms()
        before = [norm.momentum for norm in norms]
        self.network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
            norm.train()
        # Drawn from all of them: in a file that is sorted by class the first are of one class.
        generator = torch.Generator().manual_seed(self.config.seed)
        some = torch.randperm(len(self.train.encoded), generator=generator)[:STATISTICS_TEXTS]
        for batch in some.tensor_split(max(1, len(some) // self.config.batch_size)):
            with autocast(self.device, self.precision):
                self.network(self.train.encoded.readings(batch.tolist(), self.device))
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum

    def _keep_if_best(self, row: dict[str, Any]) -> None:
        progress = self.progress
        score = [row.get("valid_macro_f1", 0.0), -row.get("valid_log_loss", 0.0)]
        better = score > progress.score or not len(self.valid.encoded)
        progress.stale = 0 if better else progress.stale + 1
        if better:
            progress.score = score
        if better or len(self.valid.encoded) < TRUSTED_VALIDATION:
            progress.best = row
            self.best = weights_of(self.network)

    # ---------------------------------------------------------------- saving and going on

    def extend(self) -> None:
        """Make a run whose budget has grown one that was never calibrated, nor evaluated ahead."""
        self.network.temperature.fill_(1.0)
        if self.best:
            self.best["temperature"] = torch.ones(())
        self.progress.evaluations = self._evaluations_due

    def save_now(self) -> None:
        """Write a checkpoint of this step."""
        self.save(self)
        self._saved_at = self.progress.seconds

    def training_state(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """Everything that going on exactly needs: a JSON document, and groups of tensors."""
        tensors = {
            "model": weights_of(self.network, counters=True),
            "optimizer": optimizer_tensors(self.optimizer),
            "generators": generator_states(self.device),
            "targets": {"targets": self.train.targets, "weights": self.train.weights},
        }
        if self.average:
            tensors["average"] = dict(self.average.average)
        return {"progress": asdict(self.progress), "has_best": bool(self.best)}, tensors

    def restore(
        self,
        document: dict[str, Any],
        tensors: dict[str, dict[str, Tensor]],
        best: dict[str, Tensor],
    ) -> None:
        """Go on where `training_state` was taken, with the best weights so far."""
        self.progress = TuningProgress(**document["progress"])
        load_weights(self.network, tensors["model"])
        load_optimizer_tensors(tensors["optimizer"], self.optimizer)
        if self.average:
            self.average.load(tensors["average"])
        self._batches = self._epoch(self.progress.epoch)
        restore_generators(tensors["generators"], self.device)
        self.best = best if document["has_best"] else {}
        self._saved_at = self.progress.seconds
