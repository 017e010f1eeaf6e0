"""`chargen plot`."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import click
from click.core import ParameterSource

from chargen.cli.groups import Command
from chargen.cli.options import check_files, json_option, option, quiet_option
from chargen.cli.terminal import colour_by_default, echo_json, say
from chargen.errors import ConfigError

AXES = ("characters", "seconds", "steps", "epochs")


@click.command(cls=Command, heading="Measure")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path())
@option(
    "--out",
    heading="Output",
    default="curves.png",
    metavar="FILE",
    help="Picture to write: .png, .svg or .pdf.",
)
@option("--force", heading="Output", is_flag=True, help="Replace a picture that exists.")
@option("--terminal", heading="Output", is_flag=True, help="Draw the loss in the terminal instead.")
@option(
    "--x",
    "axis",
    heading="Picture",
    type=click.Choice(AXES),
    default="characters",
    help="Quantity on the horizontal axis.",
)
@option(
    "--nats",
    heading="Picture",
    is_flag=True,
    help="Show the loss in nats instead of bits.",
)
@option(
    "--smooth",
    heading="Picture",
    type=click.FloatRange(0, 1, max_open=True),
    help="Smoothing of the training loss (default: chosen by the length of the run).",
)
@option("--title", heading="Picture", help="Title of the picture.")
@json_option
@quiet_option
def plot(
    runs: tuple[str, ...],
    out: str,
    force: bool,
    terminal: bool,
    title: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Draw the curves of runs: loss, learning rate, gradients.

    RUN is the checkpoint folder of a language model or a classifier; the run may be unfinished.
    Several runs share one picture, which also shows where gradients were clipped. Needs the extra
    chargen[plot].

    \b
    chargen plot checkpoints/mybook
    chargen plot checkpoints/small checkpoints/large --x seconds --out compare.svg
    chargen plot checkpoints/mybook --terminal
    """
    if terminal and as_json:
        raise ConfigError("--terminal and --json exclude each other: leave one of them out")
    source_of = click.get_current_context().get_parameter_source
    for name in ("out", "title"):
        if terminal and source_of(name) is ParameterSource.COMMANDLINE:
            raise ConfigError(f"--terminal writes no picture: leave --{name} out")
    from chargen.plotting.style import image_format

    form = image_format(out)
    if not terminal:
        if not form:
            raise click.BadParameter("name a .png, .svg or .pdf file", param_hint="--out")
        check_files({"--out": out}, force, picture_options=("--out",))
    from chargen.plotting import curves

    run_curves = [curves.read(run) for run in runs]
    if len({run.name for run in run_curves}) < len(run_curves):  # folders of one name
        run_curves = [replace(curve, name=run) for curve, run in zip(run_curves, runs, strict=True)]
    if terminal:
        from chargen.plotting.terminal import terminal_plot

        width = shutil.get_terminal_size((80, 24)).columns
        click.echo(terminal_plot(run_curves, width=width, colour=colour_by_default(), **options))
        return
    from chargen.plotting.figure import picture
    from chargen.storage.whole_files import write_file

    write_file(out, picture(run_curves, form, title=title, **options))
    if as_json:
        echo_json({"file": out, "runs": [_facts(run) for run in run_curves]})
    elif not quiet:
        say(f"wrote {out}")


def _facts(run: Any) -> dict[str, Any]:
    """Return the name, steps and best validation loss of a run as a JSON object."""
    return {
        "name": run.name,
        "steps": int(run.last_step),
        "best_valid_nats": min(run.valid.tolist(), default=None),
    }
