"""Train the members of a classifier, choose among them, and save the classifier.

If the encoder is frozen, all members are regressions on features that are computed once, and
cross-validation on the labels chooses the members. If the network is fine-tuned, it is trained
once, and the members are weighted on the validation texts.
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
from chargen.runtime.signals import stop_after_step
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
from chargen.sentiment.regression import Linear, Regression, choose_members
from chargen.sentiment.splitting import Targets, TrainingTexts, fold_numbers, sample_texts
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
"""Most texts in which n-grams are counted (more if more are labelled); each takes some 30 KB.

Of more unlabelled texts a random sample is taken, since a file may be sorted.
"""

PROBE_STRENGTHS = tuple(2.0**power for power in range(-12, 5, 2))
"""Inverse regularisation strengths among which a probe chooses."""

USUAL_STRENGTH = 2.0**-4
"""Inverse regularisation strength of a probe if no text can be held out to choose one."""

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
        Time in the training loop; for a probe, time to encode the texts and fit.
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
    """The settings and texts of a run, before training."""

    directory: Path  # where the checkpoint goes
    texts: TrainingTexts
    config: FinetuneConfig
    reading: ExamplesConfig
    vocabularies: tuple[Vocabulary, ...]  # one per encoder
    precision: str
    reporter: Reporter
    log: Log  # with the rows of the run before it was resumed
    documents: dict[str, Any]  # the entries "encoder" and "data" of the checkpoint: paths

    def targets(self, examples: Examples) -> Targets:
        """Classes and weights of training or validation texts, weighted as in training."""
        return self.texts.targets(examples, self.config.class_weights)

    def ngrams(self, texts: tuple[str, ...]) -> Ngrams | None:
        """Count the n-grams of labelled and unlabelled texts; None with `--no-ngrams`."""
        if not self.config.ngrams:
            return None
        room = max(0, MOST_NGRAM_TEXTS - len(texts))
        unlabelled = sample_texts(self.texts.unlabelled, room, self.config.seed)
        found = Ngrams(texts, unlabelled, self.config.seed)
        more = f" and {len(unlabelled):,} unlabelled" if unlabelled else ""
        self.reporter.note(f"n-grams counted in {len(texts):,} labelled{more} texts")
        return found

    def figures(self, examples: Examples, probabilities: NDArray[Any]) -> dict[str, Any]:
        """Return accuracy, macro-F1 and log loss as "valid_*"; empty without texts."""
        if not len(examples):
            return {}
        found = metrics.evaluate(examples.labels, probabilities, self.texts.classes)
        return {f"valid_{name}": found[name] for name in ("accuracy", "macro_f1", "log_loss")}

    def chosen_members(
        self,
        evidence: Mapping[str, NDArray[np.float64]],
        targets: Targets,
        examples: Examples,
        prior: NDArray[np.float64],
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Weight the members by their evidence on examples; return factors and figures."""
        vote = choose_members(
            evidence, targets, examples.texts, prior, self.config.seed, members_cost
        )
        for sentence in vote.sentences():
            self.reporter.note(sentence)
        chances = torch.from_numpy(vote.logits).softmax(-1).numpy()
        return vote.factors, self.figures(examples, chances) | {"votes": vote.to_dict()}

    def equal_factors(self, names: Collection[str], why: str) -> dict[str, float]:
        """Return equal factors, which give the mean of the members' logits; note the reason."""
        if len(names) > 1:
            self.reporter.note(f"{why} to find out which members help: all have the same weight")
        return dict.fromkeys(names, 1 / len(names))

    def classifier(self, members: Sequence[Member], prior: Tensor | None) -> Classifier:
        """Build a classifier of these members for the run's classes."""
        return Classifier(members, self.texts.classes, self.reading.clean, prior)

    def to_checkpoint(
        self, made: Classifier, progress: LabelledProgress, config: FinetuneConfig, finished: bool
    ) -> checkpoint.Checkpoint:
        """Build a checkpoint of a classifier, with the settings and results of the run."""
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
                **progress.figures,
            },
            "versions": versions(),
        }
        return stored

    def outcome(self, made: Classifier, progress: LabelledProgress, finished: bool) -> FinetuneRun:
        """Return the result of the run that made this classifier."""
        valid = {
            name.removeprefix("valid_"): value
            for name, value in progress.figures.items()
            if name.startswith("valid_")
        }
        return FinetuneRun(
            self.directory, made, len(self.texts.train), progress.step, progress.seconds, valid,
            finished,
        )  # fmt: skip


