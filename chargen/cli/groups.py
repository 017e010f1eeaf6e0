"""Commands and groups whose help has headings.

click prints one list of all options and one of all commands. cloup and rich-click offer headings
among many other features; headings alone are not worth a dependency.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import click
from click.core import ParameterSource

from chargen.errors import did_you_mean
from chargen.options import BUDGETS

HEADINGS = (
    *("Budget", "Prompt", "Drawing", "Steering", "Measure", "Explanation", "Text", "Model"),
    *("Optimisation", "Evaluation", "Picture", "Machine", "Output", "Help"),
)
"""Headings of options, in the order of the help."""

MIN_OPTIONS_FOR_HEADINGS = 8
"""Commands with fewer options than this list them without headings, which would only add lines."""

_FIRST_COLUMN = 30
"""Width in characters beyond which the help of an option begins on its own line, as in click."""


ALTERNATIVES = (
    BUDGETS,
    ("valid", "valid_fraction"),
    ("prompt", "prompt_file"),
    ("steer_data", "steer_with"),
)
"""Options of which one is given, or none."""

_SOURCES = (
    ParameterSource.COMMANDLINE,
    ParameterSource.ENVIRONMENT,
    ParameterSource.DEFAULT_MAP,
)
"""Sources of options, the strongest first."""


class PipeClosed(Exception):
    """The reader of stdout closed the pipe; click would treat a BrokenPipeError as a failure."""


class Option(click.Option):
    """An option with a heading: one of `HEADINGS`, or None in commands with few options."""

    def __init__(self, *args: Any, heading: str | None = None, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.heading = heading
        if self.metavar is None and isinstance(self.type, click.IntRange | click.FloatRange):
            # click would write INTEGER RANGE, although the range itself follows the help.
            self.metavar = "INTEGER" if isinstance(self.type, click.IntRange) else "FLOAT"

    def environment_variable(self, ctx: click.Context) -> str | None:
        """Return the name of the option's environment variable, such as CHARGEN_TRAIN_RESUME.

        It is formed from the option's name; click would use the name of the function's parameter.
        """
        if ctx.auto_envvar_prefix is None:
            return None
        return f"{ctx.auto_envvar_prefix}_{self.opts[-1].lstrip('-').replace('-', '_').upper()}"

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        name = self.environment_variable(ctx)
        return os.environ.get(name) or None if name else None

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """Return the value of the option's environment variable, or None.

        If the option may be given several times, each line is a value; click would split the
        variable at spaces, which names of columns and stop texts may contain.
        """
        value = self.resolve_envvar_value(ctx)
        if value is not None and self.multiple:
            return tuple(value.split("\n"))
        return super().value_from_envvar(ctx)


class Headed(click.Command):
    """A command or group that its parent group lists under `heading`."""

    def __init__(self, *args: Any, heading: str = "Commands", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.heading = heading


class Command(Headed):
    """A command that lists its options under headings."""

    def invoke(self, ctx: click.Context) -> Any:
        for names in ALTERNATIVES:
            _keep_strongest(ctx, names)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = {
            heading: [record for option in options if (record := option.get_help_record(ctx))]
            for heading, options in options_by_heading(self, ctx).items()
        }
        _write_sections(formatter, sections)


def _keep_strongest(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Reset those of the named options over whose source that of another one takes precedence."""
    ranks = {
        option: _SOURCES.index(source)
        for option in ctx.command.params
        if option.name in names and (source := ctx.get_parameter_source(option.name)) in _SOURCES
    }
    for option, rank in ranks.items():
        if rank > min(ranks.values()):
            # Without a default, this is a sentinel in some releases of click.
            default = option.default if isinstance(option.default, float) else None
            ctx.params[option.name or ""] = default


class Group(Headed, click.Group):
    """A group that lists its commands under headings and suggests a name for an unknown one."""

    command_class = Command

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:  # --help and --version write here
            return super().make_context(*args, **extra)
        except BrokenPipeError as error:
            raise PipeClosed from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise PipeClosed from error
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = formatter.width - 6 - max(map(len, self.commands))
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            heading = getattr(command, "heading", "Commands")
            sections.setdefault(heading, []).append((name, command.get_short_help_str(width)))
        _write_sections(formatter, sections)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            message = error.format_message()
            hint = did_you_mean(args[0], self.commands)
            if not hint or "Did you mean" in message:  # later versions of click suggest one
                raise
            raise click.UsageError(message.rstrip(".") + hint, ctx) from error


def contexts(command: click.Command, name: str) -> Iterator[click.Context]:
    """Yield a context for a command and each command below it, to show their help; none is run."""
    waiting = [click.Context(command, info_name=name, **command.context_settings)]
    while waiting:
        ctx = waiting.pop(0)
        yield ctx
        if isinstance(ctx.command, click.Group):
            waiting[:0] = [
                click.Context(inner, parent=ctx, info_name=name, **inner.context_settings)
                for name, inner in ctx.command.commands.items()
            ]


def options_by_heading(command: click.Command, ctx: click.Context) -> dict[str, list[click.Option]]:
    """Return the options that the help shows, by heading, in the order of the headings."""
    options = [
        parameter
        for parameter in command.get_params(ctx)
        if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    if len(options) < MIN_OPTIONS_FOR_HEADINGS:
        return {"Options": options}
    sections: dict[str, list[click.Option]] = {heading: [] for heading in (*HEADINGS, "Options")}
    for option in options:
        # click creates --help itself, without a heading.
        heading = "Help" if "--help" in option.opts else getattr(option, "heading", None)
        sections[heading or "Options"].append(option)
    return {heading: listed for heading, listed in sections.items() if listed}


def _write_sections(
    formatter: click.HelpFormatter, sections: dict[str, list[tuple[str, str]]]
) -> None:
    """Write sections with their second columns aligned."""
    widest = max(len(first) for rows in sections.values() for first, _ in rows)
    width = min(widest, _FIRST_COLUMN)
    for heading, rows in sections.items():
        with formatter.section(heading):
            formatter.write_dl([(first.ljust(width), text) for first, text in rows])
