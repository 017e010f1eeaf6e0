"""`chargen push` and `chargen pull`."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from chargen.cli.groups import Command
from chargen.cli.options import json_option, model_argument, option, quiet_option
from chargen.cli.terminal import echo_json, say, visible


@click.command(cls=Command, heading="Share")
@model_argument
@click.argument("repo", metavar="USER/NAME")
@option("--public", heading="Output", is_flag=True, help="Make a new repository public.")
@option(
    "--training", heading="Output", is_flag=True, help="Also send the state that --resume needs."
)
@option("--message", heading="Output", help="Commit message.")
@option(
    "--license",
    heading="Output",
    metavar="ID",
    help="Licence for the model's card, as the hub spells it (such as mit).",
)
@option(
    "--language",
    heading="Output",
    metavar="CODE",
    help="Language for the model's card (such as en).",
)
@json_option
@quiet_option
def push(directory: str, repo: str, as_json: bool, quiet: bool, **options: Any) -> None:
    """Send a checkpoint to the Hugging Face Hub.

    If the repository USER/NAME does not exist, it is created; it is private unless --public is
    given. The folder's README.md or MODEL_CARD.md is sent too, with a header for the hub: task,
    figures, data. A model made by chargen count includes the text that was counted.
    Log in first with hf auth login, or set HF_TOKEN. Needs the extra chargen[hub].

    \b
    chargen push checkpoints/mybook anna/mybook
    chargen push checkpoints/mybook anna/mybook --public
    """
    from chargen.interchange import hub

    pushed = hub.push(directory, repo, **options)
    if as_json:
        echo_json(dataclasses.asdict(pushed))
        return
    click.echo(visible(pushed.url))
    if not quiet:
        say(
            f"{len(pushed.files)} files, {pushed.bytes / 1e6:.1f} MB, commit {pushed.revision[:10]}"
        )
        if "counts.safetensors" in pushed.files:
            say("counts.safetensors contains the text that was given to chargen count")


@click.command(cls=Command, heading="Share")
@click.argument("repo", metavar="USER/NAME")
@option("--out", type=click.Path(), help="Checkpoint to write (default: checkpoints/NAME).")
@option("--revision", help="Branch, tag or commit.")
@option("--training", is_flag=True, help="Also fetch the state that --resume needs.")
@option("--force", is_flag=True, help="Replace a checkpoint that exists.")
@json_option
@quiet_option
def pull(repo: str, as_json: bool, quiet: bool, **options: Any) -> None:
    """Fetch a checkpoint from the Hugging Face Hub.

    Only the files of a checkpoint and its card are fetched. Sizes, hashes and contents are checked
    before anything is written. Needs the extra chargen[hub].

    \b
    chargen pull anna/mybook
    chargen pull anna/mybook --revision v2 --out checkpoints/mybook-2
    """
    from chargen.interchange import hub

    directory = hub.pull(repo, **options)
    if as_json:
        echo_json({"directory": str(directory), "repo": repo})
        return
    click.echo(visible(str(directory)))
    if not quiet:
        say(f"to describe it: chargen info {directory}")
