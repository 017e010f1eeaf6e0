"""`chargen sentiment`: one file a command."""

from __future__ import annotations

import click

from ..groups import Group
from .compare import compare
from .evaluate import evaluate
from .explain import explain
from .predict import predict
from .train import train


@click.group(cls=Group, heading="Sentiment")
def sentiment() -> None:
    """Classify texts with what a language model has learnt.

    \b
    chargen sentiment predict sentiment "A quiet, wonderful film."
    chargen sentiment train mine.csv --encoder reviews --out checkpoints/mood
    chargen sentiment evaluate checkpoints/mood more.csv
    """


for command in (train, predict, evaluate, explain, compare):
    sentiment.add_command(command)
