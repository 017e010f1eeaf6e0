"""`chargen sentiment train`."""

from __future__ import annotations

import signal
from typing import Any

import click

from chargen.cli.groups import Command
from chargen.cli.options import (
    json_option,
    option,
    options_of,
    quiet_option,
    resume_budget,
    resume_option,
)
from chargen.cli.progress import reporter_for
from chargen.cli.terminal import echo_json, say, visible
from chargen.sentiment.config import ExamplesConfig, FinetuneConfig, NetworkConfig


@click.command(cls=Command)
@click.argument("data", required=False, metavar="DATA")
@option(
    "--encoder",
    heading="Model",
    multiple=True,
    metavar="DIR",
    help="Language model to build on; give a forward and a backward one to read in both "
    "directions.",
)
@option("--out", heading="Output", type=click.Path(), help="Classifier to write.")
@resume_option
@option("--force", heading="Output", is_flag=True, help="Replace a checkpoint that exists.")
@option(
    "--tensorboard",
    heading="Output",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Folder for event files of TensorBoard.",
)
@options_of(FinetuneConfig)
@options_of(NetworkConfig)
@options_of(ExamplesConfig)
@json_option
@quiet_option
def train(
    data: str | None,
    encoder: tuple[str, ...],
    out: str | None,
    resumed: str | None,
    force: bool,
    tensorboard: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Train a classifier of texts on a language model.

    DATA is a table with a text and a label column (.csv, .tsv, .jsonl, .json, also compressed),
    or a folder with one sub-folder of .txt files for each class. There may be two or more classes,
    with any names.

    \b
    chargen sentiment train mine.csv --encoder reviews --out checkpoints/mood
    chargen sentiment train mine.csv --encoder reviews --out first --method probe
    chargen sentiment train mine.csv --encoder reviews --out checkpoints/mood \\
        --unlabelled more.txt --adapt 10 --minutes 5
    chargen sentiment train --resume checkpoints/mood
    """
    if resumed is not None:
        budget = resume_budget(click.get_current_context())
    elif data is None:
        raise click.UsageError("DATA is missing: give labelled texts, or --resume DIR")
    elif not encoder:
        raise click.UsageError("--encoder is missing: give the folder of a language model")
    elif out is None:
        raise click.UsageError("--out is missing: give a folder for the classifier")
    reporter = reporter_for(quiet)
    from chargen.sentiment import finetune as runs

    if resumed is not None:
        run = runs.resume_finetune(resumed, reporter=reporter, tensorboard=tensorboard, **budget)
    else:
        run = runs.finetune(
            str(data),
            encoder,
            str(out),
            force=force,
            reporter=reporter,
            tensorboard=tensorboard,
            **options,
        )
    _report_result(run, as_json, quiet)
    return 0 if run.finished else 128 + signal.SIGINT


def _report_result(run: Any, as_json: bool, quiet: bool) -> None:
    if as_json:
        figures = {
            "directory": str(run.directory),
            "labels": list(run.classifier.labels),
            "labels_used": run.labels_used,
            "steps": run.steps,
            "seconds": run.seconds,
            "valid": run.valid,
            "finished": run.finished,
        }
        echo_json(figures)
    elif run.finished:
        if run.valid:
            click.echo(
                f"validation: accuracy {run.valid['accuracy']:.4f}, macro-F1 "
                f"{run.valid['macro_f1']:.4f}, log loss {run.valid['log_loss']:.4f}; "
                f"{run.labels_used:,} labelled texts, {run.seconds:.0f} s"
            )
        click.echo(visible(f"saved to {run.directory}"))
    if not run.finished:
        say(
            f"stopped at step {run.steps}; continue with: chargen sentiment train --resume "
            f"{run.directory}"
        )
    elif not quiet and not as_json:
        say(f"to use it: chargen sentiment predict {run.directory} 'some text'")
