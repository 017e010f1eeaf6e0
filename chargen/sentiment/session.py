"""One fine-tuning run: adapt, count n-grams, train, weigh the votes, save; and go on with it."""

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

from chargen.lm import storage as lm_storage
from chargen.lm.model import CharLM
from chargen.runtime.device import choose_device, set_threads, versions
from chargen.runtime.precision import (
    REFERENCE_FLOPS,
    PrecisionChoice,
    asked_precision,
    choose_precision,
    reference_step,
)
from chargen.runtime.seeds import seed_everything
from chargen.runtime.signals import stopping_softly
from chargen.sentiment import metrics, storage
from chargen.sentiment.adapt import adapt
from chargen.sentiment.batching import EncodedTexts, eyes_of
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import ExamplesConfig, FinetuneConfig, NetworkConfig
from chargen.sentiment.material import Material
from chargen.sentiment.network import ClassifierNetwork
from chargen.sentiment.ngrams import NgramModel, summed
from chargen.sentiment.probe import fit_probe
from chargen.sentiment.tuner import TRUSTED_VALIDATION, Labelled, Tuner
from chargen.sentiment.voting import vote_weights
from chargen.storage import checkpoint
from chargen.text.vocabulary import Vocabulary
from chargen.training.reporting import Log, Reporter

MOST_NGRAM_TEXTS = 20_000
"""Texts that n-grams are counted in, unless more are labelled: some 30 KB of memory each."""

NETWORK_LEARNS = 10_000
"""Labelled texts at which the network's vote is trusted half as much as that of the n-grams."""

LATENT_HELPS = 2_000
"""Labelled texts at which latent features are trusted as much as the n-grams themselves."""


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


def _precision(config: FinetuneConfig, device: torch.device, before: str | None) -> PrecisionChoice:
    """As before, as asked, or by the stopwatch, which takes seconds and so only where it must."""
    if before is not None:
        return PrecisionChoice(before, "as before", 0.0)
    requested = asked_precision(config.precision, config.deterministic)
    if requested == "float32" and config.adapt is None:
        reason = "as asked" if config.precision == "float32" else "for --deterministic"
        return PrecisionChoice("float32", reason, 0.0)
    return choose_precision(requested, device, reference_step(device))


