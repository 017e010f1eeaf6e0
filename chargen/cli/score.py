"""`chargen score`."""

from __future__ import annotations

import json
import math
from typing import Any

import click

from chargen.cli.evaluate import UNKNOWN_CHARACTERS, read_text
from chargen.cli.groups import Command
from chargen.cli.options import (
    MachineConfig,
    check_files,
    json_option,
    load_model,
    model_argument,
    option,
    options_of,
    streams_option,
)
from chargen.cli.tables import (
    TRAINING_ONLY_EXCEPT_DOCUMENTS,
    print_figures,
    score_documents,
    score_pairs,
)
from chargen.cli.terminal import colour_by_default, echo_json, say, visible, visible_json
from chargen.errors import ConfigError
from chargen.options import split_options
from chargen.text.config import CorpusConfig

# Background colours of a 256-colour terminal for the steps of `plotting.heatmap`: yellow to red.
_BACKGROUNDS = (None, 230, 222, 215, 209, 203)


@click.command(cls=Command, heading="Measure")
@model_argument
@click.argument("files", nargs=-1, metavar="[FILE...]")
@option(
    "--color/--no-color",
    heading="Output",
    default=None,
    help="Colour the text by surprise (default: on a terminal).",
)
@option(
    "--html",
    "html_file",
    heading="Output",
    metavar="FILE",
    help="Write the coloured text as an HTML page.",
)
@option(
    "--png",
    "png_file",
    heading="Output",
    metavar="FILE",
    help="Write the coloured text as a picture.",
)
@option(
    "--table",
    heading="Output",
    metavar="FILE",
    help="Write a table (.csv, .tsv) with a row for each document, unless the next two "
    "options say otherwise.",
)
@option("--words", heading="Output", is_flag=True, help="With --table: a row for each word.")
@option(
    "--characters", heading="Output", is_flag=True, help="With --table: a row for each character."
)
@option(
    "--pairs",
    heading="Measure",
    metavar="FILE",
    help="Table (.csv, .tsv) of two columns instead of FILE, to see "
    "which of the two texts in a row is likelier.",
)
@option("--force", heading="Output", is_flag=True, help="Replace files that exist.")
@streams_option
@options_of(CorpusConfig, leave_out=TRAINING_ONLY_EXCEPT_DOCUMENTS)
@options_of(MachineConfig)
@json_option
def score(
    directory: str,
    files: tuple[str, ...],
    color: bool | None,
    html_file: str | None,
    png_file: str | None,
    table: str | None,
    words: bool,
    characters: bool,
    pairs: str | None,
    force: bool,
    streams: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Show how surprising each character of a text is, in bits.

    \b
    chargen score checkpoints/mybook chapter9.txt         coloured
    chargen score checkpoints/mybook chapter9.txt > bits  one line per character
    chargen score checkpoints/mybook chapter9.txt --html surprise.html
    chargen score checkpoints/mybook chapters/ --table words.csv --words
    chargen score checkpoints/mybook --pairs sentences.tsv
    echo 'It was' | chargen score checkpoints/mybook - --json
    """
    machine, reading = split_options(options, MachineConfig, CorpusConfig)
    _check_options(files, reading, table, words, characters, pairs, html_file or png_file)
    written = {"--html": html_file, "--png": png_file}
    check_files({**written, "--table": table}, force, picture_options=("--png",))
    lm = load_model(directory, machine)
    if pairs is not None:
        print_figures(score_pairs(lm, pairs, reading, table, streams), as_json)
        return
    if table is not None:
        unit = "words" if words else "characters" if characters else "documents"
        print_figures(score_documents(lm, files, reading, table, unit, streams), as_json)
        return
    text = read_text(files, lm.reading(reading, files), lm)
    result = lm.score(text, streams=streams, as_is=True)
    surprise = [-value / math.log(2) for value in result.log_probs.tolist()]
    _write_pictures(written, result.text, surprise, f"{', '.join(files)} under {directory}")
    if as_json:
        figures = {
            "text": result.text,
            "log_probs": result.log_probs.tolist(),
            "bits_per_char": result.bits_per_char,
            "unknown_chars": result.unknown_chars,
        }
        echo_json(figures)
        return
    if result.unknown_chars:
        say(UNKNOWN_CHARACTERS)
    mean = f"{result.bits_per_char:.3f} bits per character"
    if color is None and (html_file or png_file):
        click.echo(mean)
    elif colour_by_default() if color is None else color:
        click.echo("".join(map(_paint, result.text, surprise)), color=True)
        click.echo(mean)
    else:
        for character, value in zip(result.text, surprise, strict=True):
            click.echo(f"{value:.3f}\t{visible_json(json.dumps(character, ensure_ascii=False))}")


def _check_options(
    files: tuple[str, ...],
    reading: CorpusConfig,
    table: str | None,
    words: bool,
    characters: bool,
    pairs: str | None,
    picture_file: str | None,
) -> None:
    """Raise `ConfigError` or `click.UsageError` if options do not go together."""
    if (not files) == (pairs is None):
        raise click.UsageError("give either FILE or --pairs")
    if (table or pairs) and picture_file:
        raise ConfigError("--html and --png show a single text: leave --table and --pairs out")
    if pairs is not None and (words or characters):
        raise ConfigError("--words and --characters are for the text of FILE: leave --pairs out")
    if (words or characters) and table is None:
        raise ConfigError("--words and --characters need --table: give --table FILE")
    if words and characters:
        raise ConfigError("--words and --characters exclude each other: give one of them")
    if pairs is not None and (reading.text_column or reading.label_column is not None):
        column_flag = "--text-column" if reading.text_column else "--label-column"
        raise ConfigError(f"--pairs reads both columns as texts: leave {column_flag} out")
    by_document = reading.documents is not None and reading.label_column is None
    if by_document and (table is None or pairs is not None):
        raise ConfigError("--documents is for the rows of --table: give --table FILE")


def _write_pictures(
    files: dict[str, str | None], text: str, surprise: list[float], title: str
) -> None:
    from chargen.plotting import heatmap
    from chargen.storage.whole_files import write_file

    if name := files["--html"]:
        write_file(name, heatmap.page(text, surprise, title).encode("utf-8", "replace"))
    if name := files["--png"]:
        write_file(name, heatmap.picture(text, surprise, title))


def _paint(character: str, surprise: float) -> str:
    from chargen.plotting.heatmap import surprise_step

    shown = visible(character)
    background = _BACKGROUNDS[surprise_step(surprise)]
    if background is None or character.isspace():
        return shown
    return click.style(shown, fg=16, bg=background)
