"""What a fine-tuning run is made of: texts, loop or probe, and checkpoint."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chargen.runtime.device import versions
from chargen.runtime.signals import stopping_softly
from chargen.sentiment import metrics, storage
from chargen.sentiment.batching import EncodedTexts, eyes_of, read_all
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import ExamplesConfig, FinetuneConfig
from chargen.sentiment.examples import Examples
from chargen.sentiment.network import ClassifierNetwork
from chargen.sentiment.ngrams import NgramModel
from chargen.sentiment.probe import fit_probe
from chargen.sentiment.splitting import TrainingTexts
from chargen.sentiment.text_classification import (
    Labelled,
    LabelledProgress,
    TextClassification,
    measured,
)
from chargen.storage import checkpoint
from chargen.text.vocabulary import Vocabulary
from chargen.training.loop import Loop
from chargen.training.reporting import Log, Reporter

MOST_NGRAM_TEXTS = 20_000
"""Texts that n-grams are counted in, unless more are labelled: some 30 KB of memory each."""


@dataclass(frozen=True)
class FinetuneRun:
    """What a fine-tuning run came to.

    Attributes
    ----------
    directory : Path or None
        The checkpoint, if one was to be kept.
    classifier : Classifier
    labels_used : int
        Labelled texts learnt from.
    steps : int
        Of the optimizer; 0 for a probe.
    seconds : float
        In the training loop; for a probe, of reading the texts and fitting.
    valid : dict
        "accuracy", "macro_f1", "log_loss" of `classifier` on the validation texts; empty without
        any.
    finished : bool
        False where it was interrupted: `resume_finetune` goes on.
    """

    directory: Path | None
    classifier: Classifier
    labels_used: int
    steps: int
    seconds: float
    valid: dict[str, Any]
    finished: bool


@dataclass
class Session:
    """The parts of a run that are settled before the network is.

    Attributes
    ----------
    directory : Path
        Where the checkpoint goes.
    texts : TrainingTexts
    config : FinetuneConfig
    reading : ExamplesConfig
    vocabularies : tuple of Vocabulary
        One an encoder.
    precision : {"float32", "bfloat16"}
    reporter : Reporter
    log : Log
        Of what was done before, and then of all.
    documents : dict
        What the checkpoint says of "encoder" and, where it is on disk, "data".
    """

    directory: Path
    texts: TrainingTexts
    config: FinetuneConfig
    reading: ExamplesConfig
    vocabularies: tuple[Vocabulary, ...]
    precision: str
    reporter: Reporter
    log: Log
    documents: dict[str, Any]

    def probe(self, network: ClassifierNetwork) -> FinetuneRun:
        """Fit a logistic regression on what the network's encoders hold, and save."""
        began = time.perf_counter()
        train, valid = self._parts(network)
        note = fit_probe(
            network,
            train.encoded,
            train.targets.argmax(-1).numpy(),
            self.config.penalty,
            self.config.class_weights,
            self.precision,
            self.config.seed,
        )
        self.reporter.note(note)
        progress = LabelledProgress(seconds=time.perf_counter() - began)
        width, device = network.config.num_classes, network.temperature.device
        logits = read_all(valid.encoded, network.eval().logits, width, device, self.precision)
        progress.best = measured(self._figures, valid, logits)
        weights = storage.weights_of(network)  # copies: tied ones are one tensor
        stored = self._packed(network, weights, None, self.config, progress, True)
        checkpoint.save(self.directory, stored)
        return self._run(network, None, progress, True)

    def train(self, network: ClassifierNetwork) -> FinetuneRun:
        """Count n-grams, train, weigh the votes, save."""
        parts = self._parts(network)
        return self.run(self.loop(network, parts, self._ngrams(parts[0])))

    def loop(
        self,
        network: ClassifierNetwork,
        parts: tuple[Labelled, Labelled] | None = None,
        members: Sequence[NgramModel] = (),
    ) -> Loop[TextClassification]:
        """A loop over the network, whose checkpoints go to `directory`."""
        task = TextClassification(
            network,
            *(parts or self._parts(network)),
            self.config,
            self.precision,
            self._figures,
            members,
            self.reporter,
        )
        return Loop(task, self._save, self.reporter, self.log)

    def run(self, loop: Loop[TextClassification]) -> FinetuneRun:
        """Train, and tell what came of it.

        Raises
        ------
        TrainingError
            Where the loss stays without a number.
        """
        try:
            with stopping_softly(loop):
                loop.run()
        finally:
            self.reporter.close()
        return self.outcome(loop)

    def outcome(self, loop: Loop[TextClassification]) -> FinetuneRun:
        """What the run came to."""
        task = loop.task
        if loop.best:
            storage.load_weights(task.model, loop.best)
        return self._run(task.model, task.ngrams, task.progress, loop.finished)

    def _parts(self, network: ClassifierNetwork) -> tuple[Labelled, Labelled]:
        """What is learnt from, and what is validated on."""
        texts, classes = self.texts, len(self.texts.classes)
        eyes = eyes_of(network, self.vocabularies)

        def part(examples: Examples, weigh: bool) -> Labelled:
            truth = texts.indices(examples)
            targets = nn.functional.one_hot(truth, classes).float()
            weights = torch.ones(len(truth))
            if weigh:  # the inverse of the share of the class, 1 on average
                counts = torch.bincount(truth, minlength=classes).clamp(min=1)
                weights = len(truth) / (classes * counts[truth].float())
            return Labelled(examples.texts, EncodedTexts(examples.texts, eyes), targets, weights)

        return part(texts.train, self.config.class_weights), part(texts.valid, False)

    def _ngrams(self, train: Labelled) -> list[NgramModel]:
        if not self.config.ngrams:
            return []
        unlabelled = self.texts.unlabelled[: max(0, MOST_NGRAM_TEXTS - len(train.texts))]
        members = NgramModel.fit(
            train.texts,
            train.targets.argmax(-1).numpy(),
            len(self.texts.classes),
            train.weights.numpy(),
            unlabelled,
            self.config.seed,
        )
        self.reporter.note(
            f"character n-grams learnt from {len(train.texts):,} labelled"
            + (f" and {len(unlabelled):,} unlabelled" if unlabelled else "")
            + " texts vote beside the network"
        )
        return members

    def _figures(
        self, truth: NDArray[np.int64], probabilities: NDArray[np.float32]
    ) -> dict[str, Any]:
        classes = self.texts.classes
        found = metrics.evaluate([classes[i] for i in truth], probabilities, classes)
        return {name: found[name] for name in ("accuracy", "macro_f1", "log_loss")}

    def _save(self, loop: Loop[TextClassification]) -> None:
        task = loop.task
        weights = loop.best or storage.weights_of(task.model)
        stored = self._packed(
            task.model, weights, task.ngrams, task.config, task.progress, loop.finished
        )
        stored.keep_training(*loop.state())
        checkpoint.save(self.directory, stored, metrics=self.log.lines)

    def _packed(
        self,
        network: ClassifierNetwork,
        weights: dict[str, Tensor],
        ngrams: NgramModel | None,
        config: FinetuneConfig,
        progress: LabelledProgress,
        finished: bool,
    ) -> checkpoint.Checkpoint:
        stored = storage.pack(
            network, weights, self.vocabularies, self.texts.classes, self.reading.clean, ngrams
        )
        stored.documents["config"] |= self.documents | {
            "finetune": asdict(config),
            "examples": asdict(self.reading),
            "precision": self.precision,
            "digest": self.texts.digest,
            "results": {
                "steps": progress.step,
                "seconds": progress.seconds,
                "labels_used": len(self.texts.train),
                "finished": finished,
                **progress.best,
            },
            "versions": versions(),
        }
        return stored

    def _run(
        self,
        network: ClassifierNetwork,
        ngrams: NgramModel | None,
        progress: LabelledProgress,
        finished: bool,
    ) -> FinetuneRun:
        classifier = Classifier(
            network,
            self.vocabularies,
            self.texts.classes,
            self.reading.clean,
            ngrams=ngrams,
        )
        classifier.precision = self.precision
        valid = {
            name.removeprefix("valid_"): value
            for name, value in progress.best.items()
            if name.startswith("valid_")
        }
        return FinetuneRun(
            self.directory,
            classifier,
            len(self.texts.train),
            progress.step,
            progress.seconds,
            valid,
            finished,
        )
