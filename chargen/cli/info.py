"""`chargen info`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chargen.cli.groups import Command
from chargen.cli.options import (
    MachineConfig,
    json_option,
    load_classifier,
    load_model,
    model_argument,
)
from chargen.cli.terminal import echo_json, visible
from chargen.storage.shipped import resolve


@click.command(cls=Command, heading="Measure")
@model_argument
@json_option
def info(directory: str, as_json: bool) -> None:
    """Show the configuration, sizes and figures of a model.

    DIR is the checkpoint of a language model or a classifier.

    \b
    chargen info checkpoints/mybook
    chargen info checkpoints/mybook --json
    """
    from chargen.sentiment.storage import KIND as CLASSIFIER
    from chargen.storage import checkpoint

    if checkpoint.load(directory).kind == CLASSIFIER:
        model = load_classifier(directory, MachineConfig(device="cpu"))
        parameters = model.parameters
        vocabulary = model.network.vocabularies[0] if model.network else None
    else:
        model = load_model(directory, MachineConfig(device="cpu"))
        parameters = sum(parameter.numel() for parameter in model.model.parameters())
        vocabulary = model.vocabulary
    facts: dict[str, Any] = {
        "directory": directory,
        "kind": model.checkpoint.kind,
        "parameters": parameters,
        "bytes": sum(p.stat().st_size for p in resolve(Path(directory)).rglob("*") if p.is_file()),
        **({"vocabulary": _symbols(vocabulary)} if vocabulary else {}),
        **model.checkpoint.document("config"),
    }
    if as_json:
        echo_json(facts)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            click.echo(f"{visible(name)}:")
            for key, inner in value.items():
                click.echo(visible(f"  {key:22} {_plain(inner)}"))
        else:
            click.echo(visible(f"{name:24} {_plain(value)}"))


def _symbols(vocabulary: Any) -> dict[str, Any]:
    labels = {"labels": list(vocabulary.labels)} if vocabulary.labels else {}
    return {"level": vocabulary.level, "size": vocabulary.size, **labels}


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items() if v is not None)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
