"""What the help of every command says, and that its examples and the documents' can be typed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from chargen.cli.groups import HEADINGS, Group, contexts, options_by_heading
from chargen.cli.main import cli

from .conftest import Command

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("README.md")),
]
CONTEXTS = list(contexts(cli, "chargen"))
IDS = [ctx.command_path for ctx in CONTEXTS]

every_command = pytest.mark.parametrize("ctx", CONTEXTS, ids=IDS)


def examples(command: click.Command) -> list[str]:
    r"""Command lines of the \b blocks; a remark stands two spaces behind one."""
    text = (command.help or "").replace("\\\n", "")
    blocks = [part for part in text.split("\n\n") if part.lstrip().startswith("\b")]
    lines = [re.split(r"\s{2,}", line.strip())[0] for block in blocks for line in block.split("\n")]
    return [line for line in lines if re.search(r"(^|[|;&] )chargen ", line)]


def invocations(shell: str) -> Iterator[list[str]]:
    """The arguments of each `chargen` in lines of a shell."""
    for line in shell.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
        lexer.commenters = "#"
        lexer.whitespace_split = True
        words = list(lexer)
        for i, word in enumerate(words):
            if word == "chargen" or word.endswith("/chargen"):
                end = next(
                    (j for j, w in enumerate(words[i:], i) if set(w) <= set("|;&<>")), len(words)
                )
                yield words[i + 1 : end]


def blocks_of(document: Path) -> str:
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", document.read_text("utf-8"), re.M | re.S))


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """Read a command line as the real one is read, up to the point where the command would run."""
    ran: list[str] = []
    for ctx in CONTEXTS:
        name = ctx.command_path

        def note(_name: str = name, **_values: Any) -> None:
            ran.append(_name)

        monkeypatch.setattr(ctx.command, "callback", note)

    def read(arguments: list[str]) -> None:
        ran.clear()
        result = CliRunner().invoke(cli, arguments, prog_name="chargen")
        assert result.exit_code == 0, result.output
        assert len(ran) >= 2, f"{arguments} names no command"

    return read


def test_a_mistake_in_an_example_would_be_found(parse: Callable[[list[str]], None]) -> None:
    parse(["train", "mybook.txt", "--minutes", "10"])
    for wrong in (["trian"], ["train", "--minuts", "1"], ["sample"], ["info", "a", "b"]):
        with pytest.raises(AssertionError):
            parse(wrong)


@every_command
def test_options_have_a_help_and_show_their_default(ctx: click.Context) -> None:
    for option in ctx.command.get_params(ctx):
        if not isinstance(option, click.Option):
            continue
        record = option.get_help_record(ctx)
        assert record is not None
        assert option.help, f"{option.opts[0]} has no help"
        value = option.to_info_dict()["default"]
        if value is True and option.secondary_opts:
            value = option.opts[0].removeprefix("--")
        if value not in (None, False, ()):
            assert f"default: {value}" in record[1], f"{option.opts[0]} does not show its default"


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("corpus", "clean", "--older-than"),
        ("train", "essays", "--from", "reviews", "--replay", "tales", "--replay-share"),
    ],
)
def test_numbers_are_finite(chargen: Command, arguments: tuple[str, ...], number: str) -> None:
    result = chargen(*arguments, number)
    assert result.code == 2
    assert arguments[-1] in result.err
    assert number in result.err


@every_command
def test_examples(ctx: click.Context, parse: Callable[[list[str]], None]) -> None:
    found = examples(ctx.command)
    assert any(re.search(rf"\b{ctx.command_path}\b", line) for line in found), "no example"
    for line in found:
        (arguments,) = invocations(line)
        parse(arguments)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_documents(document: Path, parse: Callable[[list[str]], None]) -> None:
    for arguments in invocations(blocks_of(document)):
        parse(arguments)


def test_documents_have_commands() -> None:
    assert sum(1 for path in DOCUMENTS for _ in invocations(blocks_of(path))) > 40


@every_command
def test_headings(ctx: click.Context) -> None:
    headings = list(options_by_heading(ctx.command, ctx))
    assert headings == ["Options"] or headings == [h for h in HEADINGS if h in headings]
    text = ctx.command.get_help(ctx)
    if not isinstance(ctx.command, click.Group):
        assert [line[:-1] for line in text.splitlines() if line[:-1] in headings] == headings


def test_commands_stand_under_headings() -> None:
    text = CliRunner().invoke(cli, ["--help"], prog_name="chargen").output
    measure = text[text.index("\nMeasure:\n") : text.index("\nTexts:\n")]
    for name in ("evaluate", "score", "encode", "info", "memorization", "plot"):
        assert f"  {name} " in measure
    assert "\nCommands:\n" not in text


@every_command
@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits(ctx: click.Context, columns: int) -> None:
    name = ctx.command_path.split()[1:]
    env = {"COLUMNS": str(columns)}
    text = CliRunner(env=env).invoke(cli, [*name, "--help"], prog_name="chargen").output
    assert max(map(len, text.splitlines())) <= columns
    if isinstance(ctx.command, Group):  # a summary that is cut says nothing
        assert "..." not in text.partition("Options:\n")[2]


def test_help_waits_for_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "chargen", "train", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert "click" in modules
    assert not {name for name in modules if name.split(".")[0] in ("torch", "numpy", "sklearn")}
