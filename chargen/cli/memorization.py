"""`chargen memorization`."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import click

from chargen.cli.evaluate import TRAINING_ONLY_FIELDS
from chargen.cli.groups import Command
from chargen.cli.options import (
    MachineConfig,
    json_option,
    load_corpus_for,
    load_model,
    model_argument,
    option,
    options_of,
)
from chargen.cli.terminal import echo_json, say, visible
from chargen.errors import CorpusError
from chargen.options import split_options
from chargen.sampling.config import MemorizationConfig
from chargen.text.config import CorpusConfig


@click.command(cls=Command, heading="Measure")
@model_argument
@click.argument("corpora", nargs=-1, required=True, metavar="CORPUS...")
@options_of(MemorizationConfig)
@option(
    "--show",
    heading="Output",
    type=click.IntRange(min=0),
    default=0,
    help="Number of passages to print, longest repetitions first.",
)
@options_of(CorpusConfig, leave_out=TRAINING_ONLY_FIELDS)
@options_of(MachineConfig, leave_out=("precision",))
@json_option
def memorization(
    directory: str, corpora: tuple[str, ...], show: int, as_json: bool, **options: Any
) -> None:
    """Measure how much of its text a model repeats verbatim.

    Passages of CORPUS are drawn at random. The model reads the text before each passage and
    continues with the likeliest character every time. A passage counts as reproduced if the
    model writes all of it. If documents are kept apart, each passage lies within one document and
    contains no label. The same figures for the end of CORPUS, if training kept it for validation,
    show how much a model repeats by chance.

    \b
    chargen memorization checkpoints/mybook mybook.txt
    chargen memorization checkpoints/mybook mybook.txt --passages 5000 --show 5
    """
    sizes, machine, reading = split_options(
        options, MemorizationConfig, MachineConfig, CorpusConfig
    )
    lm = load_model(directory, machine)
    from chargen.sampling.memorization import memorization as measure

    trained = lm.trained_reading
    # With --valid, training held out other text than the end of CORPUS.
    held_out = (
        0.0 if trained.get("valid") else trained.get("valid_fraction", reading.valid_fraction)
    )
    reading = replace(reading, valid_fraction=held_out)
    text = load_corpus_for(lm, corpora, reading, cuts_document=False)
    special_ids = {
        "separator_id": lm.vocabulary.separator_id,
        "first_label_id": lm.vocabulary.first_label_id,
        "unknown_id": lm.vocabulary.unknown_id,
    }
    result = measure(lm.decoder, text.train, sizes, **special_ids)
    figures = {"length": sizes.length, "context": sizes.context, **_figures(result)}
    with suppress(CorpusError):  # there is no held-out text, or too little
        figures["held_out"] = _figures(measure(lm.decoder, text.valid, sizes, **special_ids))
    longest = []
    for i in result.agreeing.argsort(kind="stable")[::-1][:show]:
        start, count = int(result.starts[i]), int(result.agreeing[i])
        ids = text.train[start : start + count]
        passage = lm.vocabulary.decode(ids[::-1] if lm.backward else ids)
        longest.append({"characters": len(passage), "text": passage})
    if as_json:
        echo_json(figures | ({"longest": longest} if show else {}))
        return
    unit = "characters" if lm.vocabulary.level == "char" else "bytes"
    click.echo(f"of training text:  {_sentence(figures, unit)}")
    if "held_out" in figures:
        click.echo(f"of held-out text:  {_sentence(figures['held_out'], unit)}")
    for row in longest:
        passage = visible(json.dumps(row["text"], ensure_ascii=False))
        click.echo(f"{row['characters']:4}  {passage}")
    say(_advice(result.share))


def _figures(result: Any) -> dict[str, Any]:
    return {
        "passages": len(result.starts),
        "reproduced": int((result.agreeing == result.length).sum()),
        "share": result.share,
        "mean_characters": result.mean_agreeing,
    }


def _sentence(figures: dict[str, Any], unit: str) -> str:
    return (
        f"{figures['reproduced']:,} of {figures['passages']:,} passages were reproduced in full "
        f"({figures['share']:.2%}); {figures['mean_characters']:.1f} {unit} on average"
    )


def _advice(share: float) -> str:
    if share == 0:
        return "this test found nothing that the model has memorized, but it can miss rare secrets"
    return (
        "treat the checkpoint as you treat its text. Fewer epochs, more --dropout and a smaller "
        "--hidden-size reduce memorization; remove secrets from the text before training"
    )
