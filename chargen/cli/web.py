"""`chargen web`."""

from __future__ import annotations

import click

from chargen.cli.groups import Command
from chargen.cli.options import option, quiet_option
from chargen.cli.terminal import say, visible


@click.command(cls=Command, heading="Train and write")
@click.argument("folder", default="checkpoints", metavar="[FOLDER]", type=click.Path())
@option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port to serve at (default: a free one from 7860 on).",
)
@option("--open", "opening", is_flag=True, help="Open the page in the browser.")
@quiet_option
def web(folder: str, port: int | None, opening: bool, quiet: bool) -> None:
    """Write, classify and train on a page in the browser.

    The page offers the checkpoints in FOLDER [checkpoints] and those of the package; new models go
    to FOLDER. Only this machine can open it. Ctrl-C ends the server and saves a run that is being
    trained. The page starts with seed 0. Needs the extra chargen[web].

    \b
    chargen web
    chargen web drafts/models --port 8000 --open
    """
    from chargen.web.server import serve

    def ready(address: str) -> None:
        click.echo(visible(address))
        if not quiet:
            say("the page is ready; Ctrl-C ends it")
        if opening:
            click.launch(address)

    serve(folder, port, ready)
