"""`chargen export`."""

from __future__ import annotations

from pathlib import Path

import click

from chargen.cli.groups import Command
from chargen.cli.options import (
    MachineConfig,
    json_option,
    load_model,
    model_argument,
    option,
    quiet_option,
)
from chargen.cli.terminal import echo_json, say, visible


@click.command(cls=Command, heading="Share")
@model_argument
@option(
    "--format",
    "kind",
    type=click.Choice(["onnx"]),
    default="onnx",
    help="Format of the copy.",
)
@option("--out", type=click.Path(), help="Folder to write (default: the name of DIR and -onnx).")
@option("--force", is_flag=True, help="Replace an earlier export.")
@option(
    "--check/--no-check",
    default=True,
    help="Compare the copy with the model, by onnxruntime.",
)
@json_option
@quiet_option
def export(
    directory: str,
    kind: str,
    out: str | None,
    force: bool,
    check: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a language model for other programs, as ONNX.

    The folder gets step.onnx (one character after the other, for writing), score.onnx (whole
    texts) and model.json, which says what goes in and out and which character each number is.

    \b
    chargen export checkpoints/mybook
    chargen export checkpoints/mybook --out web/model --force
    """
    from chargen.interchange import export as exporting

    lm = load_model(directory, MachineConfig(device="cpu"))
    folder = out or exporting.default_out(directory)
    exporting.export_onnx(lm, folder, force=force)
    difference = None
    if check:
        if lm.can_write:
            text = lm.generate(max_chars=500, seed=0) or "a"
        else:
            text = "It is read from its end to its beginning. " * 10
        difference = exporting.check(folder, lm, text)
    if as_json:
        facts = {
            "directory": folder,
            "format": kind,
            "files": {path.name: path.stat().st_size for path in sorted(Path(folder).iterdir())},
            "largest_difference_nats": difference,
        }
        echo_json(facts)
        return
    click.echo(visible(folder))
    if difference is not None and not quiet:
        say(f"onnxruntime gives the same probabilities, to {difference:.1g} nats")
