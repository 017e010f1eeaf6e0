"""Each option is defined once, as a field of a configuration dataclass.

The annotation of a field gives its type; `option` gives its default, its help and its valid values.
`Options` checks values on construction, `chargen.cli.options` derives the command line from the
fields, and `tools/keywords.py` derives the typed keyword arguments of `chargen.keywords`. Neither
this module nor any configuration module imports torch or numpy, so `chargen --help` is fast.
"""

from __future__ import annotations

import math
import operator
import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypedDict

from chargen.errors import ConfigError, brief, did_you_mean

if TYPE_CHECKING:
    from typing_extensions import Unpack

BUDGETS = ("minutes", "epochs", "steps")
"""Options that limit the length of a run; at most one of them may be given."""

_BOUNDS = (
    ("low", "at least", operator.ge),
    ("above", "above", operator.gt),
    ("below", "below", operator.lt),
    ("most", "at most", operator.le),
)


class Facts(TypedDict, total=False):
    """Metadata of an option, other than its type, default and help."""

    low: float
    above: float
    below: float
    most: float
    choices: tuple[str, ...]
    empty: bool
    option: str
    metavar: str
    heading: str


def option(default: Any, help: str = "", **facts: Unpack[Facts]) -> Any:
    """Return a field of a configuration dataclass.

    A field without `help` is checked and stored, but is not an option that users can set. `low`
    and `most` (inclusive) and `above` and `below` (exclusive) bound a number. A text must be one of
    `choices`; without choices it must not be empty, unless `empty` is true. On the command line
    the option is named `option` (default: after the field), shows `metavar` for its value and is
    listed under `heading` (default: that of the dataclass).
    """
    return field(default=default, metadata={"help": help, **facts})


def like(shared: Field[Any], **changes: Any) -> Any:
    """Return a copy of the field `shared` with a changed default, help or other metadata."""
    return option(**{"default": shared.default, **shared.metadata, **changes})


SEED = option(0, "Seed of every random choice.", low=0, below=2**63)
DEVICE = option("auto", "Where to compute: auto, cpu, cuda, cuda:1, mps.", heading="Machine")
PRECISION = option(
    "auto",
    "Precision of the matrix products.",
    choices=("auto", "float32", "bfloat16"),
    heading="Machine",
)
THREADS = option(
    None, "Processor threads (default: torch's own choice).", low=1, below=1025, heading="Machine"
)
DETERMINISTIC = option(
    False,
    "Use deterministic kernels only, and float32 unless --precision says otherwise.",
    heading="Machine",
)


class FieldType(NamedTuple):
    """Type of a field, read from its annotation: ``tuple[str, ...]`` means several texts."""

    value_type: type[Any]
    optional: bool
    multiple: bool


def _field_type(hint: Any) -> FieldType:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (plain,) = (argument for argument in arguments if argument is not type(None))
        return FieldType(plain, True, False)
    return (
        FieldType(arguments[0], False, True) if origin is tuple else FieldType(hint, False, False)
    )


def flag(option_field: Field[Any]) -> str:
    """Return the name of a field on the command line."""
    name: str = option_field.metadata.get("option", "--" + option_field.name.replace("_", "-"))
    return name


@dataclass(frozen=True)
class Options:
    """Base class of the configuration dataclasses, which checks each field on construction.

    Raises `ConfigError` if a value is invalid, or if more than one of `BUDGETS` is given; the
    message names the option.
    """

    heading: ClassVar[str]

    @classmethod
    @cache
    def typed_fields(cls) -> tuple[tuple[Field[Any], FieldType], ...]:
        """Return the fields in order, each with the type that its annotation gives."""
        hints = typing.get_type_hints(cls)
        return tuple((each, _field_type(hints[each.name])) for each in fields(cls))

    def __post_init__(self) -> None:
        for option_field, kind in self.typed_fields():
            value = _plain_value(getattr(self, option_field.name))
            if kind.multiple:  # a single value or a list is accepted too
                is_single = isinstance(value, str) or not isinstance(value, Iterable)
                value = (value,) if is_single else tuple(map(_plain_value, value))
            object.__setattr__(self, option_field.name, value)
            if value is None and kind.optional:
                continue
            for item in value if kind.multiple else (value,):
                if fault := _unmet_requirement(item, kind.value_type, option_field.metadata):
                    raise ConfigError(f"{flag(option_field)} must {fault}")
        flags = [f"--{name}" for name in BUDGETS if getattr(self, name, None) is not None]
        if len(flags) > 1:
            raise ConfigError(f"{' and '.join(flags)} exclude each other: give one budget")


def check_argument(name: str, value: Any, value_type: type[Any], **facts: Unpack[Facts]) -> None:
    """Raise `ConfigError` for an invalid argument that is not a field of a configuration."""
    if fault := _unmet_requirement(_plain_value(value), value_type, facts):
        raise ConfigError(f"{name} must {fault}")


def _plain_value(value: Any) -> Any:
    """Return a number of numpy as Python's own type, a path as text, and other values unchanged."""
    if getattr(value, "ndim", None) == 0:
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _unmet_requirement(value: Any, value_type: type[Any], facts: Mapping[str, Any]) -> str | None:
    """Return how the sentence "--option must" ends, or None if the value is valid."""
    if value_type in (int, float):
        return _unmet_number_requirement(value, value_type, facts)
    if choices := facts.get("choices"):
        wanted = f"one of {', '.join(choices)};" if len(choices) > 1 else f"{choices[0]!r},"
        return None if value in choices else f"be {wanted} got {brief(value)}"
    if not isinstance(value, value_type):
        return f"be {'a text' if value_type is str else 'true or false'}, got {brief(value)}"
    return "not be empty, got ''" if value == "" and not facts.get("empty") else None


def _unmet_number_requirement(
    value: Any, value_type: type[Any], facts: Mapping[str, Any]
) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        return f"be a number, got {brief(value)}"
    if value_type is int and not isinstance(value, int):
        return f"be a whole number, got {value}"
    for name, words, holds in _BOUNDS:
        if name in facts and not holds(value, facts[name]):
            return f"be {words} {facts[name]}, got {value}"
    return None


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def split_options(
    options: Mapping[str, Any],
    *config_classes: type[Options],
    given_configs: Sequence[Options | None] = (),
) -> tuple[Any, ...]:
    """Sort keyword options into configurations, and return one per class in `config_classes`.

    `given_configs`, if not empty, has one entry per owner: a configuration whose values replace the
    defaults, or None. Raises `ConfigError` if no owner has such an option (the message suggests
    the nearest name), or if an entry of `given_configs` is not of its owner's class.
    """
    names = {
        each.name: owner
        for owner in config_classes
        for each, _ in owner.typed_fields()
        if each.metadata["help"]
    }
    for name in options:
        if name not in names:
            raise ConfigError(f"there is no option {name!r}{did_you_mean(name, names)}")
    configs = []
    for owner, config in zip(
        config_classes, given_configs or [None] * len(config_classes), strict=True
    ):
        if not isinstance(config, owner | None):
            raise ConfigError(f"a {owner.__name__} is needed, got {brief(config)}")
        own = {name: value for name, value in options.items() if names[name] is owner}
        configs.append(owner(**own) if config is None else replace(config, **own))
    return tuple(configs)


def with_new_budget(config: Any, budget: Mapping[str, float | None]) -> Any:
    """Return the configuration of a run with a new budget, or unchanged if none is given.

    Raises `ConfigError` if the run has no budget of that kind, or if the value is invalid.
    """
    new_budget = {name: value for name, value in budget.items() if value is not None}
    if not new_budget:
        return config
    known = {each.name for each in fields(config)} & set(BUDGETS)
    for name in new_budget:
        if name not in known:
            raise ConfigError(f"--resume takes a budget ({' or '.join(sorted(known))}), not {name}")
    return replace(config, **(dict.fromkeys(known) | new_budget))
