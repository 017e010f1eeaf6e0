"""From texts, labels and encoders to a classifier on disk: training and choice of the members.

If the encoder is frozen, all members are regressions on features that are computed once, and
cross-validation on the labels chooses the members. A network that is fine-tuned is trained once,
and the members are weighted on the validation texts.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chargen.runtime.device import versions
from chargen.runtime.signals import stopping_softly
from chargen.sentiment import metrics, storage
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import ExamplesConfig, FinetuneConfig
from chargen.sentiment.examples import Examples
from chargen.sentiment.members import Member, NetworkMember, NgramModel, Ngrams, members_cost
from chargen.sentiment.network import (
    LIMIT,
    ClassifierNetwork,
    EncodedTexts,
    pooled_features,
    text_encodings,
)
from chargen.sentiment.regression import Linear, Regression, weigh
from chargen.sentiment.splitting import Targets, TrainingTexts, fold_numbers
from chargen.sentiment.text_classification import (
    LabelledProgress,
    LabelledTexts,
    TextClassification,
)
from chargen.storage import checkpoint
from chargen.text.vocabulary import Vocabulary
from chargen.training.loop import Loop
from chargen.training.reporting import Log, Reporter

MOST_NGRAM_TEXTS = 20_000
"""Texts that n-grams are counted in, unless more are labelled: some 30 KB of memory each."""

PROBE_STRENGTHS = tuple(2.0**power for power in range(-12, 5, 2))
"""Inverse strengths of regularisation that a probe tries."""

USUAL_STRENGTH = 2.0**-4
"""Where nothing can be held out to try any."""

NETWORK = NetworkMember.name


@dataclass(frozen=True)
class FinetuneRun:
    """The result of a fine-tuning run.

    Attributes
    ----------
    directory : Path or None
        The checkpoint; None if `finetune` was called without `out`.
    classifier : Classifier
    labels_used : int
        Number of labelled texts for training.
    steps : int
        Steps of the optimizer; 0 for a probe.
    seconds : float
        Time in the training loop; for a probe, time of reading the texts and fitting.
    valid : dict
        "accuracy", "macro_f1" and "log_loss" of `classifier` on the validation texts. For a probe
        without validation texts they come from cross-validation on the training texts. Empty
        without either.
    finished : bool
        False if the run was interrupted; `resume_finetune` continues it.
    """

    directory: Path | None
    classifier: Classifier
    labels_used: int
    steps: int
    seconds: float
    valid: dict[str, Any]
    finished: bool


@dataclass(frozen=True)
class Setup:
    """What is known of a run before it learns."""

    directory: Path  # where the checkpoint goes
    texts: TrainingTexts
    config: FinetuneConfig
    reading: ExamplesConfig
    vocabularies: tuple[Vocabulary, ...]  # one an encoder
    precision: str
    reporter: Reporter
    log: Log  # of what was done before, and then of all
    documents: dict[str, Any]  # what the checkpoint says of "encoder" and, on disk, "data"

    def targets(self, examples: Examples) -> Targets:
        """Of training or validation texts, each class weighed as in training."""
        return self.texts.targets(examples, self.config.class_weights)

    def ngrams(self, texts: tuple[str, ...]) -> Ngrams | None:
        """N-grams of labelled texts, where they are to be counted, with the unlabelled ones."""
        if not self.config.ngrams:
            return None
        unlabelled = self.texts.unlabelled[: max(0, MOST_NGRAM_TEXTS - len(texts))]
        found = Ngrams(texts, unlabelled, self.config.seed)
        more = f" and {len(unlabelled):,} unlabelled" if unlabelled else ""
        self.reporter.note(f"n-grams counted in {len(texts):,} labelled{more} texts")
        return found

    def figures(self, examples: Examples, probabilities: NDArray[Any]) -> dict[str, Any]:
        """Accuracy, macro-F1 and log loss, named as those of validation; none of no text."""
        if not len(examples):
            return {}
        found = metrics.evaluate(examples.labels, probabilities, self.texts.classes)
        return {f"valid_{name}": found[name] for name in ("accuracy", "macro_f1", "log_loss")}

    def weighed(
        self,
        evidence: Mapping[str, NDArray[np.float64]],
        targets: Targets,
        examples: Examples,
        prior: NDArray[np.float64],
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """The factor of each member by its evidence on examples, and the figures of the whole."""
        vote = weigh(evidence, targets, examples.texts, prior, self.config.seed, members_cost)
        for sentence in vote.sentences():
            self.reporter.note(sentence)
        chances = torch.from_numpy(vote.logits).softmax(-1).numpy()
        return vote.factors, self.figures(examples, chances) | {"votes": vote.to_dict()}

    def alike(self, names: Collection[str], why: str) -> dict[str, float]:
        """Factors where there is nothing to decide by: of the mean of the members' logits."""
        if len(names) > 1:
            self.reporter.note(f"{why} to find out who helps: all members count alike")
        return dict.fromkeys(names, 1 / len(names))

    def classifier(self, members: Sequence[Member], prior: Tensor | None) -> Classifier:
        """One of these members for the run's classes."""
        return Classifier(members, self.texts.classes, self.reading.clean, prior)

    def packed(
        self, made: Classifier, progress: LabelledProgress, config: FinetuneConfig, finished: bool
    ) -> checkpoint.Checkpoint:
        """A checkpoint of a classifier that says how it came about."""
        stored = storage.pack(made.members, made.labels, made.clean, made.prior)
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

    def outcome(self, made: Classifier, progress: LabelledProgress, finished: bool) -> FinetuneRun:
        """What a run came to that made this classifier."""
        valid = {
            name.removeprefix("valid_"): value
            for name, value in progress.best.items()
            if name.startswith("valid_")
        }
        return FinetuneRun(
            self.directory, made, len(self.texts.train), progress.step, progress.seconds, valid,
            finished,
        )  # fmt: skip


