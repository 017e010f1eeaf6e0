"""Labelled and unlabelled texts, from tables, folders, data sets and Python: read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chargen.errors import ConfigError, CorpusError, brief, named, shown
from chargen.sentiment.config import SKIP, ExamplesConfig
from chargen.text.decoding import clean, decoded
from chargen.text.fetching import asked, labelled_path, paths
from chargen.text.files import from_path, refuse_text, unreadable
from chargen.text.folders import class_files, txt_files
from chargen.text.formats import DELIMITERS
from chargen.text.given import given_list, given_texts, is_table
from chargen.text.html import clean_html
from chargen.text.labels import label_of, odd_labels, same_column
from chargen.text.tables import TEXT_COLUMNS, find_column, open_table

LABEL_COLUMNS = (
    *("label", "sentiment", "class", "category", "target", "polarity", "y", "stars", "rating"),
)
"""Usual names, the likeliest first."""


@dataclass(frozen=True)
class Examples:
    """Texts and their labels.

    Attributes
    ----------
    texts, labels : tuple of str
        The texts, and the labels after `label_of` and `ExamplesConfig.label_map`.
    rows : tuple of int
        For each text the line of the file where its row starts; in a folder the number of its file
        in the order of the paths, from 1 on; for texts from Python the position, from 0 on.
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
        if not len(self.texts) == len(self.labels) == len(self.rows):
            raise CorpusError(f"{self.source}: each text needs a label and a row")
        if odd := [label for label in self.labels if not isinstance(label, str)]:
            raise CorpusError(f"{self.source}: labels must be texts (str), got {brief(odd[0])}")

    @classmethod
    def of(cls, texts: Iterable[str], labels: Iterable[Any]) -> Examples:
        """Make examples of texts and labels from Python, with the checks of a table."""
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
        A .csv, .tsv, .jsonl or .json file, compressed or not, or a folder that holds one folder of
        .txt files per class; or from Python two lists, or columns by name.
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
    if not isinstance(data, str | Path):
        found = _given_rows(data, config)
    else:
        path = labelled_path(str(data))
        found = _folder_rows(path, config) if _is_folder(path) else _table_rows(path, config)
    examples = _checked(found, config)
    if classes is not None:
        _refuse_unknown(examples, found, classes)
    elif len(examples.classes) < 2:
        raise CorpusError(
            f"{examples.source}: the only label is {examples.labels[0]!r} "
            f"({len(examples):,} texts); a classifier needs two or more"
        )
    return examples


def read_texts(path: str, config: ExamplesConfig, notes: list[str] | None = None) -> list[str]:
    """Read texts without labels, leaving out the empty ones.

    The path is of plain text with a text in each line, of a .csv, .tsv, .jsonl or .json file,
    compressed or not, or of a folder of .txt files. `notes` gets sentences about how it was read.

    Raises
    ------
    CorpusError
        For what cannot be read, and where there is no text.
    ConfigError
        Where `path` is standard input.
    """
    path = str(path)
    notes = [] if notes is None else notes
    if reference := asked(path):
        path = str(paths(reference)[0])
    if _is_folder(path):
        files, _ = txt_files(Path(path))
        found: Iterator[str] = (_file_text(file, config) for file in files)
    else:
        source = from_path(Path(path))
        # Options of tables may be for the labelled texts beside them.
        if source.form not in DELIMITERS:
            config = replace(config, delimiter=None, quoting=None, header=True)
        if source.form == "plain":
            config = replace(config, text_column=())
        table = open_table(source, config, notes)
        found = (table.text(row) for row in table.whole_rows())
    texts = [text for each in found if (text := _cleaned(each, config)).strip()]
    if not texts:
        raise CorpusError(f"{shown(path)} holds no text")
    return texts


# ---------------------------------------------------------------- where rows come from


