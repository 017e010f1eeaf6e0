"""Parts of labelled data, and the texts of a run: the same for the same seed, all classes in each.

Drawn with Python's own generator, whose shuffles are the same on every machine.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError, CorpusError, named
from chargen.sentiment.config import ExamplesConfig, FinetuneConfig
from chargen.sentiment.examples import Examples, read_examples, read_texts
from chargen.training.reporting import Reporter

FOLDS = 5
"""Parts of cross-validation, of each of which the others' texts learn to judge it."""


ABSENT = -20.0
"""Logit of a class without a single text."""


@dataclass(frozen=True)
class Targets:
    """What regressions are to find."""

    classes: NDArray[np.int64]  # (N,)
    weights: NDArray[np.float32]  # (N,): how much each text counts
    num_classes: int  # C

    @property
    def prior(self) -> NDArray[np.float64]:
        """Logarithm of the share of each class, (C,), each text counted by its weight."""
        shares = np.bincount(self.classes, self.weights, self.num_classes) / self.weights.sum()
        found: NDArray[np.float64] = np.log(shares.clip(np.exp(ABSENT)))
        return found

    def at(self, rows: NDArray[Any]) -> Targets:
        """Those of some texts, by places or by a mask."""
        return Targets(self.classes[rows], self.weights[rows], self.num_classes)


