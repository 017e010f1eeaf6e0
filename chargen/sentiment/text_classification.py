"""The task of fine-tuning: batches of whole texts, evaluated by macro-F1.

The slanted triangular schedule is from Howard & Ruder 2018 (https://arxiv.org/abs/1801.06146).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chargen.lm.config import required
from chargen.runtime.precision import autocast
from chargen.runtime.seeds import generator_states, restore_generators
from chargen.sentiment.config import FinetuneConfig
from chargen.sentiment.network import ClassifierNetwork, EncodedTexts, read_all
from chargen.training.optimizers import BETAS
from chargen.training.task import Evaluation, Progress, Settings, Task, Tensors

POOL = 32
"""Batches whose texts are sorted by length together: more save padding, fewer mix better."""

STATISTICS_TEXTS = 512
"""Texts on which the statistics of batch renormalisation are computed before an evaluation."""

TRUSTED_VALIDATION = 100
"""With fewer validation texts the last weights are kept, because the best are so by chance."""

RISE = 0.1
"""Share of the run in which the learning rate rises; in the rest it falls to zero."""


@dataclass
class LabelledProgress(Progress):
    """Progress of the training of a classifier."""

    texts: int = 0  # texts in all steps so far, repeats included
    epoch: int = 0  # number of the current pass
    position: int = 0  # batches of this pass that are done
    # macro-F1 and negative log loss of the best evaluation; empty before the first
    score: list[float] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)  # its figures; its weights are kept
    # figures of the classifier with its members weighted, once the run has ended
    final: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        known = isinstance(self.best, dict) and isinstance(self.final, dict)
        if not known or any(type(n) is not float for n in self.score):
            raise ValueError("score, best and final are not those of an evaluation")

    @property
    def figures(self) -> dict[str, Any]:
        """Figures of the classifier that is saved."""
        return self.best | self.final


@dataclass(frozen=True)
class LabelledTexts:
    """N texts for training or validation."""

    encoded: EncodedTexts
    classes: Tensor  # (N,) int64
    weights: Tensor  # (N,) float32: weight of each text in the loss


class TextClassification(Task):
    """Training of a network that classifies texts.

    Parameters
    ----------
    model : ClassifierNetwork
        On its device; trained in place.
    train, valid : LabelledTexts
        Validation may be empty.
    config : FinetuneConfig
        With a budget: `minutes` or `epochs`.
    precision : {"float32", "bfloat16"}
    figures : callable
        ``figures(probabilities (N, C))`` of the validation texts returns a dict with
        "valid_macro_f1" and "valid_log_loss"; empty without such texts.
    decide : callable, optional
        ``decide(logits (N, C))`` of the validation texts, called after training, returns the
        factor of the network's logits (0 if it is left out) and the classifier's figures.
    """

    model: ClassifierNetwork
    progress: LabelledProgress

    def __init__(
        self,
        model: ClassifierNetwork,
        train: LabelledTexts,
        valid: LabelledTexts,
        config: FinetuneConfig,
        precision: str,
        figures: Callable[[NDArray[np.float32]], dict[str, Any]],
        decide: Callable[[Tensor], tuple[float, dict[str, Any]]] | None = None,
    ) -> None:
        self.model = model
        self.train = train
        self.valid = valid
        self.config = config
        self.precision = precision
        self.figures = figures
        self.decide = decide
        self.progress = LabelledProgress()
        self.device = model.device
        self.optimizers = [make_optimizer(model, config)]
        self._pass: tuple[int, list[list[int]]] = (-1, [])

    def settings(self) -> Settings:
        config = self.config
        if config.minutes is not None:
            budget = ("seconds", config.minutes * 60)
        else:
            budget = ("texts", required(config.epochs) * len(self.train.encoded))
        return Settings(
            budget,
            lambda share_done, _: slanted_triangle(share_done),
            config.learning_rate,
            config.clip,
            config.ema,
            config.patience,
            config.eval_every,
            config.evaluations,
            config.checkpoint_every,
        )

    # ---------------------------------------------------------------- a step

    def next_batch(self) -> list[int]:
        progress = self.progress
        if progress.position >= len(self._batches(progress.epoch)):
            progress.epoch += 1
            progress.position = 0
        progress.position += 1
        return self._batches(progress.epoch)[progress.position - 1]

    def _batches(self, epoch: int) -> list[list[int]]:
        if self._pass[0] != epoch:
            self._pass = (epoch, self.batches(epoch))
        return self._pass[1]

    def batches(self, epoch: int) -> list[list[int]]:
        """Indices of the texts in each batch of a pass; they depend on seed and `epoch` only."""
        generator = torch.Generator().manual_seed((self.config.seed + 7919 * epoch) % 2**63)
        return shuffled_batches(self.train.encoded.lengths, self.config.batch_size, generator)

    def loss(self, batch: Sequence[int], factor: float) -> tuple[Tensor, dict[str, Any]]:
        progress, config = self.progress, self.config
        for group in self.optimizers[0].param_groups:
            group["lr"] = group["max_lr"] * factor
        inputs = self.train.encoded.inputs(batch, self.device)
        classes = self.train.classes[batch].to(self.device)  # (B,)
        weights = self.train.weights[batch].to(self.device)  # (B,)
        with autocast(self.device, self.precision):
            logits, lm_loss = self.model(inputs, config.window, bool(config.lm_weight))
        each = nn.functional.cross_entropy(logits.float(), classes, reduction="none")
        loss = (each * weights).sum() / weights.sum()
        progress.texts += len(batch)
        progress.characters += int((inputs[0].lengths - 1).sum())  # without the start symbols
        right = logits.detach().argmax(-1) == classes
        row = {
            "epoch": progress.texts / len(self.train.encoded),
            "texts": progress.texts,
            "loss": loss.detach(),
            "lm_loss": None if lm_loss is None else lm_loss.detach(),
            "train_accuracy": right.float().mean(),
        }
        return loss if lm_loss is None else loss + config.lm_weight * lm_loss, row

    def skipped(self) -> None:
        pass  # no state is carried from batch to batch

    # ---------------------------------------------------------------- evaluation

    def evaluate(self) -> Evaluation:
        progress, count = self.progress, len(self.valid.encoded)
        self.refresh_statistics()
        logits = self.logits(self.valid.encoded)
        values = (logits, *self.model.state_dict().values())
        if not all(bool(value.isfinite().all()) for value in values):
            return Evaluation({}, False, False)
        row = self.figures(logits.softmax(-1).numpy())
        score = [row.get("valid_macro_f1", 0.0), -row.get("valid_log_loss", 0.0)]
        better = score > progress.score or not count
        if better:
            progress.score = score
        keep = better or count < TRUSTED_VALIDATION
        if keep:
            progress.best = {"step": progress.step, **row}
        return Evaluation(row, better, keep)

    def logits(self, encoded: EncodedTexts) -> Tensor:
        """Return the network's logits (N, C) of texts, on the CPU."""
        width = self.model.config.num_classes
        return read_all(encoded, self.model.logits, width, self.device, self.precision)

    @torch.no_grad()
    def refresh_statistics(self) -> None:
        """Compute the statistics of batch renormalisation again, for the current weights.

        Running statistics lag behind an encoder that is trained, and belong to other weights than
        the averaged ones (Izmailov et al. 2018 do this for averaged weights).
        """
        norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm1d)]
        before = [norm.momentum for norm in norms]
        self.model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
            norm.train()
        # A random sample, since the first texts of a sorted file are of one class.
        generator = torch.Generator().manual_seed(self.config.seed)
        some = torch.randperm(len(self.train.encoded), generator=generator)[:STATISTICS_TEXTS]
        for batch in some.tensor_split(max(1, len(some) // self.config.batch_size)):
            with autocast(self.device, self.precision):
                self.model(self.train.encoded.inputs(batch.tolist(), self.device))
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
        self.model.eval()

    def conclude(self, best: dict[str, Tensor]) -> dict[str, Any]:
        """Choose and weight the members of the classifier."""
        if self.decide is not None:
            factor, figures = self.decide(self.logits(self.valid.encoded))
            self.progress.final = figures
            if factor:
                best["temperature"] = torch.tensor(1 / factor)
        return {}

    # ---------------------------------------------------------------- saving and resuming

    def state(self) -> tuple[dict[str, Any], Tensors]:
        return {}, {"generators": generator_states(self.device)}

    def restore(self, document: dict[str, Any], tensors: Tensors) -> None:
        restore_generators(tensors["generators"], self.device)


def shuffled_batches(
    lengths: NDArray[np.int64], batch_size: int, generator: torch.Generator
) -> list[list[int]]:
    """Return the batches of one epoch in random order, each of texts of similar length.

    No batch has a single text (batch normalisation needs two) unless there is only one.
    """
    order = torch.randperm(len(lengths), generator=generator).numpy()
    batches: list[list[int]] = []
    for first in range(0, len(order), batch_size * POOL):
        pool = order[first : first + batch_size * POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size].tolist() for i in range(0, len(pool), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        alone = batches.pop()
        batches[-1] += alone
    mixed = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[i] for i in mixed]


# ---------------------------------------------------------------- learning rates


def make_optimizer(network: ClassifierNetwork, config: FinetuneConfig) -> torch.optim.AdamW:
    """Build AdamW (Loshchilov & Hutter 2019); only matrices decay, embeddings do not.

    Each parameter group has the key ``max_lr``: the highest learning rate of its schedule, which is
    lower for a trained encoder than for the head.
    """
    on_top = [*network.head.parameters(), *network.detectors.parameters()]
    embeddings = [p for e in network.lm_encoders() for p in e.embedding.parameters()]
    apart = {id(parameter) for parameter in embeddings}
    encoders = [p for p in network.encoders.parameters() if id(p) not in apart]
    rate = config.learning_rate * (1.0 if config.from_scratch else config.encoder_rate)
    parts = [
        (on_top, config.learning_rate, True),
        (encoders, rate, True),
        (embeddings, rate, False),
    ]
    groups: list[dict[str, Any]] = []
    for parameters, max_lr, decays in parts:
        for matrices in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1 and decays) == matrices]
            if chosen:
                decay = config.weight_decay if matrices else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "max_lr": max_lr})
    fused = network.device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, fused=fused)


def slanted_triangle(share_done: float) -> float:
    """Return the share of the highest learning rate: a short linear rise, then a long fall."""
    if share_done < RISE:
        return max(0.01, share_done / RISE)
    return max(0.0, (1 - share_done) / (1 - RISE))
