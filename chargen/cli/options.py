"""Options made from the fields of configurations, those of several commands, and their checks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import click
from click.core import ParameterSource

from chargen.cli.groups import Option
from chargen.cli.terminal import say_notes, visible
from chargen.errors import ConfigError, MissingExtraError
from chargen.options import BUDGETS, DEVICE, PRECISION, SEED, THREADS, Kind, Options, flag, like
from chargen.storage.directories import real_path
from chargen.text.config import CorpusConfig

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def options_of(config: type[Options], *, leave_out: tuple[str, ...] = ()) -> Decorator:
    """A decorator that adds one option for each field that has a help (see `chargen.options`)."""

    def decorate(command: Command) -> Command:
        for field, kind in reversed(config.kinds()):
            if field.metadata["help"] and field.name not in leave_out:
                heading = field.metadata.get("heading", config.heading)
                command = _option(field, kind, heading)(command)
        return command

    return decorate


def option(*names: str, heading: str | None = None, **attributes: Any) -> Decorator:
    """An option under a heading of the help, else as `click.option` makes it."""
    return click.option(*names, cls=Option, heading=heading, **attributes)


def _option(field: Field[Any], kind: Kind, heading: str) -> Decorator:
    name, facts = flag(field), field.metadata
    attributes: dict[str, Any] = {
        "type": click.Choice(facts["choices"]) if "choices" in facts else _type(kind.plain, facts),
        "metavar": facts.get("metavar"),
        "multiple": kind.several,
    }
    if kind.plain is bool:
        # A flag that is on by default is turned off by name: --no-samples.
        name = f"{name}/--no-{name[2:]}" if field.default else name
        attributes = {"is_flag": True}
    default = None if kind.several else field.default
    return option(
        name, field.name, heading=heading, default=default, help=facts["help"], **attributes
    )


def _type(plain: type[Any], facts: Mapping[str, Any]) -> Any:
    if not {"low", "above", "below", "most"} & facts.keys():
        return plain
    most = facts.get("below", facts.get("most"))
    if most == SEED.metadata["below"]:
        most = None  # nobody types such a number: it would only blow up the help
    return (_Whole if plain is int else _Real)(
        min=facts.get("low", facts.get("above")),
        max=most,
        min_open="above" in facts,
        max_open="below" in facts and most is not None,
    )


class _Whole(click.IntRange):
    """Shows its range in the help; the configuration refuses what lies outside."""

    convert = staticmethod(click.INT.convert)


class _Real(click.FloatRange):
    convert = staticmethod(click.FLOAT.convert)


@dataclass(frozen=True)
class MachineConfig(Options):
    """On what a trained model computes.

    The precision is not left to the stopwatch of "auto": a seed gives the same text, and a text
    the same figures, each time.
    """

    heading: ClassVar[str] = "Machine"

    device: str = DEVICE
    precision: str = like(PRECISION, default="float32")
    threads: int | None = THREADS


model_argument = click.argument("directory", metavar="DIR", type=click.Path())
streams_option = option(
    "--streams",
    heading="Machine",
    type=click.IntRange(min=1),
    default=1,
    help="Parts that are read in parallel; 1 is exact, more is faster.",
)
json_option = option(
    "--json", "as_json", heading="Output", is_flag=True, help="Print JSON on stdout."
)
resume_option = option(
    "--resume",
    "resumed",
    heading="Output",
    type=click.Path(),
    help="Continue a run, optionally with a new budget.",
)
quiet_option = option(
    "-q", "--quiet", heading="Output", is_flag=True, help="Print only results and errors."
)


def corpus_of(lm: Any, corpora: tuple[str, ...], asked: CorpusConfig) -> Any:
    """A `Corpus` in a model's ids, in its order of reading and split as its training text was.

    See `chargen.LanguageModel.reading`. Notes on how it was read go to stderr.
    """
    from chargen.text.corpus import load_corpus

    config: CorpusConfig = lm.reading(asked, corpora)
    trained = lm.trained_reading
    kept = trained.get("valid_fraction", asked.valid_fraction)
    each = trained.get("valid_of_each", False)  # runs of earlier versions
    # One document cannot be split.
    one = trained.get("documents") == "rows" and config.documents == "files"
    documents = None if one else config.documents
    config = replace(config, documents=documents, valid_fraction=kept, valid_of_each=each)
    text = load_corpus(corpora, config, vocabulary=lm.vocabulary, reverse=lm.backward)
    say_notes(text.notes)
    return text


def load_model(directory: str, machine: MachineConfig) -> Any:
    """A `chargen.LanguageModel`, read here since torch is slow to import at the top of a module."""
    return _load("LanguageModel", directory, machine)


def load_classifier(directory: str, machine: MachineConfig) -> Any:
    """A `chargen.Classifier`, read in the same way."""
    return _load("Classifier", directory, machine)


def _load(kind: str, directory: str, machine: MachineConfig) -> Any:
    import chargen
    from chargen.runtime.device import set_threads

    set_threads(machine.threads)
    return getattr(chargen, kind).load(directory, machine.device, machine.precision)


def check_files(
    files: Mapping[str, str | None], force: bool, *, drawn: Collection[str] = ()
) -> None:
    """Find out before the work that a file must not or cannot be written: a `ConfigError`.

    `files` are by option, None where it was not given; those of the options `drawn` are drawn by
    matplotlib.
    """
    given = [(by, Path(name)) for by, name in files.items() if name is not None]
    for by, path in given:
        try:
            if path.is_dir():
                raise ConfigError(f"{by} {path} is a folder: name a file")
            if path.exists() and not path.is_file():
                raise ConfigError(f"{by} {path} is not a plain file")
            if path.exists() and not force:
                raise ConfigError(f"{path} exists: choose another {by}, or give --force")
            if not real_path(path).parent.is_dir():
                raise ConfigError(f"{by} {path}: there is no folder to write it into")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{by} {visible(str(path))} cannot be written: {error}") from error
    names = [real_path(path) for _, path in given]
    if len(set(names)) < len(names):
        raise ConfigError(f"{' and '.join(by for by, _ in given)} need a file each")
    for by, _ in given:
        if by in drawn and find_spec("matplotlib") is None:
            raise MissingExtraError(by, "plot")


def resume_budget(context: click.Context, also: Collection[str] = ()) -> dict[str, Any]:
    """The new budget of `--resume`, where one is given.

    Every other option is a `ConfigError`, but those of the output and those named in `also`.
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
            raise ConfigError(f"--resume continues with the saved options: leave {given} out")
    # A budget in a file or a variable is for runs that begin: a run that goes on keeps its own.
    source_of = context.get_parameter_source
    names = [name for name in BUDGETS if source_of(name) is ParameterSource.COMMANDLINE]
    return {name: context.params[name] for name in names}