class Session:
    """The parts of a run that are settled before the network is."""

    def __init__(
        self,
        directory: Path,
        texts: Material,
        config: FinetuneConfig,
        reading: ExamplesConfig,
        reporter: Reporter,
        precision: str | None = None,
    ) -> None:
        set_threads(config.threads)
        self.directory = directory
        self.texts = texts
        self.config = config
        self.reading = reading
        self.reporter = reporter
        self.device = choose_device(config.device)
        self.vocabularies: tuple[Vocabulary, ...] = ()
        self.precision = _precision(config, self.device, precision)
        self.log = Log()
        self.saved: dict[str, Any] = {}
        self.members: list[NgramModel] = []
        self.ngrams: NgramModel | None = None

    def take_encoders(self, loaded: Sequence[tuple[CharLM, Vocabulary]]) -> list[CharLM]:
        """The language models, or fresh ones of their sizes when starting from scratch."""
        self.vocabularies = tuple(vocabulary for _, vocabulary in loaded)
        seed_everything(self.config.seed, self.config.deterministic)
        self._note_unknown()
        if self.config.from_scratch:
            return [CharLM(model.config).to(self.device) for model, _ in loaded]
        return [model.to(self.device) for model, _ in loaded]

    def _note_unknown(self) -> None:
        vocabulary = self.vocabularies[0]
        if vocabulary.unknown_id is None:
            return
        _, unknown = vocabulary.encode_prompt("".join(self.texts.train.texts), "replace")
        if unknown:
            shown = " ".join(ascii(c)[1:-1] if not c.isprintable() else c for c in unknown[:20])
            more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
            self.reporter.note(f"the encoder has never seen these characters: {shown}{more}")

    def run(self, models: list[CharLM], sizes: NetworkConfig, saved: dict[str, Any]) -> FinetuneRun:
        """Adapt, train, calibrate, save."""
        config, texts = self.config, self.texts
        self.reporter.note(
            f"{len(texts.train):,} texts to learn from, {len(texts.valid):,} to validate on, "
            f"{len(texts.classes)} classes; {self.precision.name}: {self.precision.reason}"
        )
        self.saved = saved | {
            "finetune": asdict(config),
            "examples": asdict(self.reading),
            "precision": self.precision.name,
            "digest": texts.digest,
        }
        if config.adapt is not None:
            self._adapt(models)
        network = ClassifierNetwork(models, sizes).to(self.device)
        if config.method == "probe":
            return self._probe(network)
        if config.ngrams:
            self._fit_ngrams()
        return self._train(self._tuner(network, self._labelled(network, None)))

    def resume(self, stored: checkpoint.Checkpoint) -> FinetuneRun:
        """Go on with a fine-tuning run; the weights of the checkpoint are its best ones."""
        network, self.vocabularies, _, _ = storage.unpack(stored)
        document = stored.document("config")
        with lm_storage.fitting(self.directory):
            tuner, best = self._as_it_was(network, stored)
        if tuner.finished:
            self.reporter.note(f"{self.directory} has used its budget: nothing is left to do")
            storage.load_weights(network, best)
            self.ngrams = storage.unpack_ngrams(stored, network.config.num_classes)
            return self._outcome(network, tuner, True)
        if asdict(self.config) != document["finetune"]:  # it is to last longer than it was
            tuner.extend()
        self.reporter.note(f"going on from step {tuner.progress.step}")
        return self._train(tuner)

    def _as_it_was(
        self, network: ClassifierNetwork, stored: checkpoint.Checkpoint
    ) -> tuple[Tuner, dict[str, Tensor]]:
        """The tuner where it was saved, and the best weights."""
        document, state = stored.document("config"), stored.document("training/state")
        self.saved = {
            key: document[key] for key in ("encoder", "data", "examples", "precision", "digest")
        }
        self.saved["finetune"] = asdict(self.config)
        self.log = Log(checkpoint.read_metrics(self.directory, state["progress"]["step"]))
        seed_everything(self.config.seed, self.config.deterministic)
        best = storage.weights_of(network)
        network.to(self.device)
        tensors = stored.folder("training")
        self.members = [
            NgramModel.from_tensors(tensors[name], network.config.num_classes)
            for name in sorted(tensors)
            if name.startswith("ngrams-")
        ]
        targets = tensors["targets"]
        tuner = self._tuner(
            network, self._labelled(network, (targets["targets"], targets["weights"]))
        )
        tuner.restore(state, tensors, best)
        return tuner, best

    def _adapt(self, models: list[CharLM]) -> None:
        texts = (*self.texts.train.texts, *self.texts.unlabelled)
        minutes = (self.config.adapt or 0.0) / len(models)
        for model, vocabulary in zip(models, self.vocabularies, strict=True):
            adapt(
                model,
                vocabulary,
                texts,
                minutes,
                self.config.seed,
                self.precision.name,
                REFERENCE_FLOPS / self.precision.seconds_per_step,
                self.reporter,
            )

    # ---------------------------------------------------------------- probe

    def _probe(self, network: ClassifierNetwork) -> FinetuneRun:
        began = time.perf_counter()
        labelled = self._labelled(network, None)
        note = fit_probe(
            network,
            labelled.encoded,
            labelled.targets.argmax(-1).numpy(),
            self.config.penalty,
            self.config.class_weights,
            self.precision.name,
            self.config.seed,
        )
        self.reporter.note(note)
        tuner = self._tuner(network, labelled)
        tuner.progress.seconds = time.perf_counter() - began
        tuner.best = storage.weights_of(network)
        tuner.progress.best = self._valid_row(tuner.logits(tuner.valid.encoded))
        self._save(tuner, finished=True)
        return self._outcome(network.eval(), tuner, True)

    def _valid_row(self, logits: Tensor) -> dict[str, Any]:
        if not len(logits):
            return {}
        truth = self.texts.indices(self.texts.valid).numpy()
        found = self._figures(truth, logits.softmax(-1).numpy())
        return {f"valid_{name}": value for name, value in found.items()}

    # ---------------------------------------------------------------- fine-tuning

    def _labelled(
        self, network: ClassifierNetwork, targets: tuple[Tensor, Tensor] | None
    ) -> Labelled:
        """What is learnt from; targets and weights as saved, or made."""
        encoded = EncodedTexts(self.texts.train.texts, eyes_of(network, self.vocabularies))
        if targets is None:
            truth = self.texts.indices(self.texts.train)
            targets = (self._one_hot(truth), self._weights(truth))
        return Labelled(encoded, *targets)

    def _one_hot(self, truth: Tensor) -> Tensor:
        return nn.functional.one_hot(truth, len(self.texts.classes)).float()

    def _weights(self, truth: Tensor) -> Tensor:
        """1 each, or the inverse of the share of the class, 1 on average."""
        if not self.config.class_weights:
            return torch.ones(len(truth))
        counts = torch.bincount(truth, minlength=len(self.texts.classes)).clamp(min=1)
        return len(truth) / (len(counts) * counts[truth].float())

    def _tuner(self, network: ClassifierNetwork, train: Labelled) -> Tuner:
        truth = self.texts.indices(self.texts.valid)
        valid = Labelled(
            EncodedTexts(self.texts.valid.texts, eyes_of(network, self.vocabularies)),
            self._one_hot(truth),
            torch.ones(len(truth)),
        )

        def save(tuner: Tuner) -> None:
            if not tuner.finished:  # what is finished is saved once it is calibrated too
                self._save(tuner, finished=False)

        return Tuner(
            network, train, valid, self.config, self.precision.name, self._figures, save,
            self.reporter, self.log,
        )  # fmt: skip

    def _figures(
        self, truth: NDArray[np.int64], probabilities: NDArray[np.float32]
    ) -> dict[str, Any]:
        classes = self.texts.classes
        found = metrics.evaluate([classes[i] for i in truth], probabilities, classes)
        return {name: found[name] for name in ("accuracy", "macro_f1", "log_loss")}

    def _train(self, tuner: Tuner) -> FinetuneRun:
        try:
            with stopping_softly(tuner):
                tuner.run()
        finally:
            self.reporter.close()
        network = tuner.network.eval()
        if tuner.best:
            storage.load_weights(network, tuner.best)
        if tuner.finished:
            self._calibrate(tuner)
            self._save(tuner, finished=True)
        return self._outcome(network, tuner, tuner.finished)

    def _fit_ngrams(self) -> None:
        train = self.texts.train
        truth = self.texts.indices(train)
        unlabelled = self.texts.unlabelled[: max(0, MOST_NGRAM_TEXTS - len(train))]
        self.members = NgramModel.fit(
            train.texts,
            truth.numpy(),
            len(self.texts.classes),
            self._weights(truth).numpy(),
            unlabelled,
            self.config.seed,
        )
        self.reporter.note(
            f"character n-grams learnt from {len(train):,} labelled"
            + (f" and {len(unlabelled):,} unlabelled" if unlabelled else "")
            + " texts vote beside the network"
        )

    def _calibrate(self, tuner: Tuner) -> None:
        """Weigh network and n-grams so that their sum is calibrated, and say what they reach."""
        texts, network = self.texts, tuner.network
        network.temperature.fill_(1.0)
        logits = [tuner.logits(tuner.valid.encoded)]
        logits += [torch.from_numpy(each.logits(texts.valid.texts)) for each in self.members]
        truth = texts.indices(texts.valid)
        if not self.members and len(truth) < TRUSTED_VALIDATION:
            return
        # With few labels the network is the weakest voter, and there is too little to see that by.
        labels = len(texts.train)
        trust = [labels / (labels + NETWORK_LEARNS), 1.0][: len(logits)]
        if len(logits) > 2:
            share = LATENT_HELPS / (labels + LATENT_HELPS)
            trust[1:] = [1 - share, share]
        enough = len(truth) >= TRUSTED_VALIDATION
        factors = vote_weights(logits, truth if enough else None, trust)
        network.temperature.fill_(1 / max(factors[0], 1e-3))
        tuner.best["temperature"] = network.temperature.detach().cpu().clone()
        if self.members:
            self.ngrams = summed(self.members, factors[1:])
        both = sum(factor * each for factor, each in zip(factors, logits, strict=True))
        assert isinstance(both, Tensor)
        if len(truth):
            alone = tuner.progress.best.get("valid_accuracy")
            tuner.progress.best |= self._valid_row(both)
            self.reporter.note(
                f"validation accuracy {tuner.progress.best['valid_accuracy']:.4f} calibrated"
                + (f" and with n-grams, {alone:.4f} without" if self.members and alone else "")
            )

    def _outcome(self, network: ClassifierNetwork, tuner: Tuner, finished: bool) -> FinetuneRun:
        valid = {
            name.removeprefix("valid_"): value
            for name, value in tuner.progress.best.items()
            if name.startswith("valid_")
        }
        classifier = Classifier(
            network,
            self.vocabularies,
            self.texts.classes,
            self.reading.clean,
            ngrams=self.ngrams,
        )
        classifier.precision = self.precision.name
        return FinetuneRun(
            self.directory,
            classifier,
            len(self.texts.train),
            tuner.progress.step,
            tuner.progress.seconds,
            valid,
            finished,
        )

    def _save(self, tuner: Tuner, finished: bool) -> None:
        weights = tuner.best or storage.weights_of(tuner.network)
        stored = storage.pack(
            tuner.network,
            weights,
            self.vocabularies,
            self.texts.classes,
            self.reading.clean,
            self.ngrams,
        )
        stored.documents["config"] |= self.saved | {
            "results": {
                "steps": tuner.progress.step,
                "seconds": tuner.progress.seconds,
                "labels_used": len(self.texts.train),
                "finished": finished,
                **tuner.progress.best,
            },
            "versions": versions(),
        }
        if self.config.method == "finetune":
            document, tensors = tuner.training_state()
            for index, member in enumerate(self.members):
                tensors[f"ngrams-{index}"] = member.to_tensors()
            stored.keep_training(document, tensors)
        checkpoint.save(self.directory, stored, metrics=self.log.lines)
