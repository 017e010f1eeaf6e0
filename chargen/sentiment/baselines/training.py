"""The training loop of the textbook's networks: Adam, clipping, early stopping.

It knows ids and class numbers. How good the network is on validation texts, it is told.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chargen.errors import TrainingError
from chargen.lm.optim import clip_gradient
from chargen.sentiment.baselines.config import WordConfig
from chargen.sentiment.baselines.networks import WordClassifier
from chargen.sentiment.baselines.words import pad
from chargen.sentiment.batching import shuffled_batches, sorted_batches
from chargen.training.reporting import Reporter

EPOCHS, FEWEST_STEPS = 10, 400
"""The budget where none is given: so many passes, and more until there are so many steps."""

STEPS_BETWEEN = 20
"""Steps between two evaluations at least: an epoch of 100 texts is only three."""

STATISTICS_TEXTS = 512
"""Texts from which batch normalisation's statistics are taken before an evaluation."""


@dataclass(frozen=True)
class Encoded:
    """Texts to learn from.

    Attributes
    ----------
    ids : sequence of (T,) int32
    targets : (N,) int64
        Class of each.
    characters : (N,) int64
        Length of each as text, for the speed that people are shown.
    """

    ids: Sequence[NDArray[np.int32]]
    targets: Tensor
    characters: NDArray[np.int64]


Validate = Callable[[], dict[str, Any]]
"""Figures of the network as it is, among them "macro_f1" and "log_loss"."""


def train_network(
    network: WordClassifier,
    train: Encoded,
    validate: Validate | None,
    config: WordConfig,
    reporter: Reporter,
) -> int:
    """Train until the budget is used or patience ends; the best weights are those that stay.

    The best are those with the highest macro-F1, the lowest log loss among equals. Without
    validation the last weights stay.

    Parameters
    ----------
    network : WordClassifier
        On its device; trained in place, and left in evaluation mode.
    train : Encoded
        Two texts or more.
    validate : callable or None
    config : WordConfig
    reporter : Reporter

    Returns
    -------
    int
        Steps done.

    Raises
    ------
    TrainingError
        Where the loss is no longer a number.
    """
    loop = _Loop(network, train, validate, config, reporter)
    loop.run()
    return loop.step


class _Loop:
    def __init__(
        self,
        network: WordClassifier,
        train: Encoded,
        validate: Validate | None,
        config: WordConfig,
        reporter: Reporter,
    ) -> None:
        self.network = network
        self.train = train
        self.validate = validate
        self.config = config
        self.reporter = reporter
        self.device = network.embedding.weight.device
        fused = self.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(
            network.parameters(), lr=config.learning_rate, fused=fused
        )
        self.lengths = np.array([len(ids) for ids in train.ids], dtype=np.int64)
        self.per_epoch = math.ceil(len(train.ids) / config.batch_size)
        self.epochs = config.epochs or max(EPOCHS, math.ceil(FEWEST_STEPS / self.per_epoch))
        self.step = self.characters = self.stale = 0
        self.sample = torch.arange(0)
        self.best: tuple[float, float] | None = None
        self.best_weights: dict[str, Tensor] = {}

    def run(self) -> None:
        config = self.config
        generator = torch.Generator().manual_seed(config.seed)
        self.sample = torch.randperm(len(self.lengths), generator=generator)[:STATISTICS_TEXTS]
        every = max(self.per_epoch, STEPS_BETWEEN)
        began = time.perf_counter()
        share = 0.0
        epoch = 0
        while share < 1 and self.stale < config.patience:
            for batch in shuffled_batches(self.lengths, config.batch_size, generator):
                row = self._learn(batch, epoch)
                seconds = time.perf_counter() - began
                share = (
                    self.step / (self.epochs * self.per_epoch)
                    if config.minutes is None
                    else seconds / (config.minutes * 60)
                )
                self.reporter.step(min(1.0, share), row)
                if self.step % every == 0 or share >= 1:
                    self._evaluate()
                if share >= 1 or self.stale >= config.patience:
                    break
            epoch += 1
        if self.best_weights:
            self.network.load_state_dict(self.best_weights)
        self.network.eval()

    def _learn(self, batch: list[int], epoch: int) -> dict[str, Any]:
        """One step on the texts at these indices; its metrics."""
        self.network.train()
        ids, lengths = pad([self.train.ids[i] for i in batch])
        targets = self.train.targets[batch].to(self.device)  # (B,)
        logits = self.network(ids.to(self.device), lengths)  # (B, C)
        loss = nn.functional.cross_entropy(logits, targets)
        value = float(loss.detach())
        self.step += 1
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss of the {self.config.cell} was not a finite number at step {self.step}: "
                f"try a smaller --learning-rate than {self.config.learning_rate:g}"
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        clip_gradient(self.network.parameters(), self.config.clip)
        self.optimizer.step()
        self.characters += int(self.train.characters[batch].sum())
        return {
            "step": self.step,
            "epoch": epoch,
            "characters": self.characters,
            "loss": value,
            "train_accuracy": float((logits.argmax(-1) == targets).float().mean()),
            "lm_loss": None,
        }

    def _evaluate(self) -> None:
        self.network.eval()
        self._measure_statistics()
        if self.validate is None:
            return
        figures = self.validate()
        score = (figures["macro_f1"], -figures["log_loss"])
        if self.best is None or score > self.best:
            self.best, self.stale = score, 0
            self.best_weights = {
                k: v.detach().clone() for k, v in self.network.state_dict().items()
            }
        else:
            self.stale += 1
        row = {f"valid_{k}": figures[k] for k in ("accuracy", "macro_f1", "log_loss")}
        self.reporter.evaluated({"step": self.step, **row}, None)

    @torch.no_grad()
    def _measure_statistics(self) -> None:
        """Mean and variance for batch normalisation, of the weights as they are now.

        Those that torch keeps while training come from earlier weights and from batches of one
        length each; early in a run a network that learns well can be at chance with them.
        """
        lengths = self.lengths[self.sample.numpy()]
        states = []
        for batch in sorted_batches(lengths, 256, 1 << 18):
            ids, true_lengths = pad([self.train.ids[i] for i in self.sample[batch].tolist()])
            states.append(self.network.last_state(ids.to(self.device), true_lengths))
        every = torch.cat(states)  # (texts, features)
        norm = self.network.norm
        norm.running_mean = every.mean(0)
        norm.running_var = every.var(0, correction=0)
