"""From texts, labels and encoders to a classifier on disk: training and choice of the members.

If the encoder is frozen, all members are regressions on features that are computed once, and
cross-validation on the labels chooses the members. A network that is fine-tuned is trained once,
and the members are weighted on the validation texts.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
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
from chargen.sentiment.batching import EncodedTexts, pooled_features, text_encodings
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import ExamplesConfig, FinetuneConfig
from chargen.sentiment.examples import Examples
from chargen.sentiment.members import Member, NetworkMember
from chargen.sentiment.network import LIMIT, ClassifierNetwork
from chargen.sentiment.ngrams import Ngrams
from chargen.sentiment.regression import (
    PROBE_STRENGTHS,
    USUAL_STRENGTH,
    Labels,
    Linear,
    Regression,
    fold_numbers,
)
from chargen.sentiment.splitting import TrainingTexts
from chargen.sentiment.text_classification import (
    Decision,
    Labelled,
    LabelledProgress,
    TextClassification,
)
from chargen.sentiment.voting import Vote, weigh
from chargen.storage import checkpoint
from chargen.text.vocabulary import Vocabulary
from chargen.training.loop import Loop
from chargen.training.reporting import Log, Reporter

MOST_NGRAM_TEXTS = 20_000
"""Texts that n-grams are counted in, unless more are labelled: some 30 KB of memory each."""

NETWORK = "network"


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
    """What is known of a run before it learns.

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

    def labels(self, examples: Examples) -> Labels:
        """Of training or validation texts, each class weighed as in training."""
        targets, classes = self.texts.indices(examples).numpy(), len(self.texts.classes)
        weights = np.ones(len(targets), np.float32)
        if self.config.class_weights:  # the inverse of the share of the class, 1 on average
            learnt = self.texts.indices(self.texts.train).numpy()
            counts = np.bincount(learnt, minlength=classes).clip(1)
            weights = (len(learnt) / (classes * counts[targets])).astype(np.float32)
        return Labels(targets, weights, classes)

    def ngrams(self) -> Ngrams | None:
        """N-grams of the training texts, where they are to be counted."""
        if not self.config.ngrams:
            return None
        texts = self.texts.train.texts
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


# ---------------------------------------------------------------- a frozen encoder


def learn_probe(setup: Setup, network: ClassifierNetwork) -> FinetuneRun:
    """Fit regressions on what the network's encoders hold and on n-grams, weigh them, and save.

    Parameters
    ----------
    setup : Setup
    network : ClassifierNetwork
        Without detectors and hidden layer (see `fill_head`).
    """
    began, config, texts = time.perf_counter(), setup.config, setup.texts
    labels = setup.labels(texts.train)
    encoded = EncodedTexts(texts.train.texts, text_encodings(network, setup.vocabularies))
    features = pooled_features(network, encoded, setup.precision)
    scaled = standardise(network, features)
    ngrams = setup.ngrams()
    probe = Regression(scaled, PROBE_STRENGTHS, config.penalty, config.seed)
    regressions = {NETWORK: probe} | (ngrams.regressions if ngrams else {})
    factors, strengths, figures = _cross_validated(setup, labels, regressions)
    prior = labels.prior
    fitted = {
        name: regressions[name].fit(labels, strengths[name]) for name in factors if factors[name]
    }
    members: list[Member] = []
    offset = torch.tensor(prior, dtype=torch.float32)
    if NETWORK in fitted:
        setup.reporter.note(_described(fitted[NETWORK], config.penalty))
        fill_head(network, fitted[NETWORK])
        network.temperature.fill_(1 / factors[NETWORK])
        members.append(NetworkMember(network, setup.vocabularies, offset, setup.precision))
    if ngrams:
        weighed = {name: each.weighed(factors[name], prior) for name, each in fitted.items()}
        members += ngrams.models(weighed)
    classifier = Classifier(members, texts.classes, setup.reading.clean, offset)
    if texts.valid.texts:
        chances = classifier.predict_proba(texts.valid.texts, cleaned=True)
        figures |= setup.figures(texts.valid, chances)
    progress = LabelledProgress(seconds=time.perf_counter() - began, best=figures)
    stored = storage.pack(members, texts.classes, setup.reading.clean, offset)
    _describe(setup, stored, progress, config, True)
    checkpoint.save(setup.directory, stored)
    return _run(setup, classifier, progress, True)


