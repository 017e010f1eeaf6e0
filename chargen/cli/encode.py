"""`chargen encode`."""

from __future__ import annotations

from typing import Any

import click

from chargen.cli.groups import Command
from chargen.cli.options import (
    MachineConfig,
    check_files,
    json_option,
    load_model,
    model_argument,
    option,
    options_of,
    quiet_option,
)
from chargen.cli.tables import TRAINING_ONLY_EXCEPT_DOCUMENTS, read_documents, with_noun
from chargen.cli.terminal import echo_json, say, say_notes
from chargen.options import split_options
from chargen.text.config import CorpusConfig


@click.command(cls=Command, heading="Measure")
@model_argument
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@option(
    "--output",
    heading="Output",
    required=True,
    metavar="FILE",
    help="File to write: .npy, or .csv or .tsv with named columns.",
)
@option("--force", heading="Output", is_flag=True, help="Replace a file that exists.")
@options_of(CorpusConfig, leave_out=TRAINING_ONLY_EXCEPT_DOCUMENTS)
@options_of(MachineConfig)
@json_option
@quiet_option
def encode(
    directory: str,
    files: tuple[str, ...],
    output: str,
    force: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Turn documents into vectors for other programs.

    The output has a row of 3 H numbers for each document: the last, mean and largest output of the
    last layer, as `LanguageModel.encode` returns them. FILE can be anything that `chargen train`
    accepts as a CORPUS. --documents says what a document is; by default it is what it was in
    training, otherwise a file. The labels of a model trained with labels are read only if
    --label-column is given, because the numbers would reveal them.

    \b
    chargen encode checkpoints/mybook letters/ --output letters.npy
    chargen encode reviews films.csv --documents rows --output films.tsv
    """
    machine, reading = split_options(options, MachineConfig, CorpusConfig)
    check_files({"--output": output}, force)
    lm = load_model(directory, machine)
    import numpy as np

    from chargen.interchange.score_tables import table_delimiter, write_rows
    from chargen.storage.whole_files import atomic_write

    plain = output.lower().endswith(".npy")
    delimiter = "" if plain else table_delimiter(output, "--output", ".npy")
    notes: list[str] = []
    labels = reading.label_column is not None
    sources, texts = zip(*read_documents(lm, files, reading, notes, labels=labels), strict=True)
    unknown = lm.vocabulary.unknown_id
    if any((lm.vocabulary.encode(text) == unknown).any() for text in texts if unknown is not None):
        notes.append("unknown characters are read as one symbol")
    vectors = lm.encode(texts, as_is=True)  # (N, 3 H)
    if plain:
        with atomic_write(output) as file:
            np.save(file, vectors)
    else:
        units = range(vectors.shape[1] // 3)
        names = [f"{kind}_{unit}" for kind in ("last", "mean", "largest") for unit in units]
        rows = (
            {"document": number, "source": source, **dict(zip(names, row.tolist(), strict=True))}
            for number, (source, row) in enumerate(zip(sources, vectors, strict=True), 1)
        )
        write_rows(output, delimiter, rows)
    if as_json:
        echo_json({"file": output, "documents": len(vectors), "numbers": vectors.shape[1]})
    if quiet:
        return
    say_notes(notes)
    if not as_json:
        say(f"{with_noun(len(vectors), 'document')} of {vectors.shape[1]:,} numbers each")
