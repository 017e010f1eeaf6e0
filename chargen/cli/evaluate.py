"""`chargen evaluate`."""

from __future__ import annotations

from typing import Any

import click

from chargen.cli.groups import Command
from chargen.cli.options import (
    MachineConfig,
    json_option,
    load_model,
    model_argument,
    option,
    options_of,
    streams_option,
)
from chargen.cli.terminal import echo_json, say, say_notes
from chargen.errors import CorpusError
from chargen.options import split_options
from chargen.text.config import CorpusConfig

# Fields of `CorpusConfig` that are not options of a command on a trained model.
TRAINING_ONLY_FIELDS = ("level", "min_count", "valid", "valid_fraction", "documents", "raw_bytes")

UNKNOWN_CHARACTERS = (
    "unknown characters are scored as one symbol, which makes the result a little too good"
)


@click.command(cls=Command, heading="Measure")
@model_argument
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@option(
    "--dynamic",
    heading="Measure",
    is_flag=True,
    help="Also evaluate with parameters that adapt to the text.",
)
@streams_option
@options_of(CorpusConfig, leave_out=TRAINING_ONLY_FIELDS)
@options_of(MachineConfig)
@json_option
def evaluate(
    directory: str,
    files: tuple[str, ...],
    dynamic: bool,
    streams: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the bits per character of a model on a text.

    FILE can be anything that `chargen train` accepts as a CORPUS. The bits of xz and zlib are
    printed too. The state is carried through the text, or with --streams through each part of it;
    --dynamic reads the text in one stream.

    \b
    chargen evaluate checkpoints/mybook chapter9.txt
    chargen evaluate checkpoints/mybook chapter9.txt --dynamic --json
    chargen evaluate checkpoints/mybook library/ --streams 64 --precision auto
    """
    machine, reading = split_options(options, MachineConfig, CorpusConfig)
    lm = load_model(directory, machine)
    text = read_text(files, lm.reading(reading, files), lm)
    from chargen.lm.evaluation import bits
    from chargen.text.statistics import xz_bits_per_char, zlib_bits_per_char

    score = lm.score(text, streams=streams, as_is=True)
    figures: dict[str, Any] = {
        "chars": len(score.text),
        "nats_per_char": score.nats_per_char,
        "bits_per_char": score.bits_per_char,
        "perplexity": score.perplexity,
        "unknown_chars": score.unknown_chars,
        "xz_bits_per_char": xz_bits_per_char(score.text, raw=lm.raw),
        "zlib_bits_per_char": zlib_bits_per_char(score.text, raw=lm.raw),
    }
    if dynamic:
        nats = lm.score(text, dynamic=True, as_is=True).nats_per_char
        figures |= {"dynamic_nats_per_char": nats, "dynamic_bits_per_char": bits(nats)}
    if as_json:
        echo_json(figures)
        return
    for name, value in figures.items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        click.echo(f"{name.replace('_', ' '):24}{shown:>12}")
    if score.unknown_chars:
        say(UNKNOWN_CHARACTERS)


def read_text(files: tuple[str, ...], config: CorpusConfig, lm: Any) -> str:
    """Return the text of several sources as one string, with symbols for the model's labels.

    Notes on how the text was read go to stderr. Raises `CorpusError` if a source cannot be read,
    or if there is no text.
    """
    from chargen.text.sources import read_all

    notes: list[str] = []
    text: str = read_all(files, config, notes, symbol_of=lm.vocabulary.label_symbol)
    say_notes(notes)
    if not text:
        raise CorpusError(f"{', '.join(files)}: there is no text")
    return text
