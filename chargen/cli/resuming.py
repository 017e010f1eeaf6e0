"""What `--resume` allows beside it."""

from __future__ import annotations

import click

from ..errors import ConfigError


def refuse_other_options(context: click.Context) -> None:
    """A run goes on as it began: refuse every option but those of the output.

    Raises
    ------
    ConfigError
    """
    allowed = {"resumed", "as_json", "quiet"}
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in allowed and source == click.core.ParameterSource.COMMANDLINE:
            argument = (parameter.metavar or name).rstrip(".")
            given = parameter.opts[0] if isinstance(parameter, click.Option) else argument
            raise ConfigError(f"--resume goes on with the saved options: leave {given} out")