def _cross_validated(
    setup: Setup, labels: Labels, regressions: Mapping[str, Regression]
) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """Factor and strength of each regression, and the figures of the whole."""
    train, seed = setup.texts.train, setup.config.seed
    folds = fold_numbers(train.texts, labels, seed)
    held = np.flatnonzero(folds >= 0)
    if len(np.unique(labels.targets[held])) < 2:
        setup.reporter.note(
            "there are too few labels to find out who helps: all members count alike"
        )
        strengths = {name: each.strengths[0] for name, each in regressions.items()}
        return _alike(regressions), strengths | {NETWORK: USUAL_STRENGTH}, {}
    setup.reporter.note(
        f"{folds.max() + 1}-fold cross-validation on {len(held):,} labelled texts decides who votes"
    )
    found = {name: each.out_of_fold(labels, folds) for name, each in regressions.items()}
    rest = Labels(labels.targets[held], labels.weights[held], labels.num_classes)
    some = train.select(held.tolist())
    prior = labels.prior
    evidence = {name: said[held] for name, (said, _) in found.items()}
    vote = _weighed(setup, evidence, rest, some, prior)
    figures = setup.figures(some, torch.from_numpy(vote.logits).softmax(-1).numpy())
    strengths = {name: strength for name, (_, strength) in found.items()}
    return vote.factors, strengths, figures | {"votes": vote.to_dict()}


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


def _described(linear: Linear, penalty: str) -> str:
    used = int((np.abs(linear.weights[-1]) > 1e-12).sum())
    return (
        f"logistic regression ({penalty}) on {linear.weights.shape[1]} features of the frozen "
        f"encoder, {used} of them used"
    )


# ---------------------------------------------------------------- a fine-tuned network


def make_loop(setup: Setup, network: ClassifierNetwork) -> Loop[TextClassification]:
    """A loop over the network, whose checkpoints go to the run's directory."""
    encodings = text_encodings(network, setup.vocabularies)

    def part(examples: Examples) -> Labelled:
        labels = setup.labels(examples)
        targets = nn.functional.one_hot(torch.from_numpy(labels.targets), labels.num_classes)
        encoded = EncodedTexts(examples.texts, encodings)
        return Labelled(encoded, targets.float(), torch.from_numpy(labels.weights))

    task = TextClassification(
        network,
        part(setup.texts.train),
        part(setup.texts.valid),
        setup.config,
        setup.precision,
        partial(setup.figures, setup.texts.valid),
        partial(_decide, setup),
    )
    return Loop(task, partial(_save, setup), setup.reporter, setup.log)


def learn_network(setup: Setup, loop: Loop[TextClassification]) -> FinetuneRun:
    """Train, weigh the members, and tell what came of it.

    Raises
    ------
    TrainingError
        Where the loss stays without a number.
    """
    try:
        with stopping_softly(loop):
            loop.run()
    finally:
        setup.reporter.close()
    return concluded(setup, loop)


def concluded(setup: Setup, loop: Loop[TextClassification]) -> FinetuneRun:
    """What a run came to that has ended, or was stopped."""
    task = loop.task
    if loop.best:
        storage.load_weights(task.model, loop.best)
    members, prior = _members(setup, task)
    classifier = Classifier(members, setup.texts.classes, setup.reading.clean, prior)
    return _run(setup, classifier, task.progress, loop.finished)


