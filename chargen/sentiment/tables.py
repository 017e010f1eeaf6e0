"""Predictions for the rows of a table, and the same table out with them, whatever its length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.errors import NAMED, ConfigError, CorpusError
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import PredictConfig
from chargen.storage.whole_files import whole_file
from chargen.text.formats import Row
from chargen.text.table_writer import TableWriter, free_names
from chargen.text.tables import Table

CHUNK_ROWS = 1024
CHUNK_CHARACTERS = 1 << 23
"""Rows that are read and classified together, and characters after which there are no more."""

WRITTEN_ROWS = 64
"""Rows after which what is to be written is let go."""

PREDICTED = "predicted"

MOST_UNKNOWN = 20
"""Unknown characters that are remembered."""

Progress = Callable[[int, float], None]
"""Called with the rows that are done and the share of the file that was read."""


class Verdict(NamedTuple):
    """A row and what the classifier makes of it."""

    place: str  # where the row stands, as a sentence about it begins
    row: Row
    text: str  # "" where the row has none
    # the likeliest label, or the word for rows whose label is not likely enough
    label: str | None = None
    # (C,); None, as the label, where the row cannot be classified
    probabilities: NDArray[np.float32] | None = None
    problem: str = ""  # why not, a sentence


@dataclass
class Predictor:
    """Classifies rows as they come, and keeps what is to be said of them once all are done.

    Raises
    ------
    ConfigError
        Where the word for rows without a likely label is a label.
    """

    classifier: Classifier
    config: PredictConfig = field(default_factory=PredictConfig)
    rows: int = 0  # that were seen
    unlikely: int = 0  # whose label was not likely enough
    failures: int = 0  # without a prediction
    problems: list[str] = field(default_factory=list)  # why, of the first of them
    unknown: str = ""  # distinct characters that the encoder has never seen, the first of them
    _seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.config.threshold is not None and self.config.word in self.classifier.labels:
            raise ConfigError(f"--otherwise {self.config.word!r} is a label: choose another word")

    def table(self, table: Table, progress: Progress | None = None) -> Iterator[Verdict]:
        """Classify the rows of a table in their order, reading it as they are needed.

        Raises
        ------
        CorpusError
            Where the file is damaged or not text; a row that is broken stops nothing.
        """
        read = 0

        def advance(count: int) -> None:
            nonlocal read
            read += count

        for chunk in _chunks(_unclassified(table, advance)):
            yield from self.classify(chunk)
            if progress is not None:
                progress(self.rows, min(1.0, read / table.size) if table.size else 0.0)

    def classify(self, chunk: list[Verdict]) -> Iterator[Verdict]:
        """Classify what has no problem yet and a text; the rest is given back with its problem."""
        cleaned = ["" if one.problem else self.classifier.cleaned(one.text) for one in chunk]
        sound = [i for i, text in enumerate(cleaned) if text.strip()]
        for i in sound:
            self._look_for_unknown(cleaned[i])
        found = self.classifier.predict_proba([chunk[i].text for i in sound])
        probabilities = dict(zip(sound, found, strict=True))
        for i, verdict in enumerate(chunk):
            self.rows += 1
            chances = probabilities.get(i)
            if chances is None:
                yield self._failed(verdict, verdict.problem or f"{verdict.place} has no text")
            elif not np.isfinite(chances).all():
                yield self._failed(verdict, f"{verdict.place} gets no finite probabilities")
            else:
                yield verdict._replace(label=self._label(chances), probabilities=chances)

    def _label(self, chances: NDArray[np.float32]) -> str:
        best = int(chances.argmax())
        if self.config.threshold is not None and rounded(chances[best]) < self.config.threshold:
            self.unlikely += 1
            return self.config.word
        return self.classifier.labels[best]

    def _failed(self, verdict: Verdict, problem: str) -> Verdict:
        self.failures += 1
        if len(self.problems) < NAMED:
            self.problems.append(problem)
        return verdict._replace(problem=problem)

    def _look_for_unknown(self, text: str) -> None:
        """Note the characters of a cleaned text that the encoder has never seen."""
        new = [c for c in dict.fromkeys(text) if c not in self._seen and c not in "<&"]
        if new and len(self.unknown) < MOST_UNKNOWN:
            self._seen.update(new)
            found = self.classifier.unknown_characters("".join(new))
            self.unknown = (self.unknown + found)[:MOST_UNKNOWN]


def predict_table(
    predictor: Predictor,
    table: Table,
    output: IO[bytes] | str,
    form: str,
    progress: Progress | None = None,
) -> None:
    """Write a table with ``predicted`` and a ``p_<label>`` for each label added to every row.

    All rows and columns stay, in their order. Rows that cannot be classified have no values in
    the new columns. Names that are taken get ``_2``, ``_3`` and so on. A path is written as a whole
    or not at all, in UTF-8, compressed as its name says; the form is csv, tsv, jsonl or json.

    Raises
    ------
    CorpusError
        Where the table has no column of texts, is damaged, or cannot be written.
    """
    labels = predictor.classifier.labels
    added = free_names([PREDICTED, *(f"p_{label}" for label in labels)], table.columns)
    writer = TableWriter(table.columns, table.dialect, form, added, table.text_columns[0])
    opened: AbstractContextManager[IO[bytes]] = (
        whole_file(output) if isinstance(output, str) else nullcontext(output)
    )
    with opened as file:
        for number, verdict in enumerate(predictor.table(table, progress), 1):
            chances = verdict.probabilities
            found = [None] * len(labels) if chances is None else map(rounded, chances)
            writer.add(verdict.row, [verdict.label, *found])
            if number % WRITTEN_ROWS == 0:
                file.write(writer.take())
        writer.finish()
        file.write(writer.take())
        file.flush()


def rounded(probability: Any) -> float:
    """A probability with the digits that a float32 has."""
    return float(f"{float(probability):.7g}")


def _unclassified(table: Table, advance: Callable[[int], None]) -> Iterator[Verdict]:
    for row in table.rows(advance):
        text = problem = ""
        try:
            if row.problem:
                raise table.broken(row)
            text = table.text(row)
        except CorpusError as error:
            problem = str(error)
        yield Verdict(f"{table.name}, line {row.line}", row, text, problem=problem)


def _chunks(found: Iterable[Verdict]) -> Iterator[list[Verdict]]:
    chunk: list[Verdict] = []
    characters = 0
    for verdict in found:
        chunk.append(verdict)
        characters += len(verdict.text)
        if len(chunk) == CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk
