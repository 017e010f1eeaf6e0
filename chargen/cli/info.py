"""`chargen info`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..shipped import resolve
from .groups import Command
from .options import json_option, load_model, model_argument
from .terminal import echo_json, visible


@click.command(cls=Command, heading="Measure")
@model_argument
@json_option
def info(directory: str, as_json: bool) -> None:
    """What a language model is: configuration, sizes, figures.

    \b
    chargen info checkpoints/mybook
    chargen info checkpoints/mybook --json
    """
    lm = load_model(directory, "cpu")
    config: dict[str, Any] = lm.checkpoint.document("config")
    vocabulary = lm.vocabulary
    facts: dict[str, Any] = {
        "directory": directory,
        "kind": lm.checkpoint.kind,
        "parameters": lm.model.num_parameters(),
        "bytes": sum(p.stat().st_size for p in resolve(Path(directory)).rglob("*") if p.is_file()),
        "vocabulary": {"level": vocabulary.level, "size": vocabulary.size},
        **config,
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


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items() if v is not None)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
