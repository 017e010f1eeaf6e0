"""What the loop trains for a classifier: batches of whole texts, measured by macro-F1.

It knows texts, ids, classes and weights. Layers learn one after the other and at their own rates:
discriminative rates, gradual unfreezing and the slanted triangle are from Howard & Ruder 2018
(https://arxiv.org/abs/1801.06146).
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
"""Batches that are sorted by length together: long enough to save padding, short enough to mix."""

STATISTICS_TEXTS = 512
"""Texts from which batch renormalisation's statistics are taken before an evaluation."""

TRUSTED_VALIDATION = 100
"""With fewer validation texts the last weights are kept, not those that were luckiest on them."""

RISE = 0.1
"""Share of the run over which the learning rate rises; over the rest it falls to zero."""

LATEST = 0.8
"""Share of the run after which every layer learns, however many there are."""


@dataclass
class LabelledProgress(Progress):
    """Where the training of a classifier stands."""

    texts: int = 0  # learnt from, repeats included
    epoch: int = 0  # passes begun
    position: int = 0  # batches of this one that are done
    # macro-F1 and negative log loss of the best evaluation; empty before there is any
    score: list[float] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)  # its figures; its weights are kept

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.best, dict) or any(type(n) is not float for n in self.score):
            raise ValueError("score and best are not those of an evaluation")


@dataclass(frozen=True)
class LabelledTexts:
    """N texts to learn from or to validate on."""

    encoded: EncodedTexts
    classes: Tensor  # (N,) int64
    weights: Tensor  # (N,) float32: how much each text counts


class TextClassification(Task):
    """A network learns to tell classes of texts apart.

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
        ``figures(probabilities (N, C))`` of the validation texts, to a dict with "valid_macro_f1"
        and "valid_log_loss"; empty without such texts.
    decide : callable, optional
        ``decide(logits (N, C))`` of the validation texts, once all is learnt, to the factor of the
        network's logits, 0 if it does not vote, and the figures of the whole classifier.
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
        """The places of the texts in each batch of a pass, by the seed and its number alone."""
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
        pass  # nothing is carried from batch to batch

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
        """Logits (N, C) of texts under the network as it is, on the CPU."""
        width = self.model.config.num_classes
        return read_all(encoded, self.model.logits, width, self.device, self.precision)

    @torch.no_grad()
    def refresh_statistics(self) -> None:
        """Take batch renormalisation's statistics anew, for the weights as they are.

        Running ones lag behind an encoder that moves, and belong to other weights than the
        averaged ones (Izmailov et al. 2018 do this for averaged weights).
        """
        norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm1d)]
        before = [norm.momentum for norm in norms]
        self.model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
            norm.train()
        # Drawn from all of them: in a file that is sorted by class the first are of one class.
        generator = torch.Generator().manual_seed(self.config.seed)
        some = torch.randperm(len(self.train.encoded), generator=generator)[:STATISTICS_TEXTS]
        for batch in some.tensor_split(max(1, len(some) // self.config.batch_size)):
            with autocast(self.device, self.precision):
                self.model(self.train.encoded.inputs(batch.tolist(), self.device))
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
        self.model.eval()

    def conclude(self, best: dict[str, Tensor]) -> dict[str, Any]:
        """Decide who votes, and how much."""
        self.model.temperature.fill_(1.0)
        if self.decide is not None:
            factor, figures = self.decide(self.logits(self.valid.encoded))
            self.progress.best |= figures
            if factor:
                best["temperature"] = torch.tensor(1 / factor)
        return {}

    # ---------------------------------------------------------------- going on

    def state(self) -> tuple[dict[str, Any], Tensors]:
        return {}, {"generators": generator_states(self.device)}

    def restore(self, document: dict[str, Any], tensors: Tensors) -> None:
        self.model.temperature.fill_(1.0)  # earlier versions left a calibrated one
        restore_generators(tensors["generators"], self.device)


def shuffled_batches(
    lengths: NDArray[np.int64], batch_size: int, generator: torch.Generator
) -> list[list[int]]:
    """One epoch in random order: every text once, in batches of texts of like length.

    No batch has a single text (batch normalisation needs two) unless there is but one.
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


# ---------------------------------------------------------------- when each layer learns


@dataclass
class LayerGroup:
    """Parameters that begin to learn together."""

    name: str
    parameters: list[nn.Parameter]
    learning_rate: float  # the highest
    starts: float  # share of the run after which they learn, 0 to 1


def layer_groups(network: ClassifierNetwork, config: FinetuneConfig) -> list[LayerGroup]:
    """The head first, then the encoders' layers from the last to the first, embeddings at the end.

    From scratch there is nothing to be careful with: all learn at once at one rate.
    """
    encoders = network.lm_encoders()
    on_top = [*network.head.parameters(), *network.detectors.parameters()]
    below: list[tuple[str, list[nn.Parameter]]] = []
    for depth in range(max(len(encoder.layers) for encoder in encoders)):
        parameters: list[nn.Parameter] = []
        for encoder in encoders:
            if depth < len(encoder.layers):
                parameters += encoder.layers[len(encoder.layers) - 1 - depth].parameters()
            if depth == 0:  # what the language model's loss alone moves
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
    """AdamW (Loshchilov & Hutter 2019) over the groups; only matrices decay.

    Each of torch's groups has the key ``layer``: the index of the group that it belongs to.
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
    """Freeze what is not to learn yet, and give each group this share of its highest rate."""
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad_(share_done >= group.starts)
    for entry in optimizer.param_groups:
        entry["lr"] = groups[entry["layer"]].learning_rate * factor


def slanted_triangle(share_done: float) -> float:
    """Share of the highest learning rate: a short linear rise, then a long linear fall."""
    if share_done < RISE:
        return max(0.01, share_done / RISE)
    return max(0.0, (1 - share_done) / (1 - RISE))
