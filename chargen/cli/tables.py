"""Documents and pairs of texts, read one by one, and tables of their scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import click

from chargen.cli.evaluate import TRAINING_ONLY_FIELDS, say_unknown
from chargen.cli.terminal import echo_json, say_notes, visible
from chargen.errors import ConfigError, CorpusError
from chargen.text.config import CorpusConfig

# `TRAINING_ONLY_FIELDS` for commands that read documents one by one and therefore offer
# --documents.
TRAINING_ONLY_EXCEPT_DOCUMENTS = tuple(name for name in TRAINING_ONLY_FIELDS if name != "documents")


def read_documents(
    lm: Any,
    files: tuple[str, ...],
    requested: CorpusConfig,
    notes: list[str],
    *,
    labels: bool = True,
) -> Iterator[tuple[str, str]]:
    """Yield the source and the text of each document.

    Documents are delimited as `requested` says, otherwise as in training, otherwise by file. A text
    begins with the symbol of its label if both the model and the table have labels, unless `labels`
    is False. `notes` receives a sentence about anything read in an unexpected way. Raises
    `CorpusError` if a document cannot be read, if there is none, or if documents are requested to
    end at a marker that does not occur.
    """
    from chargen.text.formats import TABLES
    from chargen.text.sources import read, refuse_table_options, require_marker, resolve
    from chargen.text.symbols import SEPARATOR

    reading = lm.reading(requested, files)
    documents = requested.documents or reading.documents or "files"
    # Labels that the model looks for belong to rows; other documents have none.
    label_column = reading.label_column if documents == "rows" else None
    reading = replace(reading, documents=documents, label_column=label_column)
    symbol_of = lm.vocabulary.label_symbol if labels else None
    any_text = False
    seen_markers: set[str] = set()
    sources = resolve(files, reading, notes)
    refuse_table_options(sources, reading)
    for source in sources:
        if (
            reading.documents == "files"
            and source.form in TABLES.values()
            and not requested.documents
        ):
            notes.append(
                f"{source.name} is read as one document (--documents rows makes each row a "
                "document)"
            )
        pieces = read([source], reading, notes, None, seen_markers, symbol_of)
        for text in filter(None, "".join(pieces).split(SEPARATOR)):
            any_text = True
            yield source.name, text
    if requested.documents:
        require_marker(sources, reading, seen_markers)
    if not any_text:
        raise CorpusError(f"{', '.join(files)}: there is no text")


def score_documents(
    lm: Any, files: tuple[str, ...], requested: CorpusConfig, table: str, unit: str, streams: int
) -> dict[str, Any]:
    """Write the table of `chargen score --table`; return the figures of all documents together.

    Each document is scored separately, including its end if the model separates documents.
    """
    from chargen.interchange import score_tables

    delimiter = score_tables.table_delimiter(table, "--table")
    total = {"documents": 0, "characters": 0, "bits": 0.0}
    unknown = 0
    notes: list[str] = []

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal unknown
        for number, (source, text) in enumerate(read_documents(lm, files, requested, notes), 1):
            score = _document_score(lm, text, streams)
            figures = score_tables.document_row(score)
            total["documents"] = number
            total["characters"] += figures["characters"]
            total["bits"] += figures["bits"]
            unknown += score.unknown_chars
            for row in score_tables.ROWS[unit](score):
                yield {"document": number, "source": source, **row}

    score_tables.write_rows(table, delimiter, rows())
    say_notes(notes)
    say_unknown(unknown)
    return {**total, "bits_per_char": total["bits"] / total["characters"], "table": table}


def _document_score(lm: Any, text: str, streams: int) -> Any:
    """Score a document with its end, which a backward model reads at the document's beginning.

    In the reversed stream of training, that end is the separator of the document before.
    """
    from chargen.text.symbols import SEPARATOR

    end = "" if lm.vocabulary.separator_id is None else SEPARATOR
    return lm.score(end + text if lm.backward else text + end, streams=streams, as_is=True)


def score_pairs(
    lm: Any, pairs: str, requested: CorpusConfig, table: str | None, streams: int
) -> dict[str, Any]:
    """Return how often the first text of a pair is likelier; write scores to `table` if given."""
    from chargen.interchange import score_tables

    if lm.raw:
        raise ConfigError(
            "--pairs needs a model of text, and this model was trained on raw bytes: leave --pairs "
            "out"
        )
    delimiter = score_tables.table_delimiter(table, "--table") if table else ""
    header, texts = read_pairs(pairs, requested)
    rows, unknown = [], 0
    for number, pair in enumerate(texts, 1):
        scores = [lm.score(text, streams=streams) for text in pair]
        unknown += sum(score.unknown_chars for score in scores)
        first, second = (score_tables.document_row(score)["bits"] for score in scores)
        row = {"pair": number, "first": pair[0], "second": pair[1]}
        bits = {"first_bits": first, "second_bits": second}
        rows.append({**row, **bits, "first_is_likelier": int(first < second)})
    if table:
        score_tables.write_rows(table, delimiter, rows)
    say_unknown(unknown)
    accuracy = sum(row["first_is_likelier"] for row in rows) / len(rows)
    return {"columns": header, "pairs": len(rows), "accuracy": accuracy}


def read_pairs(pairs: str, config: CorpusConfig) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the header and the rows of a table with two columns.

    Notes on how the table was read go to stderr. Raises `ConfigError` or `CorpusError` if it is
    not such a table, has no rows, or has a row without two texts.
    """
    from chargen.text.sources import resolve
    from chargen.text.tables import open_table

    source, *more = resolve([pairs], config)
    if more or source.form not in ("csv", "tsv"):
        raise ConfigError(f"--pairs needs a .csv or .tsv file, got {visible(pairs)}")
    notes: list[str] = []
    table = open_table(source, config, notes)
    header = table.columns
    if len(header) != 2 or header[0] == header[1]:
        raise ConfigError(
            f"--pairs needs two columns, named in the first line; {source.name} has "
            f"{', '.join(map(repr, header))}"
        )
    rows = []
    for row in table.unbroken_rows():
        first, second = (table.text(row, [name]) for name in header)
        if not first or not second:
            raise CorpusError(f"{source.name}, line {row.line}: a text of the pair is empty")
        rows.append((first, second))
    say_notes(notes)
    if not rows:
        raise CorpusError(f"{source.name} has no pairs")
    return header, rows


def with_noun(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 document``, ``2 documents``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def print_figures(figures: dict[str, Any], as_json: bool) -> None:
    """Print the figures of `score_documents` or `score_pairs` on stdout."""
    if as_json:
        echo_json(figures)
    elif "pairs" in figures:
        first, second = map(visible, figures["columns"])
        pairs = figures["pairs"]
        likelier = round(figures["accuracy"] * pairs)
        click.echo(
            f"{first} is likelier than {second} in {likelier:,} of {with_noun(pairs, 'pair')} "
            f"({figures['accuracy']:.1%})"
        )
    else:
        click.echo(
            f"{with_noun(figures['documents'], 'document')}, {figures['characters']:,} "
            f"characters, {figures['bits_per_char']:.3f} bits per character"
        )
