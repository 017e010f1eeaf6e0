"""`chargen sentiment compare`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from chargen.cli.groups import Command
from chargen.cli.options import json_option, option, options_of, quiet_option
from chargen.cli.progress import reporter_for
from chargen.cli.sentiment.verdicts import aligned
from chargen.cli.terminal import echo_json, visible
from chargen.options import split_options
from chargen.sentiment.config import CompareConfig, ExamplesConfig


@click.command(cls=Command)
@click.argument("train", metavar="TRAIN")
@option(
    "--test",
    heading="Text",
    required=True,
    metavar="DATA",
    help="Labelled texts for the test; no system learns from them.",
)
@options_of(CompareConfig)
@options_of(ExamplesConfig)
@json_option
@quiet_option
def compare(train: str, test: str, as_json: bool, quiet: bool, **options: Any) -> None:
    """Compare chargen's classifiers with TF-IDF.

    TRAIN and --test are labelled texts as for `chargen sentiment train`. All systems get the same
    labels; chargen's classifiers, except the probe, keep some of them for validation.

    \b
    tfidf        words and pairs of words, TF-IDF, logistic regression
    tfidf-chars  the same with runs of 2 to 5 characters
    probe        logistic regression on the states of the language model
    finetuned    the language model, fine-tuned
    scratch      the same network from random weights; only if --models names it

    \b
    chargen sentiment compare train.csv --test test.csv --labels 500
    chargen sentiment compare train.csv --test test.csv --encoder reviews
    chargen sentiment compare train.csv --test test.csv --encoder reviews \\
        --models tfidf,scratch,finetuned --minutes 5
    """
    config, reading = split_options(options, CompareConfig, ExamplesConfig)
    reporter = reporter_for(quiet)
    from chargen.sentiment import compare as comparison
    from chargen.sentiment.examples import read_examples
    from chargen.sentiment.metrics import missing_classes_warning
    from chargen.sentiment.splitting import shared_texts_warning

    train_set = read_examples(train, reading)
    test_set = read_examples(test, reading, train_set.classes)
    for note in (*train_set.notes, *test_set.notes):
        reporter.note(note)
    for warning in (
        shared_texts_warning(train_set, test_set),
        missing_classes_warning(test_set.source, test_set.classes, train_set.classes),
    ):
        if warning:
            reporter.note(warning)
    rows = comparison.compare(train_set, test_set, config, reporter, reading)
    if as_json:
        figures = {
            "train": train_set.source,
            "test": test_set.source,
            "texts": len(test_set),
            "classes": list(train_set.classes),
            "seed": config.seed,
            "rows": [asdict(row) for row in rows],
        }
        echo_json(figures)
    else:
        click.echo(visible(aligned([_HEADINGS, *map(_cells, rows)])))


_HEADINGS = ("model", "accuracy", "macro-F1", "labels", "parameters", "train s", "texts/s")


def _cells(row: Any) -> tuple[str, ...]:
    return (
        row.model,
        f"{row.accuracy:.4f}",
        f"{row.macro_f1:.4f}",
        "-" if row.labels is None else f"{row.labels:,}",
        f"{row.parameters:,}",
        "-" if row.train_seconds is None else f"{row.train_seconds:,.1f}",
        f"{row.texts_per_second:,.0f}",
    )
