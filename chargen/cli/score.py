"""`chargen score`."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import click

from ..text.config import CorpusConfig
from ..text.sources import SEPARATOR
from .evaluate import READING, read_text
from .options import (
    device_option,
    json_option,
    load_model,
    model_argument,
    options_of,
    precision_option,
    reading_of,
    streams_option,
)
from .options import threads_option as threads
from .terminal import visible, visible_json

# Background colours of the terminal's 256 by bits of surprise: none, then yellow to red.
_STEPS = ((1.0, None), (2.0, 230), (4.0, 222), (6.0, 215), (9.0, 209), (math.inf, 203))


@click.command()
@model_argument
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--color/--no-color", default=None, help="Paint the text by surprise (default: on a terminal)."
)
@streams_option
@precision_option
@options_of(CorpusConfig, leave_out=READING)
@device_option
@threads
@json_option
def score(
    directory: str,
    files: tuple[str, ...],
    color: bool | None,
    streams: int,
    precision: str,
    device: str,
    threads: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """How surprising each character of a text is to a model, in bits.

    \b
    chargen score checkpoints/mybook chapter9.txt          painted on a terminal
    chargen score checkpoints/mybook chapter9.txt > bits   a line for each character
    echo 'It was' | chargen score checkpoints/mybook - --json
    """
    lm = load_model(directory, device, threads, precision)
    result = lm.score(read_text(files, reading_of(lm, options)), streams=streams)
    text = result.text.replace(SEPARATOR, "\n")
    surprise = [-value / math.log(2) for value in result.log_probs.tolist()]
    if as_json:
        figures = {
            "text": text,
            "log_probs": result.log_probs.tolist(),
            "bits_per_char": result.bits_per_char,
            "unknown_chars": result.unknown_chars,
        }
        click.echo(visible_json(json.dumps(figures, ensure_ascii=False)))
    elif sys.stdout.isatty() if color is None else color:
        painted = "".join(map(_paint, text, surprise))
        click.echo(painted, color=True)
        click.echo(f"{result.bits_per_char:.3f} bits per character")
    else:
        for character, value in zip(text, surprise, strict=True):
            click.echo(f"{value:.3f}\t{visible_json(json.dumps(character, ensure_ascii=False))}")


def _paint(character: str, surprise: float) -> str:
    shown = visible(character)
    background = next(color for limit, color in _STEPS if surprise < limit or limit == math.inf)
    if background is None or character.isspace():
        return shown
    return click.style(shown, fg=16, bg=background)
