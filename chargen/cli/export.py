"""`chargen export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chargen.cli.groups import Command
from chargen.cli.options import (
    MachineConfig,
    check_files,
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
    type=click.Choice(["onnx", "html"]),
    default="onnx",
    help="An ONNX folder for other programs, or a page that writes in a browser.",
)
@option(
    "--output",
    "--out",
    "out",
    type=click.Path(),
    help="Folder or page to write (default: the name of DIR with -onnx or .html).",
)
@option("--force", is_flag=True, help="Replace an earlier export.")
@option(
    "--check/--no-check",
    default=True,
    help="Compare the ONNX graphs with the model in onnxruntime.",
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
    """Export a language model as ONNX or as an HTML page.

    The ONNX folder contains step.onnx (one character after another, for writing), score.onnx
    (complete texts) and model.json (inputs, outputs, and the character of each id). The HTML page
    is one file that contains the model and writes in any browser, without a network.

    \b
    chargen export checkpoints/mybook
    chargen export checkpoints/mybook --out web/model --force
    chargen export checkpoints/mybook --format html --output mybook.html
    """
    from chargen.interchange import export as exporting

    target = out or exporting.default_out(directory, kind)
    if kind == "html":
        check_files({"--output": target}, force)
    lm = load_model(directory, MachineConfig(device="cpu"))
    if kind == "html":
        from chargen.interchange.model_page import model_page
        from chargen.storage.whole_files import write_file

        data = model_page(lm, Path(target).stem).encode()
        write_file(target, data)
        facts: dict[str, Any] = {"file": target, "bytes": len(data)}
    else:
        facts = _write_onnx(lm, target, force, check)
    difference = facts.get("largest_difference_nats")
    if as_json:
        echo_json({"format": kind, **facts})
        return
    click.echo(visible(target))
    if difference is not None and not quiet:
        say(f"onnxruntime gives the same probabilities to within {difference:.1g} nats")


def _write_onnx(lm: Any, folder: str, force: bool, check: bool) -> dict[str, Any]:
    from chargen.interchange import export as exporting

    exporting.export_onnx(lm, folder, force=force)
    difference = None
    if check:
        text = "It is read from its end to its beginning. " * 10
        if lm.can_write:
            text = lm.generate(max_chars=500, seed=0) or "a"
        difference = exporting.check(folder, lm, text)
    return {
        "directory": folder,
        "files": {name: (Path(folder) / name).stat().st_size for name in exporting.FILES},
        "largest_difference_nats": difference,
    }
