"""Texts and labels as they lie in tables and folders, before anything is left out or refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chargen.errors import ConfigError, CorpusError, brief, shown
from chargen.sentiment.columns import TableFile, label_in, label_of, text_and_label, text_in
from chargen.sentiment.config import ExamplesConfig
from chargen.text.decoding import clean, decode
from chargen.text.fetching import asked, labelled_path, paths
from chargen.text.files import byte_blocks, from_path, refuse_text, unreadable
from chargen.text.given import given_list, given_texts, is_table
from chargen.text.html import clean_html
from chargen.text.tables import Row, broken

NAMED = 10
"""Rows that a sentence names; of the others it says how many they are."""

_UNLABELLED = "unsup"  # a folder of aclImdb


@dataclass
class Gathered:
    """What was found.

    Attributes
    ----------
    source : str
        As shown to people.
    texts : list of str
        Cleaned as asked; some may be empty.
    labels : list of str or None
        None where there is no label.
    rows : list of int
        Line of the file, number of the file in a folder, or position among given texts.
    notes : list of str
    files : list of str or None
        Of a folder, by row - 1.
    word : str
        What a row is a number of.
    """

    source: str
    texts: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[str] | None = None
    word: str = "line"

    def add(self, row: int, text: str, label: str | None) -> None:
        """Append one text."""
        self.rows.append(row)
        self.texts.append(text)
        self.labels.append(label)

    def named(self, rows: Sequence[int]) -> str:
        """The first of some rows, as people would look for them."""
        if self.files is None:
            return named(rows, self.word)
        return named([self.files[row - 1] for row in rows], "file")


def named(rows: Sequence[object], word: str = "line") -> str:
    """``line 4``, ``lines 4, 5 and 7``, or the first ten and how many more there are."""
    first = [str(row) for row in rows[:NAMED]]
    if len(rows) > NAMED:
        first.append(f"{len(rows) - NAMED:,} more")
    *before, last = first
    words = f"{', '.join(before)} and {last}" if before else last
    return f"{word}{'s' if len(rows) > 1 else ''} {words}"


def gather(path: str, config: ExamplesConfig) -> Gathered:
    """All labelled texts of a table, a folder with one folder per class, or a data set by name.

    Raises
    ------
    CorpusError, ConfigError
        As `chargen.sentiment.examples.read_examples`.
    """
    path = labelled_path(path)
    return _from_folder(path, config) if _is_folder(path) else _from_table(path, config)


def gather_given(data: Any, config: ExamplesConfig) -> Gathered:
    """The same of a pair (texts, labels) or a table from Python, such as a data frame."""
    if is_table(data):
        names = {str(name): name for name in getattr(data, "columns", data)}
        text_column, label_column = text_and_label(list(names), "the given table", config)
        data = data[names[text_column]], data[names[label_column]]
    elif not (isinstance(data, tuple) and len(data) == 2):
        raise CorpusError(
            "labelled texts must be a path, a pair (texts, labels), or a table with columns, "
            f"got {brief(data)}"
        )
    texts, labels = list(given_texts(data[0])), list(given_list(data[1], "labels"))
    if len(texts) != len(labels):
        raise CorpusError(f"{len(texts):,} texts and {len(labels):,} labels: one each is needed")
    gathered = Gathered("the given data", word="position")
    for place, (text, label) in enumerate(zip(texts, labels, strict=True)):
        sound = clean(text, config.errors, lambda _: f"texts[{place}]")  # noqa: B023
        where = f"labels[{place}]"
        gathered.add(place, _cleaned(sound, config), label_of(label, where, where, config.errors))
    return gathered


def gather_texts(path: str, config: ExamplesConfig) -> Iterator[str]:
    """All texts, without labels, of plain text, a table, or the .txt files of a folder."""
    if reference := asked(path):
        path = str(paths(reference)[0])
    found: Iterable[str]
    if _is_folder(path):
        files = sorted(one for one in Path(path).rglob("*.txt") if one.is_file())
        found = (_file_text(file, config) for file in files)
    else:
        table = TableFile(path, config)
        column = table.text_column()
        found = (text_in(row, column, table) for row in _whole(table))
    return (_cleaned(text, config) for text in found)


def _is_folder(path: str) -> bool:
    if path == "-":
        raise ConfigError("texts to learn from are read from a file or a folder, not from -")
    refuse_text(path)
    try:
        return Path(path).is_dir()
    except (OSError, ValueError) as error:
        raise unreadable(shown(path), error) from error


def _from_table(path: str, config: ExamplesConfig) -> Gathered:
    table = TableFile(path, config)
    if table.source.form == "plain":
        raise CorpusError(
            f"{table.name} has no labels: labelled texts are a .csv, .tsv or .jsonl file, or a "
            "folder that holds one folder of .txt files per class"
        )
    text_column, label_column = text_and_label(table.columns, table.name, config)
    gathered = Gathered(table.name)
    for row in _whole(table):
        text = _cleaned(text_in(row, text_column, table), config)
        gathered.add(row.line, text, label_in(row, label_column, table))
    gathered.notes += table.notes
    return gathered


def _whole(table: TableFile) -> Iterator[Row]:
    for row in table.rows():
        if row.problem:
            raise broken(row, table.name)
        yield row


def _from_folder(path: str, config: ExamplesConfig) -> Gathered:
    root = Path(path)
    folders = sorted(
        one
        for one in root.iterdir()
        if one.is_dir() and not one.name.startswith(".") and one.name != _UNLABELLED
    )
    found = [(one.name, file) for one in folders for file in sorted(one.glob("*.txt"))]
    if not found:
        raise CorpusError(
            f"{shown(path)} holds no folders with .txt files: it should have one folder per class "
            "(as aclImdb/train has pos and neg)"
        )
    files = [shown(file.relative_to(root).as_posix()) for _, file in found]
    gathered = Gathered(shown(path), files=files)
    for number, (label, file) in enumerate(found, 1):
        gathered.add(number, _cleaned(_file_text(file, config), config), label)
    return gathered


def _file_text(file: Path, config: ExamplesConfig) -> str:
    source = from_path(file)
    pieces = decode(byte_blocks(source), source.name, config.encoding, config.errors, [])
    return "".join(pieces).removesuffix("\n")


def _cleaned(text: str, config: ExamplesConfig) -> str:
    return clean_html(text) if config.clean == "html" else text
