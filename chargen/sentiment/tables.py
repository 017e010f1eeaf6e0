"""A table in, and the same table out with labels and probabilities, whatever its length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.examples import NAMED
from chargen.storage.whole_files import whole_file
from chargen.text.table_rows import Row
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
    """A row and what the classifier makes of it.

    Attributes
    ----------
    place : str
        Where the row stands, as a sentence about it begins.
    row : Row
    text : str
        "" where the row has none.
    probabilities : (C,) float32, or None
        None where the row cannot be classified.
    problem : str
        Why not, a sentence.
    """

    place: str
    row: Row
    text: str
    probabilities: NDArray[np.float32] | None = None
    problem: str = ""


@dataclass
class Tally:
    """What is to be said of rows once all are done.

    Attributes
    ----------
    rows : int
    failures : int
        Rows without a prediction.
    problems : list of str
        Why, of the first of them.
    unknown : str
        Distinct characters that the encoder has never seen, the first of them.
    """

    rows: int = 0
    failures: int = 0
    problems: list[str] = field(default_factory=list)
    unknown: str = ""
    _seen: set[str] = field(default_factory=set)

    def add(self, verdict: Verdict) -> None:
        """Count a row."""
        self.rows += 1
        if verdict.probabilities is None:
            self.fail(verdict.problem)

    def fail(self, problem: str) -> None:
        """Count a failure."""
        self.failures += 1
        if len(self.problems) < NAMED:
            self.problems.append(problem)

    def look_at(self, text: str, classifier: Classifier) -> None:
        """Note the characters of a cleaned text that the encoder has never seen."""
        new = [c for c in dict.fromkeys(text) if c not in self._seen and c not in "<&"]
        if new and len(self.unknown) < MOST_UNKNOWN:
            self._seen.update(new)
            found = classifier.unknown_characters("".join(new))
            self.unknown = (self.unknown + found)[:MOST_UNKNOWN]


def verdicts(
    classifier: Classifier, table: Table, tally: Tally, progress: Progress | None = None
) -> Iterator[Verdict]:
    """Classify the rows of a table in their order, reading it as they are needed.

    Parameters
    ----------
    classifier : Classifier
    table : Table
    tally : Tally
        Counts the rows.
    progress : callable, optional

    Raises
    ------
    CorpusError
        Where the file is damaged or not text; a row that is broken stops nothing.
    """
    read = 0

    def advance(count: int) -> None:
        nonlocal read
        read += count

    for chunk in _chunks(_texts(table, advance)):
        for verdict in classify(classifier, chunk, tally):
            tally.add(verdict)
            yield verdict
        if progress is not None:
            progress(tally.rows, min(1.0, read / table.size) if table.size else 0.0)


def classify(classifier: Classifier, chunk: list[Verdict], tally: Tally) -> Iterator[Verdict]:
    """Classify what has no problem yet and a text; the rest is given back with its problem."""
    cleaned = ["" if one.problem else classifier.cleaned(one.text) for one in chunk]
    sound = [i for i, text in enumerate(cleaned) if text.strip()]
    for i in sound:
        tally.look_at(cleaned[i], classifier)
    found = classifier.predict_proba([chunk[i].text for i in sound])
    probabilities = dict(zip(sound, found, strict=True))
    for i, verdict in enumerate(chunk):
        chances = probabilities.get(i)
        if chances is None:
            yield verdict._replace(problem=verdict.problem or f"{verdict.place} has no text")
        elif not np.isfinite(chances).all():
            yield verdict._replace(problem=f"{verdict.place} gets no finite probabilities")
        else:
            yield verdict._replace(probabilities=chances)


def predict_table(
    classifier: Classifier,
    table: Table,
    output: IO[bytes] | str,
    form: str,
    progress: Progress | None = None,
) -> Tally:
    """Write a table with ``predicted`` and a ``p_<label>`` for each label added to every row.

    All rows and columns stay, in their order. Rows that cannot be classified have no values in
    the new columns. Names that are taken get ``_2``, ``_3`` and so on.

    Parameters
    ----------
    classifier : Classifier
    table : Table
    output : str or binary file
        A path is written as a whole or not at all, in UTF-8, compressed as its name says.
    form : {"csv", "tsv", "jsonl"}
    progress : callable, optional
        Hears of the rows done and the share of the file read.

    Returns
    -------
    Tally

    Raises
    ------
    CorpusError
        Where the table has no column of texts, is damaged, or cannot be written.
    """
    names = [PREDICTED, *(f"p_{label}" for label in classifier.labels)]
    added = free_names(names, table.columns)
    writer = TableWriter(table.columns, table.form, form, added, table.text_column)
    tally = Tally()
    opened: AbstractContextManager[IO[bytes]] = (
        whole_file(output) if isinstance(output, str) else nullcontext(output)
    )
    with opened as file:
        for number, verdict in enumerate(verdicts(classifier, table, tally, progress), 1):
            writer.add(verdict.row, _values(classifier, verdict))
            if number % WRITTEN_ROWS == 0:
                file.write(writer.take())
        file.write(writer.take())
        file.flush()
    return tally


def label_of(classifier: Classifier, verdict: Verdict) -> str | None:
    """The likeliest label, or None."""
    if verdict.probabilities is None:
        return None
    return classifier.labels[int(verdict.probabilities.argmax())]


def rounded(probability: Any) -> float:
    """A probability with the digits that a float32 has."""
    return float(f"{float(probability):.7g}")


def _values(classifier: Classifier, verdict: Verdict) -> list[str | float | None]:
    if verdict.probabilities is None:
        return [None] * (1 + len(classifier.labels))
    return [label_of(classifier, verdict), *map(rounded, verdict.probabilities)]


def _texts(table: Table, advance: Callable[[int], None]) -> Iterator[Verdict]:
    for row in table.rows(advance):
        text = problem = ""
        try:
            if row.problem:
                raise table.broken(row)
            text = table.text(row)
        except CorpusError as error:
            problem = str(error)
        yield Verdict(f"{table.name}, line {row.line}", row, text, None, problem)


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
