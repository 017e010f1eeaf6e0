"""Commands and groups whose help stands under headings.

click writes all options and all commands into one list each. cloup and rich-click have headings
among much else; these alone are not worth a dependency.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from chargen.errors import did_you_mean

HEADINGS = (
    *("Budget", "Prompt", "Drawing", "Steering", "Measure", "Explanation", "Text", "Model"),
    *("Optimisation", "Evaluation", "Picture", "Machine", "Output", "Help"),
)
"""Headings of options, in the order in which they stand."""

FEW = 8
"""Options below this number are one list: headings would be longer than what they head."""

_FIRST_COLUMN = 30
"""Letters of an option beyond which its help begins on a line of its own, as click has it."""


class PipeClosed(Exception):
    """Whoever read our output has enough; click would turn a BrokenPipeError into a failure."""


class Option(click.Option):
    """An option that knows its heading: one of `HEADINGS`, or None in commands with few options."""

    def __init__(self, *args: Any, heading: str | None = None, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.heading = heading
        if self.metavar is None and isinstance(self.type, click.IntRange | click.FloatRange):
            # click would write INTEGER RANGE, and the range after the help.
            self.metavar = "INTEGER" if isinstance(self.type, click.IntRange) else "FLOAT"

    def variable(self, ctx: click.Context) -> str | None:
        """The variable that gives its value, by the name that users know: CHARGEN_TRAIN_RESUME.

        click would take the name of the function's parameter.
        """
        if ctx.auto_envvar_prefix is None:
            return None
        return f"{ctx.auto_envvar_prefix}_{self.opts[-1].lstrip('-').replace('-', '_').upper()}"

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        name = self.variable(ctx)
        return os.environ.get(name) or None if name else None


class Headed(click.Command):
    """A command or a group; the group above lists it under its `heading`."""

    def __init__(self, *args: Any, heading: str = "Commands", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.heading = heading


class Command(Headed):
    """A command that lists its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = {
            heading: [record for option in options if (record := option.get_help_record(ctx))]
            for heading, options in options_by_heading(self, ctx).items()
        }
        _write(formatter, sections)


class Group(Headed, click.Group):
    """A group that lists its commands under headings and suggests near misses."""

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
        _write(formatter, sections)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            message = error.format_message()
            hint = did_you_mean(args[0], self.commands)
            if not hint or "Did you mean" in message:  # later versions of click ask it themselves
                raise
            raise click.UsageError(message.rstrip(".") + hint, ctx) from error


def contexts(command: click.Command, name: str) -> Iterator[click.Context]:
    """A context for a command and for all below it, to ask for their help; nothing is run."""
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
    """The options that the help shows, by heading, in the order of the headings."""
    options = [
        parameter
        for parameter in command.get_params(ctx)
        if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    if len(options) < FEW:
        return {"Options": options}
    sections: dict[str, list[click.Option]] = {heading: [] for heading in (*HEADINGS, "Options")}
    for option in options:
        # click makes --help itself.
        heading = "Help" if "--help" in option.opts else getattr(option, "heading", None)
        sections[heading or "Options"].append(option)
    return {heading: found for heading, found in sections.items() if found}


def _write(formatter: click.HelpFormatter, sections: dict[str, list[tuple[str, str]]]) -> None:
    """Write sections whose second columns begin at the same place."""
    widest = max(len(first) for rows in sections.values() for first, _ in rows)
    width = min(widest, _FIRST_COLUMN)
    for heading, rows in sections.items():
        with formatter.section(heading):
            formatter.write_dl([(first.ljust(width), text) for first, text in rows])