def _decide(setup: Setup, logits: Tensor) -> Decision:
    """Weigh the network, whose logits (N, C) of the validation texts are given, and n-grams."""
    texts = setup.texts
    train, valid = setup.labels(texts.train), setup.labels(texts.valid)
    prior = train.prior
    ngrams = setup.ngrams()
    fitted: dict[str, Linear] = {}
    evidence = {NETWORK: logits.double().numpy() - prior}
    if ngrams is not None:
        for name, regression in ngrams.regressions.items():
            fitted[name] = regression.fit(train, regression.strengths[0]).weighed(1.0, prior)
            (model,) = ngrams.models({name: fitted[name]})
            evidence[name] = model.logits(texts.valid.texts).double().numpy()
    if texts.valid.texts:
        vote = _weighed(setup, evidence, valid, texts.valid, prior)
        factors = vote.factors
        chances = torch.from_numpy(vote.logits).softmax(-1).numpy()
        figures = setup.figures(texts.valid, chances) | {"votes": vote.to_dict()}
    else:
        factors, figures = _alike(evidence), {}
        if ngrams is not None:
            setup.reporter.note(
                "there are no validation texts to find out who helps: all members count alike"
            )
    weighed = {
        name: each.weighed(factors[name], np.zeros(len(prior)))
        for name, each in fitted.items()
        if factors[name]
    }
    models = ngrams.models(weighed) if ngrams is not None else []
    return Decision(factors[NETWORK], models, torch.tensor(prior, dtype=torch.float32), figures)


def _members(setup: Setup, task: TextClassification) -> tuple[list[Member], Tensor | None]:
    """Who votes; until that is decided, the network alone."""
    decision = task.decision
    prior = None if decision is None else decision.prior
    members: list[Member] = []
    if decision is None or decision.network:
        members.append(NetworkMember(task.model, setup.vocabularies, prior, setup.precision))
    return members + list(decision.ngrams if decision else ()), prior


def _save(setup: Setup, loop: Loop[TextClassification]) -> None:
    task = loop.task
    members, prior = _members(setup, task)
    stored = storage.pack(members, setup.texts.classes, setup.reading.clean, prior)
    weights = loop.best or storage.weights_of(task.model)
    unused = not any(isinstance(member, NetworkMember) for member in members)
    name = storage.UNUSED if unused else storage.NETWORK
    storage.keep_network(stored, task.model, weights, setup.vocabularies, name)
    _describe(setup, stored, task.progress, task.config, loop.finished)
    stored.keep_training(*loop.state())
    checkpoint.save(setup.directory, stored, metrics=setup.log.lines)


# ---------------------------------------------------------------- both


def _weighed(
    setup: Setup,
    evidence: Mapping[str, NDArray[np.float64]],
    labels: Labels,
    examples: Examples,
    prior: NDArray[np.float64],
) -> Vote:
    vote = weigh(evidence, labels, examples.texts, prior, setup.config.seed)
    for sentence in vote.sentences():
        setup.reporter.note(sentence)
    return vote


def _alike(names: Collection[str]) -> dict[str, float]:
    """Factors where there is nothing to decide by: of the mean of the members' logits."""
    return dict.fromkeys(names, 1 / len(names))


def _describe(
    setup: Setup,
    stored: checkpoint.Checkpoint,
    progress: LabelledProgress,
    config: FinetuneConfig,
    finished: bool,
) -> None:
    """Write into a checkpoint how it came about."""
    stored.documents["config"] |= setup.documents | {
        "finetune": asdict(config),
        "examples": asdict(setup.reading),
        "precision": setup.precision,
        "digest": setup.texts.digest,
        "results": {
            "steps": progress.step,
            "seconds": progress.seconds,
            "labels_used": len(setup.texts.train),
            "finished": finished,
            **progress.best,
        },
        "versions": versions(),
    }


def _run(
    setup: Setup, classifier: Classifier, progress: LabelledProgress, finished: bool
) -> FinetuneRun:
    valid = {
        name.removeprefix("valid_"): value
        for name, value in progress.best.items()
        if name.startswith("valid_")
    }
    return FinetuneRun(
        setup.directory,
        classifier,
        len(setup.texts.train),
        progress.step,
        progress.seconds,
        valid,
        finished,
    )
