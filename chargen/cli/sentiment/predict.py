"""`chargen sentiment predict`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from chargen.cli.groups import Command
from chargen.cli.options import (
    MachineConfig,
    check_files,
    json_option,
    load_classifier,
    model_argument,
    option,
    options_of,
    quiet_option,
)
from chargen.cli.sentiment.verdicts import RowProgress, print_verdict, refuse_file, report_problems
from chargen.cli.terminal import say_notes
from chargen.errors import ConfigError, printable
from chargen.options import split_options
from chargen.sentiment.config import ExamplesConfig, PredictConfig

_BLOCK = 1 << 20  # maximum number of bytes read from a pipe at a time


class _Predict(Command):
    """Command whose error for an unknown option explains how to pass a text that begins with -."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        all_args = list(args)  # click consumes `args`
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            candidates = (arg for arg in all_args if re.match("-[^-]", arg) or " " in arg)
            text = next((arg for arg in candidates if arg.startswith("-")), None)
            if text is None or "--" in all_args:
                raise
            raise click.UsageError(
                f"{error.format_message()} (write -- before a text that begins with -: "
                f"chargen sentiment predict DIR -- {printable(text)!r})",
                ctx,
            ) from error


@click.command(cls=_Predict)
@model_argument
@click.argument("texts", nargs=-1, metavar="[TEXT...]")
@option(
    "--input",
    "source",
    heading="Text",
    metavar="FILE",
    help="Table to classify: .csv, .tsv, .jsonl, .json, or plain text with one text per line; "
    "also compressed.",
)
@option(
    "--output",
    heading="Output",
    metavar="FILE",
    help="File for the table with the new columns: .csv, .tsv, .jsonl, .json; also compressed "
    "(.gz, .bz2, .xz, .zst). Default: stdout, in the format of the input.",
)
@option("--force", heading="Output", is_flag=True, help="Replace an output that exists.")
@options_of(ExamplesConfig, leave_out=("label_column", "label_map", "clean"))
@options_of(PredictConfig)
@options_of(MachineConfig)
@json_option
@quiet_option
def predict(
    directory: str,
    texts: tuple[str, ...],
    source: str | None,
    output: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Predict labels and probabilities of texts.

    The texts are the arguments, the rows of a table, or (without both) the lines on stdin. A table
    gets the columns `predicted` and, for each label, `p_LABEL`. If a row cannot be classified,
    these are empty, the row is named at the end, and the exit code is 1. Texts are cleaned as in
    training.

    \b
    chargen sentiment predict sentiment "A quiet, wonderful film."
    chargen sentiment predict sentiment < lines.txt
    chargen sentiment predict sentiment --input reviews.csv.gz --output out.csv
    chargen sentiment predict sentiment --json "So so."
    chargen sentiment predict sentiment --input reviews.csv --threshold 0.8
    """
    config, asked, machine = split_options(options, ExamplesConfig, PredictConfig, MachineConfig)
    _check_options(texts, source, output, as_json, config)
    if source is not None:
        return _predict_table(
            directory, source, output, force, machine, as_json, quiet, config, asked
        )
    classifier = load_classifier(directory, machine)
    from chargen.sentiment.tables import Predictor

    predictor = Predictor(classifier, asked)
    notes: list[str] = []
    blocks = [_valid_texts(texts)] if texts and texts != ("-",) else _read_lines(config, notes)
    for block in blocks:
        for verdict in _classify(predictor, block):
            print_verdict(predictor, verdict, as_json)
        sys.stdout.flush()
    say_notes(() if quiet else notes)
    return report_problems(predictor, "texts", quiet)


def _check_options(
    texts: tuple[str, ...],
    source: str | None,
    output: str | None,
    as_json: bool,
    config: ExamplesConfig,
) -> None:
    if texts and source is not None:
        raise ConfigError("texts and --input exclude each other: give one of them")
    for text in texts:
        refuse_file(text, f"read it with --input {printable(text)}")
    if source is None:
        for flag in ["--output"] * (output is not None) + config.table_options:
            raise ConfigError(f"{flag} is for the table of --input: give --input FILE")
    if as_json and output is not None:
        raise ConfigError("--json prints to stdout; for a file name --output something.jsonl")
    if source == "-":
        raise ConfigError("--input must be a file: to read lines from stdin, leave --input out")
    if source is not None and Path(source).is_dir():
        raise ConfigError(f"--input must be a file, {source} is a folder")


def _predict_table(
    directory: str,
    source: str,
    output: str | None,
    force: bool,
    machine: MachineConfig,
    as_json: bool,
    quiet: bool,
    config: ExamplesConfig,
    predict_config: PredictConfig,
) -> int:
    from chargen.text.files import from_path
    from chargen.text.table_writer import output_format
    from chargen.text.tables import open_table

    form = ""
    to_file = output is not None and output != "-"
    if output is not None and to_file:
        form = output_format(output)
        check_files({"--output": output}, force)
    notes: list[str] = []
    table = open_table(from_path(Path(source)), config, notes)
    if table.dialect.form == "plain" and (flags := config.table_options):
        raise ConfigError(f"{flags[0]} is for tables; {table.name} is read as plain text")
    _ = table.text_columns  # an invalid table is refused before the classifier is loaded
    classifier = load_classifier(directory, machine)
    from chargen.sentiment.tables import Predictor, predict_table

    predictor = Predictor(classifier, predict_config)
    progress = None if quiet else RowProgress()
    try:
        if as_json:
            for verdict in predictor.table(table, progress):
                print_verdict(predictor, verdict, as_json)
        else:
            form = form or {"plain": "csv"}.get(table.dialect.form, table.dialect.form)
            target: Any = output if to_file else sys.stdout.buffer
            predict_table(predictor, table, target, form, progress)
    finally:
        if progress is not None:
            progress.close()
    say_notes(() if quiet else notes)
    return report_problems(predictor, "rows", quiet)


def _valid_texts(texts: Iterable[str]) -> list[str]:
    """Return the arguments with bytes that are not UTF-8 (surrogates in Python) replaced."""
    from chargen.text.decoding import replace_invalid

    return [replace_invalid(text, "replace", str) for text in texts]


def _read_lines(config: ExamplesConfig, notes: list[str]) -> Iterator[list[str]]:
    """Yield groups of lines from stdin as they arrive, so that typed lines are answered at once.

    `notes` receives a sentence about anything in the encoding that may be wrong.
    """
    from chargen.text.decoding import decode

    incomplete: list[str] = []
    stdin: Any = sys.stdin.buffer
    blocks = iter(lambda: stdin.read1(_BLOCK), b"")
    for piece in decode(blocks, "standard input", config.encoding, config.errors, notes):
        first, *rest = piece.split("\n")
        incomplete.append(first)
        if rest:
            yield ["".join(incomplete), *rest[:-1]]
            incomplete = [rest[-1]]
    if last := "".join(incomplete):
        yield [last]


def _classify(predictor: Any, texts: list[str]) -> Iterator[Any]:
    from chargen.sentiment.tables import Verdict
    from chargen.text.formats import Row

    chunk = []
    for number, text in enumerate(texts, predictor.rows + 1):
        chunk.append(Verdict(f"text {number}", Row(number, ("text",), (text,), text), text))
    yield from predictor.classify(chunk)