# ---------------------------------------------------------------- a frozen encoder


def learn_probe(setup: Setup, network: ClassifierNetwork) -> FinetuneRun:
    """Fit regressions on the encoders' states and on n-grams, weight them, and save.

    The network has no detectors and no hidden layer (see `fill_head`).
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
        weighted = {name: each.weighted(factors[name], prior) for name, each in fitted.items()}
        members += ngrams.models(weighted)
    made = setup.classifier(members, offset)
    if texts.valid.texts:
        chances = made.predict_proba(texts.valid.texts, cleaned=True)
        figures |= setup.figures(texts.valid, chances)
    progress = LabelledProgress(seconds=time.perf_counter() - began, best=figures)
    checkpoint.save(setup.directory, setup.to_checkpoint(made, progress, config, True))
    return setup.outcome(made, progress, True)


def _cross_validated(
    setup: Setup, targets: Targets, regressions: Mapping[str, Regression]
) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """Return factor and strength of each regression, and the figures of their sum."""
    folds = fold_numbers(setup.texts.train.texts, targets, setup.config.seed)
    held = np.flatnonzero(folds >= 0)
    if len(np.unique(targets.classes[held])) < 2:
        strengths = {name: each.strengths[0] for name, each in regressions.items()}
        factors = setup.equal_factors(regressions, "there are too few labels")
        return factors, strengths | {NETWORK: USUAL_STRENGTH}, {}
    setup.reporter.note(
        f"{folds.max() + 1}-fold cross-validation on {len(held):,} labelled texts decides which "
        "members vote"
    )
    found = {name: each.out_of_fold(targets, folds) for name, each in regressions.items()}
    evidence = {name: said[held] for name, (said, _) in found.items()}
    some = setup.texts.train.select(held.tolist())
    factors, figures = setup.chosen_members(evidence, targets.at(held), some, targets.prior)
    return factors, {name: strength for name, (_, strength) in found.items()}, figures


def standardise(network: ClassifierNetwork, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standardise features (N, F), and give the network's head their mean and variance."""
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
    """Copy a regression on standardised features into the last layer of a network."""
    last = network.head[-1]
    assert isinstance(last, nn.Linear)
    last.weight.copy_(torch.from_numpy(linear.weights))
    last.bias.copy_(torch.from_numpy(linear.biases))


# ---------------------------------------------------------------- a fine-tuned network


class NetworkTraining:
    """Train a network, then choose and weight the n-gram members beside it.

    Attributes
    ----------
    loop : Loop
        Writes its checkpoints to the run's directory.
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
        # Until the members are weighted, the network is the only one, without a prior.
        self._network_votes = True
        self._ngrams: list[NgramModel] = []
        self._prior: Tensor | None = None

    def run(self) -> FinetuneRun:
        """Train, weight the members, and return the result.

        Raises
        ------
        TrainingError
            If the loss stays infinite or not a number.
        """
        loop = self.loop
        try:
            with stop_after_step(loop):
                loop.run()
        finally:
            self.setup.reporter.close()
        if loop.best:
            loop.task.model.load_state_dict(loop.best, strict=False)
        return self.setup.outcome(self._classifier(), loop.task.progress, loop.finished)

    def _decide(self, logits: Tensor) -> tuple[float, dict[str, Any]]:
        """Weight the network and the n-grams, given the network's logits (N, C).

        The logits are those of the validation texts. Where these were held back from the labelled
        texts, they are free now, and the n-grams are trained on them too.
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
            factors, figures = setup.chosen_members(evidence, setup.targets(held), held, prior)
        else:
            names = [NETWORK, *regressions]
            factors, figures = setup.equal_factors(names, "there are no validation texts"), {}
        rows = slice(None) if setup.config.valid is None else learnt
        weighted = {
            name: each.fit(targets, each.strengths[0], rows).weighted(factors[name], prior)
            for name, each in regressions.items()
            if factors[name]
        }
        self._network_votes = factors[NETWORK] > 0
        self._ngrams = ngrams.models(weighted) if ngrams else []
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
        stored = setup.to_checkpoint(self._classifier(), task.progress, task.config, loop.finished)
        weights = loop.best or storage.weights_of(task.model)
        name = storage.WEIGHTS if self._network_votes else storage.UNUSED
        storage.keep_network(stored, task.model, weights, setup.vocabularies, name)
        stored.add_training_state(*loop.state())
        checkpoint.save(setup.directory, stored, metrics=setup.log.lines)
