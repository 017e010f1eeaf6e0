"""`chargen count`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
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
from chargen.cli.terminal import echo_json, say
from chargen.lm.config import CountsConfig
from chargen.options import split_options
from chargen.text.config import CorpusConfig

MIN_GAIN_BITS = 0.005
"""Gain in bits per character below which the counts are not worth a larger model."""


@click.command(cls=Command, heading="Train")
@model_argument
@click.argument("corpora", nargs=-1, required=True, metavar="CORPUS...")
@option(
    "--out",
    required=True,
    type=click.Path(),
    heading="Output",
    help="Checkpoint to write: the model with the counts.",
)
@option("--force", heading="Output", is_flag=True, help="Replace a checkpoint that exists.")
@options_of(CountsConfig)
@options_of(CorpusConfig, leave_out=TRAINING_ONLY_FIELDS)
@options_of(MachineConfig, leave_out=("precision",))
@json_option
def count(
    directory: str, corpora: tuple[str, ...], out: str, force: bool, as_json: bool, **options: Any
) -> None:
    """Add the counts of a text to a model.

    The new model mixes n-gram counts of CORPUS into its probabilities when it evaluates, scores,
    compresses or writes. The weight of the counts is fitted on the end of CORPUS, the same share
    that training kept for validation, or a tenth. Counting takes seconds. It helps most where a
    text repeats phrases, as code does, and it adapts a model to a text that it was not trained on.
    The new model contains CORPUS itself: share it only if you would share the text.

    \b
    chargen count checkpoints/mybook mybook.txt --out checkpoints/mybook-counted
    chargen count reviews notes/ --out checkpoints/notes --order 10
    """
    sizes, machine, reading = split_options(options, CountsConfig, MachineConfig, CorpusConfig)
    from chargen.runtime.distributed import refuse_torchrun
    from chargen.storage.outputs import refuse_to_overwrite

    refuse_torchrun("chargen count")
    refuse_to_overwrite(Path(out), force)
    lm = load_model(directory, machine)
    from chargen.lm.counts import HELD_OUT_SYMBOLS
    from chargen.lm.evaluation import bits

    # If training kept no text for validation, the usual share gives the weight.
    trained = lm.trained_reading
    held_out = trained.get("valid_fraction") or reading.valid_fraction
    text = load_corpus_for(
        lm, corpora, replace(reading, valid_fraction=held_out), cuts_document=True
    )
    if trained.get("valid") or trained.get("valid_fraction") == 0:
        say(
            "note: training held out no part of its text. If that text is CORPUS, the bits of the "
            "network are too low, and the counts have too little weight"
        )
    if len(text.train) > sizes.max_characters:
        say(f"only the last {sizes.max_characters:,} characters are counted (--max-characters)")
    counted, gain = lm.count(text.train, text.valid, sizes)
    counted.save(out, force=force)
    figures = {
        "directory": out,
        "characters": lm.vocabulary.count_characters(counted.counts.ids),
        "valid_characters": lm.vocabulary.count_characters(text.valid[:HELD_OUT_SYMBOLS]),
        "order": sizes.order,
        "weight": counted.counts.weight,
        "network_bits_per_char": bits(gain.network_nats),
        "counts_bits_per_char": bits(gain.counts_nats),
        "bits_per_char": bits(gain.nats),
    }
    if as_json:
        echo_json(figures)
        return
    for name, key in (("network", "network_"), ("counts", "counts_"), ("together", "")):
        click.echo(f"{name:10}{figures[key + 'bits_per_char']:.4f} bits per character")
    say(f"the counts have a weight of {figures['weight']:.2f}; saved to {out}")
    if bits(gain.network_nats - gain.nats) < MIN_GAIN_BITS:
        say("the gain is negligible: use the model without the counts")
