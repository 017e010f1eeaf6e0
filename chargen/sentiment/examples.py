"""Reading labelled and unlabelled texts from tables, folders, data sets and Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from chargen.errors import ConfigError, CorpusError, brief, enumerated, printable
from chargen.sentiment.config import SKIP, ExamplesConfig
from chargen.text.decoding import decode_source, replace_invalid
from chargen.text.fetching import dataset_reference, fetch_paths, labelled_path
from chargen.text.files import from_path, refuse_text, unreadable
from chargen.text.folders import class_files, txt_files
from chargen.text.formats import DELIMITERS
from chargen.text.given import given_list, given_texts, is_table
from chargen.text.html import clean_html
from chargen.text.labels import label_notes, label_of
from chargen.text.tables import TEXT_COLUMNS, find_column, open_table, same_column_error

LABEL_COLUMNS = (
    *("label", "sentiment", "class", "category", "target", "polarity", "y", "stars", "rating"),
)
"""Usual names of the column of labels, the likeliest first."""


@dataclass(frozen=True)
class Examples:
    """Texts and their labels.

    Attributes
    ----------
    texts, labels : tuple of str
        The texts, and their labels after `label_of` and `ExamplesConfig.label_map`.
    rows : tuple of int
        Where each text was found: in a table, the line on which its row starts; in a folder, the
        number of its file in the order of the paths, from 1; in Python, the position, from 0.
    source : str
        The name of the source in messages.
    notes : tuple of str
        Sentences about texts that were left out or look wrong.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    rows: tuple[int, ...]
    source: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(given_texts(self.texts)))
        for name in ("labels", "rows"):
            object.__setattr__(self, name, tuple(given_list(getattr(self, name), name)))
        if not len(self.texts) == len(self.labels) == len(self.rows):
            raise CorpusError(f"{self.source}: each text needs a label and a row")
        if odd := [label for label in self.labels if not isinstance(label, str)]:
            raise CorpusError(f"{self.source}: labels must be texts (str), got {brief(odd[0])}")

    @classmethod
    def of(cls, texts: Iterable[str], labels: Iterable[Any]) -> Examples:
        """Make examples from texts and labels in Python, with the same checks as for a table."""
        return read_examples((texts, labels), ExamplesConfig())

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def classes(self) -> tuple[str, ...]:
        """The distinct labels, sorted as numbers if all are whole numbers, otherwise as text."""
        distinct = set(self.labels)
        if all(re.fullmatch(r"[+-]?[0-9]{1,18}", label) for label in distinct):
            return tuple(sorted(distinct, key=lambda label: (int(label), label)))
        return tuple(sorted(distinct))

    def select(self, indices: Sequence[int]) -> Examples:
        """Return the examples at `indices`, in that order; `CorpusError` for a mask."""
        indices = list(indices)
        if any(isinstance(i, bool | np.bool_) for i in indices):
            raise CorpusError("indices must be whole numbers, got a mask")
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
        A .csv, .tsv, .jsonl or .json file, compressed or not; a folder that holds one folder of
        .txt files per class; or, from Python, a pair of lists or a table with named columns.
    config : ExamplesConfig
    classes : sequence of str, optional
        The labels that may occur. If omitted, the data must have at least two labels.

    Returns
    -------
    Examples
        The texts that are not empty, with a note that names the empty ones.

    Raises
    ------
    CorpusError
        If the data cannot be read, a column or a label is missing, a row is broken, a label is not
        among `classes`, or, without `classes`, there is only one label.
    ConfigError
        If `data` is standard input.
    """
    if not isinstance(data, str | Path):
        raw = _given_rows(data, config)
    else:
        path = labelled_path(str(data))
        raw = _folder_rows(path, config) if _is_folder(path) else _table_rows(path, config)
    examples = _to_examples(raw, config)
    if classes is not None:
        _refuse_unknown(examples, raw, classes)
    elif len(examples.classes) < 2:
        raise CorpusError(
            f"{examples.source}: the only label is {examples.labels[0]!r} "
            f"({len(examples):,} texts); a classifier needs two or more"
        )
    return examples


def read_texts(path: str, config: ExamplesConfig, notes: list[str] | None = None) -> list[str]:
    """Read texts without labels, leaving out the empty ones.

    The path names a file of plain text with one text per line, a .csv, .tsv, .jsonl or .json file
    (any of them may be compressed), or a folder of .txt files. Sentences about how it was read are
    appended to `notes`.

    Raises
    ------
    CorpusError
        If the path cannot be read or holds no text.
    ConfigError
        If `path` is standard input.
    """
    path = str(path)
    notes = [] if notes is None else notes
    if reference := dataset_reference(path):
        path = str(fetch_paths(reference)[0])
    if _is_folder(path):
        files, _ = txt_files(Path(path))
        raw_texts: Iterator[str] = (_file_text(file, config) for file in files)
    else:
        source = from_path(Path(path))
        # Options of tables may be meant for the labelled texts, which share this configuration.
        if source.form not in DELIMITERS:
            config = replace(config, delimiter=None, quoting=None, header=True)
        if source.form == "plain":
            config = replace(config, text_column=())
        table = open_table(source, config, notes)
        raw_texts = (table.text(row) for row in table.unbroken_rows())
    texts = [text for raw in raw_texts if (text := _cleaned(raw, config)).strip()]
    if not texts:
        raise CorpusError(f"{printable(path)} holds no text")
    return texts


# ---------------------------------------------------------------- where rows come from


@dataclass
class _Rows:
    """Texts and labels as read, before any row is left out or refused.

    `rows` holds the number, the text and the label (or None) of each row. Messages name a row by
    `row_word` and its number, or by its file if there are `files`.
    """

    source: str
    rows: list[tuple[int, str, str | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    row_word: str = "line"
    files: Sequence[str] = ()

    def row_names(self, numbers: Sequence[int]) -> str:
        """Return the names of rows for a message, shortened if there are many."""
        if self.files:
            return enumerated([self.files[number - 1] for number in numbers], "file")
        return enumerated(numbers, self.row_word)


def _table_rows(path: str, config: ExamplesConfig) -> _Rows:
    raw = _Rows(printable(path))
    table = open_table(from_path(Path(path)), config, raw.notes)
    if table.dialect.form == "plain":
        raise CorpusError(
            f"{table.name} has no labels: labelled texts are a .csv, .tsv, .jsonl or .json file, "
            "a folder that holds one folder of .txt files per class, or another file that is read "
            "as a table with --delimiter"
        )
    label_column = _label_column(
        table.columns, table.name, table.text_columns, config, table.advice
    )
    for row in table.unbroken_rows():
        label = label_of(
            row.cell(label_column),
            f"{table.name}, line {row.line}: {label_column!r}",
            config.errors,
        )
        raw.rows.append((row.line, _cleaned(table.text(row), config), label))
    return raw


def _folder_rows(path: str, config: ExamplesConfig) -> _Rows:
    raw = _Rows(printable(path))
    root = Path(path)
    files = class_files(root, raw.notes)
    if config.table_options:
        options = ", ".join(config.table_options)
        raw.notes.append(f"{options} is for tables; {raw.source} is a folder")
    raw.files = [printable(file.relative_to(root).as_posix()) for _, file in files]
    for number, (folder, file) in enumerate(files, 1):
        label = label_of(folder, raw.files[number - 1], config.errors)
        raw.rows.append((number, _cleaned(_file_text(file, config), config), label))
    return raw


def _given_rows(data: Any, config: ExamplesConfig) -> _Rows:
    """Read a pair (texts, labels), or a table from Python such as a data frame."""
    if is_table(data):
        keys = list(getattr(data, "columns", data))
        names = list(map(str, keys))
        table = "the given table"
        wanted = config.text_column or (None,)
        text_columns = [find_column(names, table, w, TEXT_COLUMNS, "text") for w in wanted]
        label_column = _label_column(names, table, text_columns, config)
        columns = [list(given_texts(data[keys[names.index(name)]])) for name in text_columns]
        if len(set(map(len, columns))) > 1:
            raise CorpusError(f"{table}: its columns of texts have different lengths")
        joined = ["\n".join(filter(None, parts)) for parts in zip(*columns, strict=True)]
        data = joined, data[keys[names.index(label_column)]]
    elif not (isinstance(data, tuple) and len(data) == 2):
        raise CorpusError(
            "labelled texts must be a path, a pair (texts, labels), or a table with columns, "
            f"got {brief(data)}"
        )
    texts, labels = list(given_texts(data[0])), list(given_list(data[1], "labels"))
    if len(texts) != len(labels):
        raise CorpusError(
            f"{len(texts):,} texts and {len(labels):,} labels: each text needs one label"
        )
    raw = _Rows("the given data", row_word="position")
    for position, (text, value) in enumerate(zip(texts, labels, strict=True)):
        valid_text = replace_invalid(text, config.errors, lambda _: f"texts[{position}]")  # noqa: B023
        label = label_of(value, f"labels[{position}]", config.errors)
        raw.rows.append((position, _cleaned(valid_text, config), label))
    return raw


def _label_column(
    columns: Sequence[str],
    name: str,
    text_columns: Sequence[str],
    config: ExamplesConfig,
    advice: str = "",
) -> str:
    label = find_column(columns, name, config.label_column, LABEL_COLUMNS, "label", advice)
    if label in text_columns:
        raise same_column_error(name, label)
    return label


def _is_folder(path: str) -> bool:
    if path == "-":
        raise ConfigError("texts must be a file or a folder, not -")
    refuse_text(path)
    try:
        return Path(path).is_dir()
    except (OSError, ValueError) as error:
        raise unreadable(printable(path), error) from error


def _file_text(file: Path, config: ExamplesConfig) -> str:
    return "".join(decode_source(from_path(file), config, [])).removesuffix("\n")


def _cleaned(text: str, config: ExamplesConfig) -> str:
    return clean_html(text) if config.clean == "html" else text


# ---------------------------------------------------------------- what is left out and refused


def _with_new_labels(raw: _Rows, config: ExamplesConfig) -> _Rows:
    """Rename the labels by `label_map`, and leave out the rows that it skips."""
    names = config.labels_by_old
    if not names:
        return raw
    if unknown := [row for row in raw.rows if row[2] is not None and row[2] not in names]:
        labels = list(dict.fromkeys(repr(label) for _, _, label in unknown))
        raise CorpusError(
            f"{raw.source}: --label-map has no name for {enumerated(labels, 'label')} in "
            f"{raw.row_names([number for number, _, _ in unknown])}: add {unknown[0][2]}=NAME, or "
            f"{unknown[0][2]}={SKIP} to leave such rows out"
        )
    rows = [(number, text, names.get(label or "")) for number, text, label in raw.rows]
    kept = [row for row in rows if row[2] != SKIP]
    notes = list(raw.notes)
    if len(kept) < len(rows):
        count = len(rows) - len(kept)
        skipped = f"{count:,} row{'s' * (count != 1)}"
        notes.append(f"{raw.source}: --label-map leaves out {skipped}")
    return replace(raw, rows=kept, notes=notes)


def _to_examples(raw: _Rows, config: ExamplesConfig) -> Examples:
    """Leave out rows without text; refuse rows with text but no label."""
    raw = _with_new_labels(raw, config)
    kept = [row for row in raw.rows if row[1].strip()]
    if not kept:
        raise CorpusError(f"{raw.source} holds no text")
    if unlabelled := [number for number, _, label in kept if label is None]:
        raise CorpusError(
            f"{raw.source}: the label is missing in {raw.row_names(unlabelled)}: give each "
            "text one, or remove the texts without a label"
        )
    notes = list(raw.notes)
    if empty := [number for number, text, _ in raw.rows if not text.strip()]:
        notes.append(f"{raw.source}: left out because the text is empty: {raw.row_names(empty)}")
    first_labels: dict[str, str | None] = {}
    odd_texts = {text for _, text, label in kept if first_labels.setdefault(text, label) != label}
    if odd_texts:
        rows = raw.row_names([number for number, text, _ in kept if text in odd_texts])
        notes.append(f"{raw.source}: the same text has different labels in {rows}")
    numbers, texts, labels = zip(*kept, strict=True)
    examples = Examples(texts, labels, numbers, raw.source, tuple(notes))
    hint = " (--label-map gives them one name)"
    notes += label_notes(raw.source, examples.classes, len(examples), hint)
    return replace(examples, notes=tuple(notes))


def _refuse_unknown(examples: Examples, raw: _Rows, classes: Sequence[str]) -> None:
    pairs = zip(examples.rows, examples.labels, strict=True)
    known = set(classes)
    unknown = [(row, label) for row, label in pairs if label not in known]
    if unknown:
        labels = list(dict.fromkeys(repr(label) for _, label in unknown))
        raise CorpusError(
            f"{examples.source}: unknown {enumerated(labels, 'label')} in "
            f"{raw.row_names([row for row, _ in unknown])}; the labels of training are "
            f"{', '.join(map(repr, classes))}"
        )
