"""The command `chargen`, and how an error becomes a sentence and an exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from chargen import __version__
from chargen.cli.compress import compress, decompress
from chargen.cli.corpus import corpus
from chargen.cli.count import count
from chargen.cli.encode import encode
from chargen.cli.evaluate import evaluate
from chargen.cli.export import export
from chargen.cli.groups import Group, PipeClosed
from chargen.cli.hub import pull, push
from chargen.cli.info import info
from chargen.cli.memorization import memorization
from chargen.cli.options import option
from chargen.cli.plot import plot
from chargen.cli.sample import sample
from chargen.cli.score import score
from chargen.cli.sentiment import sentiment
from chargen.cli.terminal import error_message, leave_closed_pipe, prepare_streams, say
from chargen.cli.train import train
from chargen.cli.verify import verify
from chargen.cli.web import web
from chargen.errors import ChargenError, FollowerError, convert_memory_errors
from chargen.runtime import distributed
from chargen.runtime.signals import exit_when_terminated


@click.group(
    cls=Group,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
        "auto_envvar_prefix": "CHARGEN",
    },
)
@click.version_option(__version__, prog_name="chargen", allow_from_autoenv=False)
@option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML file with options: a table for each command.",
)
@click.pass_context
def cli(context: click.Context, config: Path | None) -> None:
    """Character-level language models on your own text and your own machine.

    \b
    chargen train mybook.txt --minutes 5       train a model on a text
    chargen sample checkpoints/mybook          write with it
    chargen evaluate checkpoints/mybook a.txt  bits per character on other text
    chargen sentiment predict checkpoints/sentiment "A quiet, wonderful film."
    chargen --config night.toml train mybook.txt

    Options may also be set in a file and in variables such as CHARGEN_TRAIN_MINUTES. The command
    line takes precedence over variables, variables over the file, the file over the defaults.
    """
    if config is not None:
        from chargen.cli.settings import read_settings

        context.default_map = read_settings(config, cli)


for command in (
    train,
    sample,
    web,
    evaluate,
    score,
    count,
    encode,
    info,
    verify,
    compress,
    decompress,
    memorization,
    plot,
    corpus,
    export,
    push,
    pull,
    sentiment,
):
    cli.add_command(command)


SPIN_COUNT = "2000"
"""Number of times a thread of GNU OpenMP checks for the other threads before it sleeps.

By default it checks for milliseconds, and keeps the processor from threads that have work to do
(docs/recipes.md lists the cost of several counts).
"""


def main(arguments: list[str] | None = None) -> NoReturn:
    prepare_streams()
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # read when torch is imported
    logging.basicConfig(format="chargen: %(message)s", level=logging.WARNING)
    # Under torchrun a rank may wait in C++, where it could only be killed.
    alone = distributed.world_size() == 1
    with exit_when_terminated() if alone else contextlib.nullcontext():
        code = _run(arguments)
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    try:
        with convert_memory_errors():
            result: Any = cli(args=arguments, prog_name="chargen", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except PipeClosed:
        leave_closed_pipe()
        return 0
    except click.ClickException as error:
        if distributed.is_main():  # all ranks have the same arguments and would repeat the message
            error.show()
        return error.exit_code if distributed.is_main() else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except (ChargenError, OSError) as error:
        if not isinstance(error, FollowerError):
            prefix = "" if distributed.is_main() else f"rank {distributed.rank()}: "
            say(f"chargen: {prefix}{error_message(error)}")
        return error.exit_code if isinstance(error, ChargenError) else 1
