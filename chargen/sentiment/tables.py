"""Predictions for the rows of a table of any length, and the table with predictions added."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.errors import MAX_LISTED, ConfigError, CorpusError
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import PredictConfig
from chargen.storage.whole_files import atomic_write
from chargen.text.formats import Row
from chargen.text.table_writer import TableWriter, free_names
from chargen.text.tables import Table

CHUNK_ROWS = 1024
CHUNK_CHARACTERS = 1 << 23
"""Most rows that are classified together, and the number of characters that ends a chunk."""

ROWS_PER_WRITE = 64
"""Number of rows that are written to the file together."""

PREDICTED = "predicted"

MAX_UNKNOWN_CHARACTERS = 20
"""Maximum number of unknown characters that are kept for the report."""

Progress = Callable[[int, float], None]
"""Called with the number of rows done and the share of the file that has been read."""


class Verdict(NamedTuple):
    """A row and its prediction, or the reason why it has none."""

    location: str  # location of the row, with which a message about it begins
    row: Row
    text: str  # "" if the row has no text
    # the likeliest label, or `PredictConfig.word` if that label is not likely enough
    label: str | None = None
    # (C,); None, like the label, if the row cannot be classified
    probabilities: NDArray[np.float32] | None = None
    problem: str = ""  # why the row cannot be classified, as a sentence


@dataclass
class Predictor:
    """A classifier of table rows that collects figures and problems for a final report.

    Raises
    ------
    ConfigError
        If the word for rows without a likely label is itself a label.
    """

    classifier: Classifier
    config: PredictConfig = field(default_factory=PredictConfig)
    rows: int = 0  # all rows so far
    unlikely: int = 0  # rows whose likeliest label is not likely enough
    failures: int = 0  # rows without a prediction
    problems: list[str] = field(default_factory=list)  # reasons of the first failures
    unknown: str = ""  # first distinct characters that an encoder has never seen
    _seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.config.threshold is not None and self.config.word in self.classifier.labels:
            raise ConfigError(f"--otherwise {self.config.word!r} is a label: choose another word")

    def table(self, table: Table, progress: Progress | None = None) -> Iterator[Verdict]:
        """Classify the rows of a table in their order, reading rows as they are needed.

        Raises
        ------
        CorpusError
            If the file is damaged or not text. A broken row is no error: its verdict says why.
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
        """Classify the rows that have text and no problem; yield the others with their problem."""
        cleaned = ["" if row.problem else self.classifier.cleaned(row.text) for row in chunk]
        sound = [i for i, text in enumerate(cleaned) if text.strip()]
        for i in sound:
            self._look_for_unknown(cleaned[i])
        predicted = self.classifier.predict_proba([cleaned[i] for i in sound], cleaned=True)
        probabilities = dict(zip(sound, predicted, strict=True))
        for i, verdict in enumerate(chunk):
            self.rows += 1
            chances = probabilities.get(i)
            if chances is None:
                yield self._failed(verdict, verdict.problem or f"{verdict.location} has no text")
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
        if len(self.problems) < MAX_LISTED:
            self.problems.append(problem)
        return verdict._replace(problem=problem)

    def _look_for_unknown(self, text: str) -> None:
        """Collect the characters of a cleaned text that an encoder has never seen."""
        new = [c for c in dict.fromkeys(text) if c not in self._seen]
        if new and len(self.unknown) < MAX_UNKNOWN_CHARACTERS:
            self._seen.update(new)
            unknown = self.classifier.unknown_characters("".join(new), cleaned=True)
            self.unknown = (self.unknown + unknown)[:MAX_UNKNOWN_CHARACTERS]


def predict_table(
    predictor: Predictor,
    table: Table,
    output: IO[bytes] | str,
    form: str,
    progress: Progress | None = None,
) -> None:
    """Write a table with the new columns ``predicted`` and, for each label, ``p_<label>``.

    All rows and columns stay, in their order. Rows that cannot be classified have no values in the
    new columns. New names that are taken get ``_2``, ``_3`` and so on. A file given by its path is
    written completely or not at all, in UTF-8, compressed as its name says. The form is csv, tsv,
    jsonl or json.

    Raises
    ------
    CorpusError
        If the table has no column of texts, is damaged, or cannot be written.
    """
    labels = predictor.classifier.labels
    added = free_names([PREDICTED, *(f"p_{label}" for label in labels)], table.columns)
    writer = TableWriter(table.columns, table.dialect, form, added, table.text_columns[0])
    opened: AbstractContextManager[IO[bytes]] = (
        atomic_write(output) if isinstance(output, str) else nullcontext(output)
    )
    with opened as file:
        for number, verdict in enumerate(predictor.table(table, progress), 1):
            chances = verdict.probabilities
            values = [None] * len(labels) if chances is None else map(rounded, chances)
            writer.add(verdict.row, [verdict.label, *values])
            if number % ROWS_PER_WRITE == 0:
                file.write(writer.take_bytes())
        writer.finish()
        file.write(writer.take_bytes())
        file.flush()


def rounded(probability: Any) -> float:
    """Return a probability rounded to seven digits, the precision of float32."""
    return float(f"{float(probability):.7g}")


def _unclassified(table: Table, advance: Callable[[int], None]) -> Iterator[Verdict]:
    for row in table.rows(advance):
        text = problem = ""
        try:
            if row.problem:
                raise table.broken_row_error(row)
            text = table.text(row)
        except CorpusError as error:
            problem = str(error)
        yield Verdict(f"{table.name}, line {row.line}", row, text, problem=problem)


def _chunks(verdicts: Iterable[Verdict]) -> Iterator[list[Verdict]]:
    chunk: list[Verdict] = []
    characters = 0
    for verdict in verdicts:
        chunk.append(verdict)
        characters += len(verdict.text)
        if len(chunk) == CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk
