"""Command-line options made from the fields of configuration dataclasses."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any

import click

from chargen.cli.groups import Option
from chargen.lm.config import PRECISIONS

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def options_of(config: type[Any], *, leave_out: tuple[str, ...] = ()) -> Decorator:
    """A decorator that adds one option for each field that has a help text.

    The field's name, type, default and ``metadata["help"]`` become the option's; further keys of
    the metadata are ``choices``, ``option`` (another name), ``multiple`` and ``heading``, which
    else is the dataclass's.
    """
    hints = typing.get_type_hints(config)

    def decorate(command: Command) -> Command:
        for field in reversed(dataclasses.fields(config)):
            if "help" in field.metadata and field.name not in leave_out:
                heading = field.metadata.get("heading", config.heading)
                command = _option(field, hints[field.name], heading)(command)
        return command

    return decorate


def option(*names: str, heading: str | None = None, **attributes: Any) -> Decorator:
    """An option under a heading of the help, else as `click.option` makes it."""
    return click.option(*names, cls=Option, heading=heading, **attributes)


def _option(field: dataclasses.Field[Any], hint: Any, heading: str) -> Decorator:
    name = field.metadata.get("option", "--" + field.name.replace("_", "-"))
    text = field.metadata["help"]
    kind = _plain_type(hint)
    if kind is bool:
        # A flag that is on by default is turned off by name: --no-samples.
        declaration = f"{name}/--no-{name[2:]}" if field.default else name
        return option(
            declaration,
            field.name,
            heading=heading,
            is_flag=True,
            default=field.default,
            help=text,
        )
    choices = field.metadata.get("choices")
    return option(
        name,
        field.name,
        heading=heading,
        type=click.Choice(choices) if choices else kind,
        default=None if field.metadata.get("multiple") else field.default,
        multiple=bool(field.metadata.get("multiple")),
        help=text,
        metavar=field.metadata.get("metavar"),
    )


def _plain_type(hint: Any) -> Any:
    """``int`` from ``int | None``, ``str`` from ``tuple[str, ...]``."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is tuple:
        hint = typing.get_args(hint)[0]
    return hint


model_argument = click.argument("directory", metavar="DIR", type=click.Path())
device_option = option(
    "--device", heading="Machine", default="cpu", help="Where to compute: cpu, cuda, mps."
)
threads_option = option(
    "--threads",
    heading="Machine",
    type=click.IntRange(min=1),
    help="Processor threads (default: torch's own choice).",
)
streams_option = option(
    "--streams",
    heading="Machine",
    type=click.IntRange(min=1),
    default=1,
    help="Parts read side by side; 1 is exact, more is faster.",
)
precision_option = option(
    "--precision",
    heading="Machine",
    type=click.Choice(PRECISIONS),
    default="float32",
    help="Precision of the products.",
)
json_option = option(
    "--json", "as_json", heading="Output", is_flag=True, help="Print JSON on stdout."
)
quiet_option = option(
    "-q", "--quiet", heading="Output", is_flag=True, help="Print only results and errors."
)


def reading_of(
    lm: Any, corpora: tuple[str, ...], options: dict[str, Any], *, split: bool = False
) -> Any:
    """How to read text for a model: as asked, else as in training where that matters.

    Documents are apart as they were, or files where they were rows and `corpora` are no tables;
    text is cleaned as it was unless `options` say how; with `split`, the end of the text is kept
    for validation as it was.

    Returns
    -------
    chargen.text.config.CorpusConfig
    """
    from chargen.text.config import CorpusConfig
    from chargen.text.sources import are_tables

    trained = lm.trained_reading
    clean = options.get("clean") or trained.get("clean")
    options = {**options, "clean": clean}
    documents = trained.get("documents")
    if documents == "rows" and not are_tables(corpora, CorpusConfig(**options)):
        documents = None if split else "files"  # one document cannot be split
    options["documents"] = documents
    if split and "valid_fraction" in trained:
        options["valid_fraction"] = trained["valid_fraction"]
    return CorpusConfig(**options)


def load_model(
    directory: str, device: str, threads: int | None = None, precision: str = "float32"
) -> Any:
    """Read a language model, here rather than at the top of a module since torch is slow to import.

    Returns
    -------
    chargen.language_model.LanguageModel
    """
    from chargen.language_model import LanguageModel
    from chargen.runtime.device import set_threads

    set_threads(threads)
    return LanguageModel.load(directory, device, precision)


def load_classifier(
    directory: str, device: str, threads: int | None = None, precision: str = "float32"
) -> Any:
    """Read a classifier, in the same way.

    Returns
    -------
    chargen.sentiment.classifier.Classifier
    """
    from chargen.runtime.device import set_threads
    from chargen.sentiment.classifier import Classifier

    set_threads(threads)
    return Classifier.load(directory, device, precision)
