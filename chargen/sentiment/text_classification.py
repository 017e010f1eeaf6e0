"""The task of fine-tuning: batches of whole texts, evaluated by macro-F1.

Discriminative learning rates, gradual unfreezing and the slanted triangular schedule are from
Howard & Ruder 2018 (https://arxiv.org/abs/1801.06146).
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

LATEST = 0.8
"""Share of the run after which all layers learn."""


@dataclass
class LabelledProgress(Progress):
    """Progress of the training of a classifier."""

    texts: int = 0  # texts in all steps so far, repeats included
    epoch: int = 0  # number of the current pass
    position: int = 0  # batches of this pass that are done
    # macro-F1 and negative log loss of the best evaluation; empty before the first
    score: list[float] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)  # its figures; its weights are kept

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.best, dict) or any(type(n) is not float for n in self.score):
            raise ValueError("score and best are not those of an evaluation")


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
        self.groups = layer_groups(model, config)
        self.optimizers = [make_optimizer(self.groups, config.weight_decay)]
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

    def loss(
        self, batch: Sequence[int], share_done: float, factor: float
    ) -> tuple[Tensor, dict[str, Any]]:
        progress, config = self.progress, self.config
        set_rates(self.groups, self.optimizers[0], share_done, factor)
        inputs = self.train.encoded.inputs(batch, self.device)
        classes = self.train.classes[batch].to(self.device)  # (B,)
        weights = self.train.weights[batch].to(self.device)  # (B,)
        with autocast(self.device, self.precision):
            logits, lm_loss = self.model(inputs, config.window, bool(config.lm_weight))
        each = nn.functional.cross_entropy(logits.float(), classes, reduction="none")
        loss = (each * weights).sum() / weights.sum()
        progress.texts += len(batch)
        progress.characters += sum(int(given.lengths.sum()) for given in inputs)
        right = logits.detach().argmax(-1) == classes
        row = {
            "epoch": progress.epoch,
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
        self.model.temperature.fill_(1.0)
        if self.decide is not None:
            factor, figures = self.decide(self.logits(self.valid.encoded))
            self.progress.best |= figures
            if factor:
                best["temperature"] = torch.tensor(1 / factor)
        return {}

    # ---------------------------------------------------------------- saving and resuming

    def state(self) -> tuple[dict[str, Any], Tensors]:
        return {}, {"generators": generator_states(self.device)}

    def restore(self, document: dict[str, Any], tensors: Tensors) -> None:
        self.model.temperature.fill_(1.0)  # earlier versions left a calibrated one
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


# ---------------------------------------------------------------- layers and their rates


@dataclass
class LayerGroup:
    """Parameters that are unfrozen together and share a learning rate."""

    name: str
    parameters: list[nn.Parameter]
    learning_rate: float  # the highest of the schedule
    starts: float  # share of the run after which they are trained, 0 to 1


def layer_groups(network: ClassifierNetwork, config: FinetuneConfig) -> list[LayerGroup]:
    """Group the head, then the encoders' layers from last to first, then the embeddings.

    With `from_scratch` all are trained from the start, at one rate.
    """
    encoders = network.lm_encoders()
    on_top = [*network.head.parameters(), *network.detectors.parameters()]
    below: list[tuple[str, list[nn.Parameter]]] = []
    for depth in range(max(len(encoder.layers) for encoder in encoders)):
        parameters: list[nn.Parameter] = []
        for encoder in encoders:
            if depth < len(encoder.layers):
                parameters += encoder.layers[len(encoder.layers) - 1 - depth].parameters()
            if depth == 0:  # only the language model's loss trains these
                on_it = [part for part in (encoder.projection, encoder.output) if part is not None]
                tied = encoder.embedding.weight
                parameters += [p for part in on_it for p in part.parameters() if p is not tied]
        below.append((f"layer -{depth + 1}", parameters))
    embeddings = [p for encoder in encoders for p in encoder.embedding.parameters()]
    below.append(("embedding", embeddings))
    groups = [LayerGroup("head", on_top, config.learning_rate, 0.0)]
    for depth, (name, parameters) in enumerate(below):
        rate, starts = config.learning_rate, 0.0
        if not config.from_scratch:
            rate = rate * config.encoder_rate / config.layer_decay**depth
            starts = min(LATEST, config.unfreeze * (depth + 1))
        groups.append(LayerGroup(name, parameters, rate, starts))
    return groups


def make_optimizer(groups: list[LayerGroup], weight_decay: float) -> torch.optim.AdamW:
    """Build AdamW (Loshchilov & Hutter 2019) for the groups; only matrices decay.

    Each parameter group of torch has the key ``layer``: its index in `groups`.
    """
    entries: list[dict[str, Any]] = []
    for index, group in enumerate(groups):
        embeddings = group.name == "embedding"
        for matrices in (True, False):
            chosen = [p for p in group.parameters if (p.ndim > 1 and not embeddings) == matrices]
            if chosen:
                decay = weight_decay if matrices else 0.0
                entries.append({"params": chosen, "weight_decay": decay, "layer": index})
    fused = groups[0].parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(entries, lr=0.0, betas=BETAS, fused=fused)


def set_rates(
    groups: list[LayerGroup], optimizer: torch.optim.Optimizer, share_done: float, factor: float
) -> None:
    """Freeze the groups that start later; set each group's rate to `factor` times its highest."""
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad_(share_done >= group.starts)
    for entry in optimizer.param_groups:
        entry["lr"] = groups[entry["layer"]].learning_rate * factor


def slanted_triangle(share_done: float) -> float:
    """Return the share of the highest learning rate: a short linear rise, then a long fall."""
    if share_done < RISE:
        return max(0.01, share_done / RISE)
    return max(0.0, (1 - share_done) / (1 - RISE))
