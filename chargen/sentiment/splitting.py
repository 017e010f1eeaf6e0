"""Splits, folds and subsets of labelled texts, and the texts of a run.

They are the same for the same seed, on every machine (Python's own generator draws them), and
contain all classes as far as possible.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError, CorpusError, enumerated
from chargen.sentiment.config import ExamplesConfig, FinetuneConfig
from chargen.sentiment.examples import Examples, read_examples, read_texts
from chargen.training.reporting import Reporter

FOLDS = 5
"""Number of folds of cross-validation: each is predicted by models that learn from the others."""


ABSENT_CLASS_LOGIT = -20.0
"""Logit of a class without a single text."""


@dataclass(frozen=True)
class Targets:
    """What regressions learn to predict, and the weight of each text."""

    classes: NDArray[np.int64]  # (N,), each from 0 to C - 1
    weights: NDArray[np.float32]  # (N,): how much each text counts
    num_classes: int  # C

    @property
    def prior(self) -> NDArray[np.float64]:
        """Logarithm of the share of each class in the total weight: (C,)."""
        shares = np.bincount(self.classes, self.weights, self.num_classes) / self.weights.sum()
        log_shares: NDArray[np.float64] = np.log(shares.clip(np.exp(ABSENT_CLASS_LOGIT)))
        return log_shares

    def at(self, rows: NDArray[Any]) -> Targets:
        """Return the targets of some texts, given by indices or by a mask."""
        return Targets(self.classes[rows], self.weights[rows], self.num_classes)


@dataclass(frozen=True)
class TrainingTexts:
    """The texts of a training run, with their labels."""

    train: Examples
    valid: Examples  # may be empty
    classes: tuple[str, ...]  # all labels, including those missing from a small selection
    unlabelled: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of all texts and labels, in order."""
        digest = hashlib.sha256()
        for part in (self.train, self.valid):
            for text, label in zip(part.texts, part.labels, strict=True):
                digest.update(f"{len(text)} {label}\n{text}".encode("utf-8", "surrogatepass"))
        for text in self.unlabelled:
            digest.update(f"{len(text)}\n{text}".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    @property
    def labelled(self) -> Examples:
        """The texts for training, followed by those for validation."""
        train, valid = self.train, self.valid
        return replace(
            train,
            texts=train.texts + valid.texts,
            labels=train.labels + valid.labels,
            rows=train.rows + valid.rows,
        )

    def targets(self, part: Examples, balanced: bool) -> Targets:
        """Return the targets of a part; if balanced, classes have equal weight in training."""
        numbers = {label: number for number, label in enumerate(self.classes)}
        classes, train_classes = (
            np.array([numbers[label] for label in examples.labels], np.int64)
            for examples in (part, self.train)
        )
        weights = np.ones(len(classes), np.float32)
        if balanced:  # inverse share of the class, 1 on average in training
            counts = np.bincount(train_classes, minlength=len(numbers)).clip(1)
            weights = (len(train_classes) / (len(numbers) * counts[classes])).astype(np.float32)
        return Targets(classes, weights, len(numbers))


def read_training_texts(
    data: Any, config: FinetuneConfig, reading: ExamplesConfig, reporter: Reporter
) -> TrainingTexts:
    """Read and split the labelled texts, as many as configured, and read any unlabelled texts.

    Raises
    ------
    ConfigError, CorpusError
        If texts cannot be read, or are all of one class.
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
        shared = shared_texts_warning(train, valid)
        if shared:
            reporter.note(shared)
    elif config.valid_fraction:
        train, valid = split(examples, config.valid_fraction, config.seed)
    else:
        train, valid = examples, examples.select([])
    for note in dict.fromkeys((*train.notes, *valid.notes)):
        if note not in examples.notes:
            reporter.note(note)
    notes: list[str] = []
    unlabelled = [] if config.unlabelled is None else read_texts(config.unlabelled, reading, notes)
    for note in notes:
        reporter.note(note)
    return TrainingTexts(train, valid, classes, tuple(unlabelled))


def sample_texts(texts: tuple[str, ...], count: int, seed: int) -> tuple[str, ...]:
    """Return at most `count` of the texts, drawn at random, in their order."""
    if len(texts) <= count:
        return texts
    return tuple(texts[row] for row in sorted(random.Random(seed).sample(range(len(texts)), count)))


def split(examples: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Split examples into a training part and a fraction for validation, stratified by class.

    Rows with identical texts stay together, so that no validation text occurs in training. Both
    parts keep the order of the data. A note of the training part gives the number of repeats.

    Raises
    ------
    CorpusError
        If a class has fewer than two different texts.
    ConfigError
        If the fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"--valid-fraction must be above 0 and below 1 here, got {fraction}")
    valid: list[int] = []
    groups = _groups(examples.texts)
    for label in examples.classes:
        candidates = [group for group in groups if examples.labels[group[0]] == label]
        if len(candidates) < 2:
            raise CorpusError(_too_few_message(examples, label))
        random.Random(f"split {seed} {label}").shuffle(candidates)
        total = sum(map(len, candidates))
        valid += _groups_up_to(candidates, min(max(1, round(fraction * total)), total - 1))
    chosen = set(valid)
    train = examples.select([i for i in range(len(examples)) if i not in chosen])
    repeats = len(examples) - len(groups)
    if repeats:
        note = (
            f"{examples.source}: {repeats:,} of {len(examples):,} texts repeat an earlier one; "
            "they are kept on the same side of the split"
        )
        train = replace(train, notes=(*train.notes, note))
    return train, examples.select(sorted(chosen))


def fold_numbers(texts: Sequence[str], targets: Targets, seed: int) -> NDArray[np.int64]:
    """Return the fold of each text, (N,): each class is spread over as many folds as possible.

    Identical texts are in the same fold; if their labels differ, they count as texts of the rarest
    of these classes. If a class has only one distinct text, that text is never held out and has the
    number -1, because without it nothing could be learnt about the class.
    """
    groups = [(g, dict.fromkeys(targets.classes[g].tolist())) for g in _groups(texts)]
    distinct = Counter(number for _, present in groups for number in present)
    by_class: dict[int, list[list[int]]] = {}
    for group, present in groups:
        by_class.setdefault(min(present, key=distinct.__getitem__), []).append(group)
    folds = np.full(len(texts), -1, np.int64)
    count = min(FOLDS, max(map(len, by_class.values())))
    turn = 0  # continues from class to class, so that small classes together fill all folds
    for number, own in sorted(by_class.items()):
        random.Random(f"folds {seed} {number}").shuffle(own)
        for group in own if len(own) > 1 else ():
            folds[group] = turn % count
            turn += 1
    used = np.unique(folds[folds >= 0])  # without empty folds
    return np.where(folds < 0, -1, np.searchsorted(used, folds))


def subset(examples: Examples, count: int, seed: int) -> Examples:
    """Select `count` examples with the same class proportions as all examples.

    With the same seed, a smaller subset is contained in each larger one.

    Raises
    ------
    ConfigError
        If `count` is above the number of examples or below that of classes.
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
    for position, label in enumerate(classes):
        own = [i for i, name in enumerate(examples.labels) if name == label]
        random.Random(f"subset {seed} {label}").shuffle(own)
        # One text of each class comes first; then each class is used up at the same rate.
        ranked += [((k + 0.5) / len(own) if k else -1.0, position, i) for k, i in enumerate(own)]
    return examples.select(sorted(i for _, _, i in sorted(ranked)[:count]))


def shared_texts_warning(train: Examples, other: Examples) -> str | None:
    """Return a warning if texts of `other` also occur in `train`, otherwise None."""
    known = set(train.texts)
    shared = [row for text, row in zip(other.texts, other.rows, strict=True) if text in known]
    if not shared:
        return None
    rows = enumerated(shared, "row")
    return (
        f"{len(shared):,} of {len(other):,} texts of {other.source} also occur in {train.source} "
        f"({rows}): figures on them are too optimistic"
    )


def _groups(texts: Iterable[str]) -> list[list[int]]:
    """Group the indices of identical texts, in the order of their first occurrence."""
    groups: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        groups.setdefault(text, []).append(index)
    return list(groups.values())


def _groups_up_to(groups: list[list[int]], target: int) -> list[int]:
    """Choose whole groups with at most `target` members in all, but at least one group."""
    chosen: list[int] = []
    for group in groups:
        if len(chosen) + len(group) <= target:
            chosen += group
    return chosen or min(groups, key=len)


def _too_few_message(examples: Examples, label: str) -> str:
    rows = [r for r, each in zip(examples.rows, examples.labels, strict=True) if each == label]
    return (
        f"{examples.source}: label {label!r} has only one distinct text "
        f"({enumerated(rows, 'row')}); validation needs two for each label: add texts, or give "
        "--valid FILE"
    )
