"""What `--resume` allows beside it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click
from click.core import ParameterSource

from chargen.errors import ConfigError
from chargen.options import BUDGETS


def resume_budget(context: click.Context, also: Collection[str] = ()) -> dict[str, Any]:
    """The new budget, where one is given; every other option is refused but those of the output
    and those named in `also`.

    Raises `ConfigError`.
    """
    allowed = {"resumed", "as_json", "quiet", "tensorboard", *also, *BUDGETS}
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        # click 8.1 takes a CORPUS that is not there as given on the command line.
        there = context.params.get(name) != ()
        if name not in allowed and there and source is ParameterSource.COMMANDLINE:
            argument = (parameter.metavar or name).rstrip(".")
            given = parameter.opts[0] if isinstance(parameter, click.Option) else argument
            raise ConfigError(f"--resume goes on with the saved options: leave {given} out")
    # A budget in a file or a variable is for runs that begin: a run that goes on keeps its own.
    source_of = context.get_parameter_source
    names = [name for name in BUDGETS if source_of(name) is ParameterSource.COMMANDLINE]
    return {name: context.params[name] for name in names}
