"""What a classifier learns from: labelled texts, split, and others without labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chargen.errors import CorpusError
from chargen.sentiment.config import ExamplesConfig, FinetuneConfig
from chargen.sentiment.examples import (
    Examples,
    read_examples,
    read_texts,
    split,
    subset,
    warn_shared,
)
from chargen.training.reporting import Reporter


@dataclass(frozen=True)
class Material:
    """Texts of a run.

    Attributes
    ----------
    train, valid : Examples
        Validation may be empty.
    classes : tuple of str
        All labels, those that a small selection happens to lack among them.
    unlabelled : tuple of str
    """

    train: Examples
    valid: Examples
    classes: tuple[str, ...]
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

    def indices(self, part: Examples) -> Tensor:
        """Classes (N,) int64 of some examples."""
        number = {label: index for index, label in enumerate(self.classes)}
        return torch.tensor([number[label] for label in part.labels], dtype=torch.int64)


def read_material(
    data: Any,
    config: FinetuneConfig,
    reading: ExamplesConfig,
    reporter: Reporter,
) -> Material:
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
    unlabelled = () if config.unlabelled is None else tuple(read_texts(config.unlabelled, reading))
    return Material(train, valid, classes, unlabelled)
