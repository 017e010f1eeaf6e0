"""Options derived from configuration fields, options that commands share, and their checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import click
from click.core import ParameterSource

from chargen.cli.groups import Option
from chargen.cli.terminal import say_notes, visible
from chargen.errors import ConfigError, MissingExtraError, OneDocumentError
from chargen.options import (
    BUDGETS,
    DEVICE,
    PRECISION,
    SEED,
    THREADS,
    FieldType,
    Options,
    flag,
    like,
)
from chargen.storage.directories import real_path
from chargen.text.config import CorpusConfig

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def options_of(config: type[Options], *, leave_out: tuple[str, ...] = ()) -> Decorator:
    """Return a decorator that adds an option for each field with help text, except `leave_out`.

    The fields are made by `chargen.options.option`.
    """

    def decorate(command: Command) -> Command:
        for field, kind in reversed(config.typed_fields()):
            if field.metadata["help"] and field.name not in leave_out:
                heading = field.metadata.get("heading", config.heading)
                command = _option(field, kind, heading)(command)
        return command

    return decorate


def option(*names: str, heading: str | None = None, **attributes: Any) -> Decorator:
    """Return a decorator like `click.option`, for an option that the help lists under `heading`."""
    return click.option(*names, cls=Option, heading=heading, **attributes)


def _option(field: Field[Any], kind: FieldType, heading: str) -> Decorator:
    name, facts = flag(field), field.metadata
    attributes: dict[str, Any] = {
        "type": click.Choice(facts["choices"])
        if "choices" in facts
        else _type(kind.value_type, facts),
        "metavar": facts.get("metavar"),
        "multiple": kind.multiple,
    }
    if kind.value_type is bool:
        # A flag that is on by default also has a form that turns it off: --no-samples.
        name = f"{name}/--no-{name[2:]}" if field.default else name
        attributes = {"is_flag": True}
    default = None if kind.multiple else field.default
    return option(
        name, field.name, heading=heading, default=default, help=facts["help"], **attributes
    )


def _type(value_type: type[Any], facts: Mapping[str, Any]) -> Any:
    if not {"low", "above", "below", "most"} & facts.keys():
        return value_type
    most = facts.get("below", facts.get("most"))
    if most == SEED.metadata["below"]:
        most = None  # too large to be typed, so the help does not show it
    return (_IntRange if value_type is int else _FloatRange)(
        min=facts.get("low", facts.get("above")),
        max=most,
        min_open="above" in facts,
        max_open="below" in facts and most is not None,
    )


class _IntRange(click.IntRange):
    """Integer type whose range is shown in the help, but checked by the configuration."""

    convert = staticmethod(click.INT.convert)


class _FloatRange(click.FloatRange):
    convert = staticmethod(click.FLOAT.convert)


@dataclass(frozen=True)
class MachineConfig(Options):
    """Device, precision and threads for computing with a trained model.

    The default precision is fixed, because "auto" depends on a time measurement: a seed must
    always give the same text, and a text the same figures.
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


def load_corpus_for(
    lm: Any, corpora: tuple[str, ...], requested: CorpusConfig, *, cuts_document: bool
) -> Any:
    """Return a `Corpus` in a model's ids and reading order.

    ``requested.valid_fraction`` of it is held out, at the same places as in training. If the text
    is a single document, which training would not have divided, its end is held out if
    `cuts_document`, otherwise nothing is. See `chargen.LanguageModel.reading` for the rest. Notes
    on how the text was read go to stderr.
    """
    from chargen.text.corpus import load_corpus
    from chargen.text.sources import resolve

    config: CorpusConfig = lm.reading(requested, corpora)
    trained = lm.trained_reading
    of_each = trained.get("valid_of_each", False)  # missing in runs of earlier versions
    by_file = trained.get("documents") == "rows" and config.documents == "files"
    documents = None if by_file else config.documents
    config = replace(config, documents=documents, valid_of_each=of_each)
    fraction = config.valid_fraction if cuts_document else 0.0
    whole = replace(config, documents=None, valid_fraction=fraction)
    sources = resolve(corpora, config)
    has_pipe = any(source.stream for source in sources)
    if has_pipe and config.documents == "files" and len(sources) == 1:
        config = whole
    options: dict[str, Any] = {"vocabulary": lm.vocabulary, "reverse": lm.backward}
    try:
        text = load_corpus(corpora, config, **options)
    except OneDocumentError:
        if has_pipe:  # which cannot be read again
            raise
        text = load_corpus(corpora, whole, **options)
    say_notes(text.notes)
    return text


def load_model(directory: str, machine: MachineConfig) -> Any:
    """Load a `chargen.LanguageModel`; torch, which is slow to import, is imported only here."""
    return _load("LanguageModel", directory, machine)


def load_classifier(directory: str, machine: MachineConfig) -> Any:
    """Load a `chargen.Classifier` in the same way as `load_model`."""
    return _load("Classifier", directory, machine)


def _load(kind: str, directory: str, machine: MachineConfig) -> Any:
    import chargen
    from chargen.runtime.device import set_threads

    set_threads(machine.threads)
    return getattr(chargen, kind).load(directory, machine.device, machine.precision)


def check_files(
    files: Mapping[str, str | None], force: bool, *, picture_options: Collection[str] = ()
) -> None:
    """Check, before any work starts, that files may and can be written.

    `files` maps each option to its file name, or to None if it was not given; the files of the
    options `picture_options` need matplotlib. Raises `ConfigError` if a file must not or cannot be
    written, and `MissingExtraError` if matplotlib is missing.
    """
    targets = [(name, Path(file)) for name, file in files.items() if file is not None]
    for name, path in targets:
        try:
            if path.is_dir():
                raise ConfigError(f"{name} {path} is a folder: name a file")
            if path.exists() and not path.is_file():
                raise ConfigError(f"{name} {path} is not a plain file")
            if path.exists() and not force:
                raise ConfigError(f"{path} exists: choose another {name}, or give --force")
            folder = real_path(path).parent
            if not folder.is_dir():
                raise ConfigError(f"{name} {path}: there is no folder to write it into")
            if not os.access(folder, os.W_OK):
                raise ConfigError(f"{name} {path}: its folder cannot be written to")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{name} {visible(str(path))} cannot be written: {error}") from error
    real_paths = [real_path(path) for _, path in targets]
    if len(set(real_paths)) < len(real_paths):
        raise ConfigError(f"{' and '.join(name for name, _ in targets)} need a file each")
    for name, _ in targets:
        if name in picture_options and find_spec("matplotlib") is None:
            raise MissingExtraError(name, "plot")


def resume_budget(context: click.Context, also_allowed: Collection[str] = ()) -> dict[str, Any]:
    """Return the new budget of `--resume`, empty if none is given.

    Raises `ConfigError` if any other option is given on the command line, except output
    options and those named in `also_allowed`.
    """
    allowed = {"resumed", "as_json", "quiet", "tensorboard", *also_allowed, *BUDGETS}
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        # click 8.1 regards a missing CORPUS as given on the command line.
        is_present = context.params.get(name) != ()
        if name not in allowed and is_present and source is ParameterSource.COMMANDLINE:
            argument = (parameter.metavar or name).rstrip(".")
            spelling = parameter.opts[0] if isinstance(parameter, click.Option) else argument
            raise ConfigError(f"--resume continues with the saved options: leave {spelling} out")
    # A budget from a file or a variable applies to new runs; a resumed run keeps its own.
    source_of = context.get_parameter_source
    names = [name for name in BUDGETS if source_of(name) is ParameterSource.COMMANDLINE]
    return {name: context.params[name] for name in names}
