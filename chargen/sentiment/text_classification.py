"""What the loop trains for a classifier: batches of whole texts, measured by macro-F1.

It knows texts, ids, targets and weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chargen.lm.config import required
from chargen.runtime.precision import autocast
from chargen.runtime.seeds import generator_states, restore_generators
from chargen.sentiment.batching import EncodedTexts, read_all, shuffled_batches
from chargen.sentiment.config import FinetuneConfig
from chargen.sentiment.network import ClassifierNetwork
from chargen.sentiment.ngrams import NgramModel
from chargen.sentiment.schedule import layer_groups, make_optimizer, set_rates, slanted_triangle
from chargen.training.task import Evaluation, Progress, Settings, Task, Tensors

STATISTICS_TEXTS = 512
"""Texts from which batch renormalisation's statistics are taken before an evaluation."""

TRUSTED_VALIDATION = 100
"""With fewer validation texts the last weights are kept, not those that were luckiest on them."""

Figures = Callable[[NDArray[np.float32]], dict[str, Any]]
"""``figures(probabilities (N, C))`` of the validation texts, to a dict with "valid_macro_f1" and
"valid_log_loss"; empty without such texts."""


@dataclass
class LabelledProgress(Progress):
    """Where the training of a classifier stands.

    Attributes
    ----------
    texts : int
        Texts learnt from, repeats included.
    epoch, position : int
        Passes begun, and batches of this one that are done.
    score : list of float
        Macro-F1 and negative log loss of the best evaluation; empty before there is any.
    best : dict
        Figures of the evaluation whose weights are kept.
    """

    texts: int = 0
    epoch: int = 0
    position: int = 0
    score: list[float] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.best, dict) or any(type(n) is not float for n in self.score):
            raise ValueError("score and best are not those of an evaluation")


@dataclass(frozen=True)
class Labelled:
    """Texts to learn from or to validate on.

    Attributes
    ----------
    encoded : EncodedTexts
        N of them.
    targets : (N, C) float32
        Probabilities of the classes; one-hot where a person labelled.
    weights : (N,) float32
        How much each text counts.
    """

    encoded: EncodedTexts
    targets: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Decision:
    """Who votes, once the network is trained.

    Attributes
    ----------
    network : float
        Factor of the network's logits; 0 leaves it out.
    ngrams : sequence of NgramModel
        Weighed already.
    prior : (C,) float32, optional
        Logits of a text of which nothing is known; earlier versions had none.
    figures : dict
        Of the whole.
    """

    network: float
    ngrams: Sequence[NgramModel]
    prior: Tensor | None
    figures: dict[str, Any]


class TextClassification(Task):
    """A network learns to tell classes of texts apart.

    Parameters
    ----------
    model : ClassifierNetwork
        On its device; trained in place.
    train, valid : Labelled
        Validation may be empty.
    config : FinetuneConfig
        With a budget: `minutes` or `epochs`.
    precision : {"float32", "bfloat16"}
    figures : Figures
    decide : callable, optional
        ``decide(logits (N, C))`` of the validation texts to a `Decision`, once all is learnt.

    Attributes
    ----------
    decision : Decision or None
    """

    model: ClassifierNetwork
    progress: LabelledProgress

    def __init__(
        self,
        model: ClassifierNetwork,
        train: Labelled,
        valid: Labelled,
        config: FinetuneConfig,
        precision: str,
        figures: Figures,
        decide: Callable[[Tensor], Decision] | None = None,
    ) -> None:
        self.model = model
        self.train = train
        self.valid = valid
        self.config = config
        self.precision = precision
        self.figures = figures
        self.decide = decide
        self.progress = LabelledProgress()
        self.decision: Decision | None = None
        self.device = model.temperature.device
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
        """The places of the texts that come next."""
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
        """The batches of a pass: they depend on the seed and its number alone."""
        generator = torch.Generator().manual_seed((self.config.seed + 7919 * epoch) % 2**63)
        return shuffled_batches(self.train.encoded.lengths, self.config.batch_size, generator)

    def loss(
        self, batch: Sequence[int], share_done: float, factor: float
    ) -> tuple[Tensor, dict[str, Any]]:
        """The classifier's loss, and the language model's beside it."""
        progress, config = self.progress, self.config
        set_rates(self.groups, self.optimizers[0], share_done, factor)
        inputs = self.train.encoded.inputs(batch, self.device)
        targets = self.train.targets[batch].to(self.device)  # (B, C)
        weights = self.train.weights[batch].to(self.device)  # (B,)
        with autocast(self.device, self.precision):
            logits, lm_loss = self.model(inputs, config.window, bool(config.lm_weight))
        each = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        loss = (each * weights).sum() / weights.sum()
        progress.texts += len(batch)
        progress.characters += sum(int(given.lengths.sum()) for given in inputs)
        right = logits.detach().argmax(-1) == targets.argmax(-1)
        row = {
            "epoch": progress.epoch,
            "texts": progress.texts,
            "loss": loss.detach(),
            "lm_loss": None if lm_loss is None else lm_loss.detach(),
            "train_accuracy": right.float().mean(),
        }
        return loss if lm_loss is None else loss + config.lm_weight * lm_loss, row

    def skipped(self) -> None:
        """Nothing is carried from batch to batch."""

    # ---------------------------------------------------------------- evaluation

    def evaluate(self) -> Evaluation:
        """Classify the validation texts, with statistics taken anew."""
        progress, count = self.progress, len(self.valid.encoded)
        self.refresh_statistics()
        logits = self.logits(self.valid.encoded)
        if not self._all_finite(logits):
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

    def _all_finite(self, logits: Tensor) -> bool:
        values = (logits, *self.model.state_dict().values())
        return all(bool(value.isfinite().all()) for value in values)

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
            self.decision = self.decide(self.logits(self.valid.encoded))
            self.progress.best |= self.decision.figures
            if self.decision.network:
                best["temperature"] = torch.tensor(1 / self.decision.network)
        return {}

    # ---------------------------------------------------------------- going on

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """What is learnt from: "targets"; and "generators"."""
        return {}, {
            "generators": generator_states(self.device),
            "targets": {"targets": self.train.targets, "weights": self.train.weights},
        }

    def restore(self, document: dict[str, Any], tensors: Tensors) -> None:
        targets = tensors["targets"]
        self.train = replace(self.train, targets=targets["targets"], weights=targets["weights"])
        self.model.temperature.fill_(1.0)  # earlier versions left a calibrated one
        restore_generators(tensors["generators"], self.device)
