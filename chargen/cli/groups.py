"""Groups of commands."""

from __future__ import annotations

import difflib
import sys
from typing import Any

import click


class PipeClosed(Exception):
    """Whoever read our output has enough; click would turn a BrokenPipeError into a failure."""


class Group(click.Group):
    """A group that lists its commands in the order of use and suggests near misses."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise PipeClosed from error
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.commands, 1)
            message = error.format_message()
            if not near or "Did you mean" in message:  # later versions of click ask it themselves
                raise
            message = f"{message} Did you mean {near[0]}?"
            raise click.UsageError(message, ctx) from error