# ---------------------------------------------------------------- a frozen encoder


def learn_probe(setup: Setup, network: ClassifierNetwork) -> FinetuneRun:
    """Fit regressions on what the network's encoders hold and on n-grams, weigh them, and save.

    The network is without detectors and hidden layer (see `fill_head`).
    """
    began, config, texts = time.perf_counter(), setup.config, setup.texts
    targets = setup.targets(texts.train)
    prior = targets.prior
    encoded = EncodedTexts(texts.train.texts, text_encodings(network, setup.vocabularies))
    features = pooled_features(network, encoded, setup.precision)
    scaled = standardise(network, features)
    ngrams = setup.ngrams(texts.train.texts)
    probe = Regression(scaled, PROBE_STRENGTHS, config.penalty, config.seed)
    regressions = {NETWORK: probe} | (ngrams.regressions if ngrams else {})
    factors, strengths, figures = _cross_validated(setup, targets, regressions)
    fitted = {
        name: regressions[name].fit(targets, strengths[name]) for name in factors if factors[name]
    }
    members: list[Member] = []
    offset = torch.tensor(prior, dtype=torch.float32)
    if NETWORK in fitted:
        weights = fitted[NETWORK].weights
        setup.reporter.note(
            f"logistic regression ({config.penalty}) on {weights.shape[1]} features of the frozen "
            f"encoder, {int((np.abs(weights[-1]) > 1e-12).sum())} of them used"
        )
        fill_head(network, fitted[NETWORK])
        network.temperature.fill_(1 / factors[NETWORK])
        members.append(NetworkMember(network, setup.vocabularies, offset))
    if ngrams:
        weighed = {name: each.weighed(factors[name], prior) for name, each in fitted.items()}
        members += ngrams.models(weighed)
    made = setup.classifier(members, offset)
    if texts.valid.texts:
        chances = made.predict_proba(texts.valid.texts, cleaned=True)
        figures |= setup.figures(texts.valid, chances)
    progress = LabelledProgress(seconds=time.perf_counter() - began, best=figures)
    checkpoint.save(setup.directory, setup.packed(made, progress, config, True))
    return setup.outcome(made, progress, True)


def _cross_validated(
    setup: Setup, targets: Targets, regressions: Mapping[str, Regression]
) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """Factor and strength of each regression, and the figures of the whole."""
    folds = fold_numbers(setup.texts.train.texts, targets, setup.config.seed)
    held = np.flatnonzero(folds >= 0)
    if len(np.unique(targets.classes[held])) < 2:
        strengths = {name: each.strengths[0] for name, each in regressions.items()}
        factors = setup.alike(regressions, "there are too few labels")
        return factors, strengths | {NETWORK: USUAL_STRENGTH}, {}
    setup.reporter.note(
        f"{folds.max() + 1}-fold cross-validation on {len(held):,} labelled texts decides who votes"
    )
    found = {name: each.out_of_fold(targets, folds) for name, each in regressions.items()}
    evidence = {name: said[held] for name, (said, _) in found.items()}
    some = setup.texts.train.select(held.tolist())
    factors, figures = setup.weighed(evidence, targets.at(held), some, targets.prior)
    return factors, {name: strength for name, (_, strength) in found.items()}, figures


