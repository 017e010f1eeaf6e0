"""`chargen sentiment`, with one file per command."""

from __future__ import annotations

import click

from chargen.cli.groups import Group
from chargen.cli.sentiment.compare import compare
from chargen.cli.sentiment.evaluate import evaluate
from chargen.cli.sentiment.explain import explain
from chargen.cli.sentiment.predict import predict
from chargen.cli.sentiment.train import train


@click.group(cls=Group, heading="Sentiment")
def sentiment() -> None:
    """Train and use classifiers of texts.

    \b
    chargen sentiment predict sentiment "A quiet, wonderful film."
    chargen sentiment train mine.csv --encoder reviews --out checkpoints/mood
    chargen sentiment evaluate checkpoints/mood more.csv
    """


for command in (train, predict, evaluate, explain, compare):
    sentiment.add_command(command)