@dataclass(frozen=True)
class TrainingTexts:
    """What a run learns from."""

    train: Examples
    valid: Examples  # may be empty
    classes: tuple[str, ...]  # all labels, those that a small selection happens to lack among them
    unlabelled: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over every text and label, in order."""
        digest = hashlib.sha256()
        for part in (self.train, self.valid):
            for text, label in zip(part.texts, part.labels, strict=True):
                digest.update(f"{len(text)} {label}\n{text}".encode("utf-8", "surrogatepass"))
        for text in self.unlabelled:
            digest.update(f"{len(text)}\n{text}".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    @property
    def labelled(self) -> Examples:
        """Those of training, and behind them those of validation."""
        train, valid = self.train, self.valid
        return replace(
            train,
            texts=train.texts + valid.texts,
            labels=train.labels + valid.labels,
            rows=train.rows + valid.rows,
        )

    def targets(self, part: Examples, balanced: bool) -> Targets:
        """Classes of some examples; balanced, each class of training counts the same."""
        number = {label: index for index, label in enumerate(self.classes)}
        classes, learnt = (
            np.array([number[label] for label in each.labels], np.int64)
            for each in (part, self.train)
        )
        weights = np.ones(len(classes), np.float32)
        if balanced:  # the inverse of the share of the class, 1 on average
            counts = np.bincount(learnt, minlength=len(number)).clip(1)
            weights = (len(learnt) / (len(number) * counts[classes])).astype(np.float32)
        return Targets(classes, weights, len(number))


def read_training_texts(
    data: Any, config: FinetuneConfig, reading: ExamplesConfig, reporter: Reporter
) -> TrainingTexts:
    """Labelled texts, as many as asked for, split; and the unlabelled ones if there are any.

    Raises
    ------
    ConfigError, CorpusError
        Where they cannot be read, or there is nothing to tell apart.
    """
    examples = data if isinstance(data, Examples) else read_examples(data, reading)
    for note in examples.notes:
        reporter.note(note)
    classes = examples.classes
    if len(classes) < 2:
        raise CorpusError(f"{examples.source}: texts of two or more classes are needed")
    if config.labels is not None:
        examples = subset(examples, config.labels, config.seed)
    if config.valid is not None:
        train, valid = examples, read_examples(config.valid, reading, classes)
        shared = warn_shared(train, valid)
        if shared:
            reporter.note(shared)
    elif config.valid_fraction:
        train, valid = split(examples, config.valid_fraction, config.seed)
    else:
        train, valid = examples, examples.select([])
    for note in dict.fromkeys((*train.notes, *valid.notes)):
        if note not in examples.notes:
            reporter.note(note)
    told: list[str] = []
    unlabelled = [] if config.unlabelled is None else read_texts(config.unlabelled, reading, told)
    for note in told:
        reporter.note(note)
    return TrainingTexts(train, valid, classes, tuple(unlabelled))


def split(examples: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Two parts with the classes in the same proportions: for training, and a fraction to validate.

    Rows with identical texts stay together, so that no text is validated on that was learnt. Both
    are in the order of the data; a note of the first says how many texts stand there repeatedly.

    Raises
    ------
    CorpusError
        Where a class has fewer than two different texts.
    ConfigError
        Where the fraction is impossible.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"--valid-fraction must be above 0 and below 1 here, got {fraction}")
    valid: list[int] = []
    groups = _groups(examples.texts)
    for label in examples.classes:
        own = [group for group in groups if examples.labels[group[0]] == label]
        if len(own) < 2:
            raise CorpusError(_too_few(examples, label))
        random.Random(f"split {seed} {label}").shuffle(own)
        total = sum(map(len, own))
        valid += _about(own, min(max(1, round(fraction * total)), total - 1))
    chosen = set(valid)
    train = examples.select([i for i in range(len(examples)) if i not in chosen])
    repeats = len(examples) - len(groups)
    if repeats:
        note = (
            f"{examples.source}: {repeats:,} of {len(examples):,} texts repeat an earlier one; "
            "they stand on the same side of the split"
        )
        train = replace(train, notes=(*train.notes, note))
    return train, examples.select(sorted(chosen))


def fold_numbers(texts: Sequence[str], targets: Targets, seed: int) -> NDArray[np.int64]:
    """The fold of each text, (N,): each class is spread over all `FOLDS` as far as it goes.

    Equal texts are in one fold. What has no equal in its class is never held out, and has the
    number -1: without it, there would be nothing to know the class by.
    """
    by_class: dict[int, list[list[int]]] = {}
    for group in _groups(texts):
        by_class.setdefault(int(targets.classes[group[0]]), []).append(group)
    found = np.full(len(texts), -1, np.int64)
    count = min(FOLDS, max(map(len, by_class.values())))
    turn = 0  # goes on from class to class, so that few texts of a class are in many folds
    for number, own in sorted(by_class.items()):
        random.Random(f"folds {seed} {number}").shuffle(own)
        for group in own if len(own) > 1 else ():
            found[group] = turn % count
            turn += 1
    used = np.unique(found[found >= 0])  # folds that nothing fell into are closed
    return np.where(found < 0, -1, np.searchsorted(used, found))


def subset(examples: Examples, count: int, seed: int) -> Examples:
    """So many examples, with the classes in the same proportions as in all of them.

    Those of a smaller count are among those of a larger one with the same seed.

    Raises
    ------
    ConfigError
        Where there are fewer examples, or more classes.
    """
    classes = examples.classes
    if count > len(examples):
        raise ConfigError(
            f"--labels {count:,} is too many: {examples.source} has "
            f"{len(examples):,} labelled texts to learn from"
        )
    if count < len(classes):
        raise ConfigError(
            f"--labels {count} is too few: {examples.source} has {len(classes)} classes, and each "
            "needs a text"
        )
    ranked: list[tuple[float, int, int]] = []
    for place, label in enumerate(classes):
        own = [i for i, each in enumerate(examples.labels) if each == label]
        random.Random(f"subset {seed} {label}").shuffle(own)
        # One of each class comes first; then all classes are used up evenly.
        ranked += [((k + 0.5) / len(own) if k else -1.0, place, i) for k, i in enumerate(own)]
    return examples.select(sorted(i for _, _, i in sorted(ranked)[:count]))


def warn_shared(train: Examples, other: Examples) -> str | None:
    """A sentence when texts of `other` also stand in `train`; None when none does."""
    known = set(train.texts)
    shared = [row for text, row in zip(other.texts, other.rows, strict=True) if text in known]
    if not shared:
        return None
    rows = named(shared, "row")
    return (
        f"{len(shared):,} of {len(other):,} texts of {other.source} also stand in {train.source} "
        f"({rows}): figures on them are too good"
    )


def _groups(texts: Iterable[str]) -> list[list[int]]:
    """Indices of identical texts together, in the order of their first."""
    groups: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        groups.setdefault(text, []).append(index)
    return list(groups.values())


def _about(groups: list[list[int]], target: int) -> list[int]:
    """Whole groups, not more than `target` members of them, but never none."""
    chosen: list[int] = []
    for group in groups:
        if len(chosen) + len(group) <= target:
            chosen += group
    return chosen or min(groups, key=len)


def _too_few(examples: Examples, label: str) -> str:
    rows = [r for r, each in zip(examples.rows, examples.labels, strict=True) if each == label]
    return (
        f"{examples.source}: label {label!r} has only one text of its own ({named(rows, 'row')}); "
        "to hold some back for validation each label needs two: add some, or give --valid FILE"
    )
