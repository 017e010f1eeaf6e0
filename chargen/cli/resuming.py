"""What `--resume` allows beside it."""

from __future__ import annotations

from typing import Any

import click

from ..errors import ConfigError
from ..options import BUDGETS


def resume_budget(context: click.Context) -> dict[str, Any]:
    """The new budget, where one is given; every other option but those of the output is refused.

    Raises
    ------
    ConfigError
    """
    allowed = {"resumed", "as_json", "quiet", "tensorboard", *BUDGETS}
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in allowed and source == click.core.ParameterSource.COMMANDLINE:
            argument = (parameter.metavar or name).rstrip(".")
            given = parameter.opts[0] if isinstance(parameter, click.Option) else argument
            raise ConfigError(f"--resume goes on with the saved options: leave {given} out")
    budget = {name: context.params.get(name) for name in BUDGETS}
    return {name: value for name, value in budget.items() if value is not None}