def standardise(network: ClassifierNetwork, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (N, F) as the network's head will see them, whose statistics become theirs."""
    norm = network.head[0]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = features.mean(0), features.var(0)
    with torch.no_grad():
        norm.reset_parameters()
        norm.running_mean.copy_(torch.from_numpy(mean))
        norm.running_var.copy_(torch.from_numpy(variance))
    scaled: NDArray[np.float32]
    scaled = ((features - mean) / np.sqrt(variance + norm.eps)).clip(-LIMIT, LIMIT)
    return scaled


@torch.no_grad()
def fill_head(network: ClassifierNetwork, linear: Linear) -> None:
    """Put a regression on standardised features into the last layer of a network."""
    last = network.head[-1]
    assert isinstance(last, nn.Linear)
    last.weight.copy_(torch.from_numpy(linear.weights))
    last.bias.copy_(torch.from_numpy(linear.biases))


# ---------------------------------------------------------------- a fine-tuned network


class NetworkTraining:
    """A network that learns, and who votes beside it once it has.

    Attributes
    ----------
    loop : Loop
        Its checkpoints go to the run's directory.
    """

    def __init__(self, setup: Setup, network: ClassifierNetwork) -> None:
        encodings = text_encodings(network, setup.vocabularies)

        def part(examples: Examples) -> LabelledTexts:
            targets = setup.targets(examples)
            encoded = EncodedTexts(examples.texts, encodings)
            classes, weights = torch.from_numpy(targets.classes), torch.from_numpy(targets.weights)
            return LabelledTexts(encoded, classes, weights)

        train, valid = setup.texts.train, setup.texts.valid
        figures = partial(setup.figures, valid)
        task = TextClassification(
            network, part(train), part(valid), setup.config, setup.precision, figures, self._decide
        )
        self.setup = setup
        self.loop = Loop(task, self._save, setup.reporter, setup.log)
        # Until it is decided who votes, the network does alone, without a prior.
        self._network_votes = True
        self._ngrams: list[NgramModel] = []
        self._prior: Tensor | None = None

    def run(self) -> FinetuneRun:
        """Train, weigh the members, and tell what came of it.

        Raises
        ------
        TrainingError
            Where the loss stays without a number.
        """
        loop = self.loop
        try:
            with stopping_softly(loop):
                loop.run()
        finally:
            self.setup.reporter.close()
        if loop.best:
            loop.task.model.load_state_dict(loop.best, strict=False)
        return self.setup.outcome(self._classifier(), loop.task.progress, loop.finished)

    def _decide(self, logits: Tensor) -> tuple[float, dict[str, Any]]:
        """Weigh the network, whose logits (N, C) of the validation texts are given, and n-grams.

        What was held back of the labelled texts has done its part then: n-grams learn from it too.
        """
        setup, texts, held = self.setup, self.setup.texts, self.setup.texts.valid
        learnt, aside = np.split(np.arange(len(texts.labelled)), [len(texts.train)])
        prior = setup.targets(texts.train).prior
        both = texts.labelled
        targets = setup.targets(both)
        ngrams = setup.ngrams(both.texts)
        regressions = ngrams.regressions if ngrams else {}
        if held.texts:
            evidence = {NETWORK: logits.double().numpy() - prior}
            for name, each in regressions.items():
                linear = each.fit(targets, each.strengths[0], learnt)
                evidence[name] = linear.evidence(each.features[aside], prior)
            factors, figures = setup.weighed(evidence, setup.targets(held), held, prior)
        else:
            names = [NETWORK, *regressions]
            factors, figures = setup.alike(names, "there are no validation texts"), {}
        rows = slice(None) if setup.config.valid is None else learnt
        weighed = {
            name: each.fit(targets, each.strengths[0], rows).weighed(factors[name], prior)
            for name, each in regressions.items()
            if factors[name]
        }
        self._network_votes = factors[NETWORK] > 0
        self._ngrams = ngrams.models(weighed) if ngrams else []
        self._prior = torch.tensor(prior, dtype=torch.float32)
        return factors[NETWORK], figures

    def _classifier(self) -> Classifier:
        setup, members = self.setup, list[Member](self._ngrams)
        if self._network_votes:
            network = self.loop.task.model
            own = NetworkMember(network, setup.vocabularies, self._prior)
            members.insert(0, own)
        return setup.classifier(members, self._prior)

    def _save(self, loop: Loop[TextClassification]) -> None:
        setup, task = self.setup, loop.task
        stored = setup.packed(self._classifier(), task.progress, task.config, loop.finished)
        weights = loop.best or storage.weights_of(task.model)
        name = storage.WEIGHTS if self._network_votes else storage.UNUSED
        storage.keep_network(stored, task.model, weights, setup.vocabularies, name)
        stored.keep_training(*loop.state())
        checkpoint.save(setup.directory, stored, metrics=setup.log.lines)
