"""`chargen verify`."""

from __future__ import annotations

import click

from chargen.cli.groups import Command
from chargen.cli.options import json_option, model_argument, option
from chargen.cli.terminal import echo_json, leave_closed_pipe, visible


@click.command(cls=Command, heading="Measure")
@model_argument
@option(
    "--replay",
    heading="Measure",
    type=click.IntRange(min=0),
    default=0,
    metavar="STEPS",
    help="Continue two copies of the run for this many steps: their states must be identical.",
)
@json_option
def verify(directory: str, replay: int, as_json: bool) -> None:
    """Check that a model is complete and works.

    DIR is the checkpoint of a language model or a classifier. The command checks sizes and
    hashes of all files, shapes, that weights are finite, one prediction, and the state of the run.
    It prints a line for each check that passes, and stops at the first that fails, with a message
    and exit code 1. Nothing in DIR is changed.

    \b
    chargen verify checkpoints/mybook
    chargen verify checkpoints/mybook --replay 20
    """
    from chargen.training.reporting import Reporter
    from chargen.verification import verify as verify_checkpoint

    class Lines(Reporter):
        def note(self, text: str) -> None:
            try:
                click.echo(visible(text))
            except BrokenPipeError:  # the checks go on, because the exit code tells their result
                leave_closed_pipe()

    result = verify_checkpoint(directory, replay, reporter=None if as_json else Lines())
    if as_json:
        echo_json({**vars(result), "directory": str(result.directory)})
