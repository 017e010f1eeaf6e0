"""Helpers for scripts that use this package: options, figures and exit codes."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from chargen.cli.options import check_files
from chargen.cli.terminal import error_message, leave_closed_pipe, prepare_streams, say
from chargen.errors import ChargenError, ConfigError, convert_memory_errors
from chargen.lm.config import ModelConfig, TrainConfig
from chargen.options import SEED


def run_script(main: Callable[[], None]) -> NoReturn:
    """Run `main` and exit; an error is reported in one sentence, and a closed pipe is no error."""
    prepare_streams()
    sys.exit(_run(main))


def _run(main: Callable[[], None]) -> int:
    try:
        with convert_memory_errors():
            main()
        sys.stdout.flush()
    except BrokenPipeError:
        leave_closed_pipe()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (ChargenError, OSError) as error:
        say(f"{Path(sys.argv[0]).name}: {error_message(error)}")
        return error.exit_code if isinstance(error, ChargenError) else 1
    return 0


def add_training_options(parser: ArgumentParser) -> None:
    """Add the options of a script that trains one language model; see `training_options`."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=0.7, help="of training, at most [0.7]")
    length.add_argument("--steps", type=int, help="of training, at most; repeatable to the bit")
    parser.add_argument("--hidden-size", type=int, help="units H (default: chosen)")
    parser.add_argument("--seed", type=int, default=SEED.default, help=SEED.metadata["help"])
    parser.add_argument("--out", help="keep the model in this folder")


def training_options(args: Namespace) -> dict[str, Any]:
    """Return options of `chargen.train` from the arguments that `add_training_options` added.

    Raises `ConfigError`, before any work starts, if a value is invalid or ``--out`` exists.
    """
    if args.out and Path(args.out).exists():
        raise ConfigError(f"{args.out} exists: choose another --out")
    budget = {"minutes": args.minutes} if args.steps is None else {"steps": args.steps}
    TrainConfig(**budget, seed=args.seed)
    ModelConfig(hidden_size=args.hidden_size)
    return {
        **budget,
        "seed": args.seed,
        "hidden_size": args.hidden_size,
        "samples": False,
        "deterministic": args.steps is not None,  # else timing chooses the precision
    }


def at_least(low: int) -> Callable[[str], int]:
    """Return a converter for argparse that takes whole numbers of at least `low`."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise ArgumentTypeError(f"must be a whole number of at least {low}, got {text}")
        return value

    return number


def above_zero(text: str) -> float:
    """Return an argument of argparse as a finite number above 0, or raise `ArgumentTypeError`."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def check_plot(path: str | None) -> None:
    """Check, before any work starts, that ``--plot`` can be drawn; an older picture is replaced.

    Raises `ConfigError` or `MissingExtraError` if it cannot.
    """
    if path is None:
        return
    from chargen.plotting.style import image_format

    if not image_format(path):
        raise ConfigError(f"--plot {path}: name a .png, .svg or .pdf file")
    check_files({"--plot": path}, force=True, picture_options=("--plot",))


def write_plot(path: str, figure: Any) -> None:
    """Write a matplotlib figure in the format that the file name says, and report the file."""
    from chargen.plotting.style import image, image_format
    from chargen.storage.whole_files import write_file

    write_file(path, image(figure, image_format(path)))
    say(f"wrote {path}")
