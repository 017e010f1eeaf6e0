"""Labelled texts: read from tables and folders, checked, split.

`split`, `subset` and `warn_shared` are those of `splitting`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chargen.errors import CorpusError, shown
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.gathering import Gathered, gather, gather_given, gather_texts, named
from chargen.sentiment.splitting import split, subset, warn_shared
from chargen.text.given import given_texts

__all__ = ["Examples", "read_examples", "read_texts", "split", "subset", "warn_shared"]


@dataclass(frozen=True)
class Examples:
    """Texts and their labels.

    Attributes
    ----------
    texts, labels : tuple of str
        Labels as they are in the data, numbers and booleans of JSON as JSON writes them.
    rows : tuple of int
        Of each text, the line of the file where its row starts; in a folder the number of its
        file in the order of the paths, from 1 on; of given texts the position, from 0 on.
    source : str
        As shown to people.
    notes : tuple of str
        Sentences about what was left out or looks odd.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    rows: tuple[int, ...]
    source: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(given_texts(self.texts)))
        if not len(self.texts) == len(self.labels) == len(self.rows):
            raise CorpusError(f"{self.source}: each text needs a label and a row")

    @classmethod
    def of(cls, texts: Iterable[str], labels: Iterable[Any]) -> Examples:
        """Texts and labels from Python, such as two lists, checked as those of a table are."""
        return read_examples((texts, labels), ExamplesConfig())

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def classes(self) -> tuple[str, ...]:
        """The distinct labels: by size where all are whole numbers, else by their characters."""
        distinct = set(self.labels)
        if all(re.fullmatch(r"[+-]?[0-9]{1,18}", label) for label in distinct):
            return tuple(sorted(distinct, key=lambda label: (int(label), label)))
        return tuple(sorted(distinct))

    def select(self, indices: Sequence[int]) -> Examples:
        """The examples at `indices`, in that order."""
        return replace(
            self,
            texts=tuple(self.texts[i] for i in indices),
            labels=tuple(self.labels[i] for i in indices),
            rows=tuple(self.rows[i] for i in indices),
        )


def read_examples(
    data: Any, config: ExamplesConfig, classes: Sequence[str] | None = None
) -> Examples:
    """Read labelled texts.

    Parameters
    ----------
    data : path, (texts, labels), or data frame
        A .csv, .tsv or .jsonl file, compressed or not, or a folder that holds one folder of .txt
        files per class; or from Python two lists, or columns by name.
    config : ExamplesConfig
    classes : sequence of str, optional
        The labels that may occur; without them there must be at least two.

    Returns
    -------
    Examples
        Without the empty texts, which a note names.

    Raises
    ------
    CorpusError
        For what cannot be read, columns that are not there, rows that are broken, labels that are
        missing or not among `classes`, and data of a single class.
    ConfigError
        Where `data` is standard input.
    """
    on_disk = isinstance(data, str | Path)
    gathered = gather(str(data), config) if on_disk else gather_given(data, config)
    examples = _filled(gathered)
    if classes is not None:
        _refuse_strangers(examples, gathered, classes)
    elif len(examples.classes) < 2:
        raise CorpusError(
            f"{examples.source}: the only label is {examples.labels[0]!r} "
            f"({len(examples):,} texts); a classifier needs two or more"
        )
    return examples


def read_texts(path: str, config: ExamplesConfig) -> list[str]:
    """Read texts without labels, leaving out the empty ones.

    Parameters
    ----------
    path : str
        Plain text with a text in each line, a .csv, .tsv or .jsonl file, compressed or not, or a
        folder of .txt files.
    config : ExamplesConfig

    Raises
    ------
    CorpusError
        For what cannot be read, and where there is no text.
    ConfigError
        Where `path` is standard input.
    """
    texts = [text for text in gather_texts(str(path), config) if text.strip()]
    if not texts:
        raise CorpusError(f"{shown(path)} holds no text")
    return texts


def _filled(gathered: Gathered) -> Examples:
    """What has a text; each of it must have a label."""
    kept = [i for i, text in enumerate(gathered.texts) if text.strip()]
    if not kept:
        raise CorpusError(f"{gathered.source} holds no text")
    unlabelled = [gathered.rows[i] for i in kept if gathered.labels[i] is None]
    if unlabelled:
        raise CorpusError(
            f"{gathered.source}: the label is missing in {gathered.named(unlabelled)}: give each "
            "text one, or take the texts without one out"
        )
    notes = list(gathered.notes)
    if len(kept) < len(gathered.rows):
        inside = set(kept)
        empty = [row for i, row in enumerate(gathered.rows) if i not in inside]
        notes.append(f"{gathered.source}: left out for want of text: {gathered.named(empty)}")
    everything = Examples(
        tuple(gathered.texts),
        tuple(str(label) for label in gathered.labels),
        tuple(gathered.rows),
        gathered.source,
    )
    examples = everything.select(kept)
    if odd := _contradictions(examples):
        notes.append(
            f"{gathered.source}: one text has two different labels in {gathered.named(odd)}"
        )
    return replace(examples, notes=tuple(notes))


def _contradictions(examples: Examples) -> list[int]:
    """Rows of the texts that stand there with different labels."""
    first: dict[str, str] = {}
    pairs = list(zip(examples.texts, examples.labels, strict=True))
    odd = {text for text, label in pairs if first.setdefault(text, label) != label}
    return [row for text, row in zip(examples.texts, examples.rows, strict=True) if text in odd]


def _refuse_strangers(examples: Examples, gathered: Gathered, classes: Sequence[str]) -> None:
    known = set(classes)
    strange = [i for i, label in enumerate(examples.labels) if label not in known]
    if strange:
        labels = list(dict.fromkeys(examples.labels[i] for i in strange))
        raise CorpusError(
            f"{examples.source}: unknown {named(list(map(repr, labels)), 'label')} in "
            f"{gathered.named([examples.rows[i] for i in strange])}; the labels of training are "
            f"{', '.join(map(repr, classes))}"
        )
