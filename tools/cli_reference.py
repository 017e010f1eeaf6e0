"""Write docs/cli.md, the reference of the command line, from the commands themselves.

python tools/cli_reference.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from chargen.cli.groups import Option, contexts, options_by_heading
from chargen.cli.main import cli

PLACE = Path(__file__).parents[1] / "docs" / "cli.md"

HEAD = """\
# Command line

Made from the commands' own help by `python tools/cli_reference.py`; to change it, change them.

Every command has `--help`. An option stands on the command line, in a variable, or in the file of
`--config`, a TOML table for each command; the first of these that has it wins. In a file it goes by
its name without dashes. An option that may be given several times is a list in a file, and has a
value per line in a variable.

```toml
[train]
minutes = 30

[sentiment.train]
encoder = ["reviews"]
```
"""


def reference() -> str:
    """Return the contents of the file."""
    return "\n".join([HEAD, *(line for ctx in contexts(cli, "chargen") for line in _command(ctx))])


def _command(ctx: click.Context) -> Iterator[str]:
    usage = [ctx.command_path, *ctx.command.collect_usage_pieces(ctx)]
    yield from (f"## {ctx.command_path}", "", "```text", " ".join(usage), "```", "")
    for block in inspect.cleandoc(ctx.command.help or "").split("\n\n"):
        yield from (_block(block), "")
    if isinstance(ctx.command, click.Group):
        for name, command in ctx.command.commands.items():
            path = f"{ctx.command_path} {name}"
            summary = _markdown(command.get_short_help_str(1000))
            yield f"- [`{path}`](#{path.replace(' ', '-')}): {summary}"
        yield ""
    for heading, options in options_by_heading(ctx.command, ctx).items():
        rows = [_row(option, ctx) for option in options if "--help" not in option.opts]
        if rows:
            yield f"| {heading} | | Default; range | Variable |"
            yield from ("|---|---|---|---|", *rows, "")


def _block(text: str) -> str:
    """Return a paragraph as Markdown, or verbatim lines as a code block."""
    if not text.startswith("\b"):
        return _markdown(" ".join(text.split("\n")))
    lines = text.split("\n")[1:]
    language = "sh" if all(re.search(r"\bchargen |^  ", line) for line in lines) else "text"
    # Text after a command and at least two spaces is a remark.
    if language == "sh":
        lines = [re.sub(r"(\S)(  +)(?=\S)", r"\1\2# ", line) for line in lines]
    return "\n".join([f"```{language}", *lines, "```"])


def _row(option: click.Option, ctx: click.Context) -> str:
    name, text = option.get_help_record(ctx) or ("", "")
    help_text = option.help or ""
    extra = text.removeprefix(help_text).strip().strip("[]").replace("default: ", "")
    variable = option.environment_variable(ctx) if isinstance(option, Option) else None
    cells = (
        f"`{_cell(name)}`",
        _cell(_markdown(help_text)),
        f"`{_cell(extra)}`" if extra else "",
        f"`{variable}`" if variable else "",
    )
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _markdown(text: str) -> str:
    """Return text as Markdown: options and quoted words as code, everything else escaped."""
    parts = re.split(r"(`[^`]+`|(?<![\w-])--[a-z][\w-]*|'[^' ]+'|CHARGEN_\w+|chargen\[\w+\])", text)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"([*_<>\[\]])", r"\\\1", parts[i])
    for i in range(1, len(parts), 2):
        parts[i] = "`" + parts[i].strip("`'") + "`"
    return "".join(parts)


if __name__ == "__main__":
    PLACE.write_text(reference(), encoding="utf-8")
