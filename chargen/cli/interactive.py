"""Writing together with a model: it proposes, the writer accepts, draws again or edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chargen.cli.terminal import visible
from chargen.sampling.config import SamplingConfig

HELP = "[Enter] accept   r draw again   e edit   t type   u undo   w FILE save   q end"


def write_together(lm: Any, prompt: str, config: SamplingConfig) -> None:
    """Ask in turns until the writer ends; the whole text goes to stdout then.

    Parameters
    ----------
    prompt : str
        What is there already.
    config : SamplingConfig
        With a seed; each new proposal takes the next one.
    """
    text = prompt
    earlier: list[str] = []
    seed = config.seed or 0
    click.echo(HELP, err=True)
    proposal = _propose(lm, text, config, seed)
    while True:
        _show(text, proposal)
        try:
            answer = click.prompt(
                ">", default="", show_default=False, prompt_suffix=" ", err=True
            ).strip()
        except click.Abort:
            answer = "q"
        command, _, argument = answer.partition(" ")
        if command == "q":
            break
        if command == "w":
            _save(argument, text)
            continue
        if command not in ("", "r", "e", "t", "u"):
            click.echo(HELP, err=True)
            continue
        if command == "u":
            text = earlier.pop() if earlier else text
        elif command != "r":
            earlier.append(text)
            text += _addition(command, proposal)
        seed += 1
        proposal = _propose(lm, text, config, seed)
    click.echo(visible(text))


def _propose(lm: Any, text: str, config: SamplingConfig, seed: int) -> str:
    proposal: str = lm.generate(text, config=config, seed=seed)
    return proposal


def _addition(command: str, proposal: str) -> str:
    """What joins the text: the proposal, the proposal as edited, or what the writer types."""
    if command == "":
        return proposal
    if command == "e":
        edited = click.edit(proposal)
        return proposal if edited is None else edited.removesuffix("\n")
    typed: str = click.prompt("text", default="", show_default=False, err=True)
    return typed.replace("\\n", "\n")


def _save(path: str, text: str) -> None:
    if not path:
        click.echo("w needs the name of a file", err=True)
        return
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        click.echo(f"cannot write {path}: {error.strerror}", err=True)
    else:
        click.echo(f"saved to {path}", err=True)


def _show(text: str, proposal: str) -> None:
    tail = visible(text[-400:])
    click.echo(tail + click.style(visible(proposal), fg="cyan"), err=True)