@dataclass
class _Rows:
    """Texts and labels as they were found, before anything is left out or refused.

    `rows` holds number, text and label (None where there is none); people look for a row as the
    `word` and its number, or by its file where there are `files`.
    """

    source: str
    rows: list[tuple[int, str, str | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    word: str = "line"
    files: Sequence[str] = ()

    def named(self, numbers: Sequence[int]) -> str:
        """The first of some rows, as people would look for them."""
        if self.files:
            return named([self.files[number - 1] for number in numbers], "file")
        return named(numbers, self.word)


def _table_rows(path: str, config: ExamplesConfig) -> _Rows:
    found = _Rows(shown(path))
    table = open_table(from_path(Path(path)), config, found.notes)
    if table.dialect.form == "plain":
        raise CorpusError(
            f"{table.name} has no labels: labelled texts are a .csv, .tsv, .jsonl or .json file, "
            "a folder that holds one folder of .txt files per class, or another file that "
            "--delimiter makes a table of"
        )
    label_column = _label_column(
        table.columns, table.name, table.text_columns, config, table.advice
    )
    for row in table.whole_rows():
        label = label_of(
            row.cell(label_column),
            f"{table.name}, line {row.line}: {label_column!r}",
            config.errors,
        )
        found.rows.append((row.line, _cleaned(table.text(row), config), label))
    return found


def _folder_rows(path: str, config: ExamplesConfig) -> _Rows:
    found = _Rows(shown(path))
    root = Path(path)
    files = class_files(root, found.notes)
    if config.table_options:
        without = ", ".join(config.table_options)
        found.notes.append(f"{without} is for tables; {found.source} is a folder")
    found.files = [shown(file.relative_to(root).as_posix()) for _, file in files]
    for number, (folder, file) in enumerate(files, 1):
        label = label_of(folder, found.files[number - 1])
        found.rows.append((number, _cleaned(_file_text(file, config), config), label))
    return found


def _given_rows(data: Any, config: ExamplesConfig) -> _Rows:
    """Of a pair (texts, labels) or a table from Python, such as a data frame."""
    if is_table(data):
        names = {str(name): name for name in getattr(data, "columns", data)}
        table = "the given table"
        wanted = config.text_column or (None,)
        text_columns = [find_column(list(names), table, w, TEXT_COLUMNS, "text") for w in wanted]
        label_column = _label_column(list(names), table, text_columns, config)
        columns = [list(given_texts(data[names[one]])) for one in text_columns]
        if len(set(map(len, columns))) > 1:
            raise CorpusError(f"{table}: its columns of texts are not of the same length")
        joined = ["\n".join(filter(None, parts)) for parts in zip(*columns, strict=True)]
        data = joined, data[names[label_column]]
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
    found = _Rows("the given data", word="position")
    for place, (text, value) in enumerate(zip(texts, labels, strict=True)):
        sound = clean(text, config.errors, lambda _: f"texts[{place}]")  # noqa: B023
        label = label_of(value, f"labels[{place}]", config.errors)
        found.rows.append((place, _cleaned(sound, config), label))
    return found


def _label_column(
    columns: Sequence[str],
    name: str,
    texts: Sequence[str],
    config: ExamplesConfig,
    advice: str = "",
) -> str:
    label = find_column(columns, name, config.label_column, LABEL_COLUMNS, "label", advice)
    if label in texts:
        raise same_column(name, label)
    return label


def _is_folder(path: str) -> bool:
    if path == "-":
        raise ConfigError("texts must be a file or a folder, not -")
    refuse_text(path)
    try:
        return Path(path).is_dir()
    except (OSError, ValueError) as error:
        raise unreadable(shown(path), error) from error


def _file_text(file: Path, config: ExamplesConfig) -> str:
    return "".join(decoded(from_path(file), config, [])).removesuffix("\n")


def _cleaned(text: str, config: ExamplesConfig) -> str:
    return clean_html(text) if config.clean == "html" else text


# ---------------------------------------------------------------- what is left out and refused


def _renamed(found: _Rows, config: ExamplesConfig) -> _Rows:
    """The rows with labels as `label_map` calls them, without those to skip."""
    names = config.labels_by_old
    if not names:
        return found
    if unknown := [row for row in found.rows if row[2] is not None and row[2] not in names]:
        labels = list(dict.fromkeys(repr(label) for _, _, label in unknown))
        raise CorpusError(
            f"{found.source}: --label-map has no name for {named(labels, 'label')} in "
            f"{found.named([number for number, _, _ in unknown])}: add {unknown[0][2]}=NAME, or "
            f"{unknown[0][2]}={SKIP} to leave such rows out"
        )
    rows = [(number, text, names.get(label or "")) for number, text, label in found.rows]
    kept = [row for row in rows if row[2] != SKIP]
    notes = list(found.notes)
    if len(kept) < len(rows):
        count = len(rows) - len(kept)
        some = f"{count:,} row{'s' * (count != 1)}"
        notes.append(f"{found.source}: --label-map leaves out {some}")
    return replace(found, rows=kept, notes=notes)


def _checked(found: _Rows, config: ExamplesConfig) -> Examples:
    """What has a text; each of it must have a label."""
    found = _renamed(found, config)
    kept = [row for row in found.rows if row[1].strip()]
    if not kept:
        raise CorpusError(f"{found.source} holds no text")
    if unlabelled := [number for number, _, label in kept if label is None]:
        raise CorpusError(
            f"{found.source}: the label is missing in {found.named(unlabelled)}: give each "
            "text one, or take the texts without one out"
        )
    notes = list(found.notes)
    if empty := [number for number, text, _ in found.rows if not text.strip()]:
        notes.append(f"{found.source}: left out for want of text: {found.named(empty)}")
    first: dict[str, str | None] = {}
    odd = {text for _, text, label in kept if first.setdefault(text, label) != label}
    if odd:
        rows = found.named([number for number, text, _ in kept if text in odd])
        notes.append(f"{found.source}: one text has two different labels in {rows}")
    numbers, texts, labels = zip(*kept, strict=True)
    examples = Examples(texts, labels, numbers, found.source, tuple(notes))
    hint = " (--label-map gives them one name)"
    notes += odd_labels(found.source, examples.classes, len(examples), hint)
    return replace(examples, notes=tuple(notes))


def _refuse_unknown(examples: Examples, found: _Rows, classes: Sequence[str]) -> None:
    pairs = zip(examples.rows, examples.labels, strict=True)
    known = set(classes)
    unknown = [(row, label) for row, label in pairs if label not in known]
    if unknown:
        labels = list(dict.fromkeys(repr(label) for _, label in unknown))
        raise CorpusError(
            f"{examples.source}: unknown {named(labels, 'label')} in "
            f"{found.named([row for row, _ in unknown])}; the labels of training are "
            f"{', '.join(map(repr, classes))}"
        )
