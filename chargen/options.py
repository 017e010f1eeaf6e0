"""Every option stands once: as a field of a configuration dataclass.

The annotation of a field says its type, and `option` its default, its help and what values can
work. `Options` checks them on construction, `chargen.cli.options` makes the command line of them,
and `tools/keywords.py` the typed keywords of `chargen.keywords`. This module imports neither torch
nor numpy, and configuration modules must not either: `chargen --help` need not wait for them.
"""

from __future__ import annotations

import math
import operator
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
"""Names that the length of a run goes by; one of them is given."""

_BOUNDS = (
    ("low", "at least", operator.ge),
    ("above", "above", operator.gt),
    ("below", "below", operator.lt),
    ("most", "at most", operator.le),
)


class Facts(TypedDict, total=False):
    """What is known of an option, beside its type and its default."""

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
    """A field of a configuration dataclass.

    Without a help it is checked and stored, but is nobody's option. `low`, `above`, `below` and
    `most` bound a number. A text is one of `choices`, or any that is not empty, unless it may be
    `empty`. On the command line it is called `option` (else by its own name), takes a `metavar`,
    and stands under a `heading` (else the dataclass's).
    """
    return field(default=default, metadata={"help": help, **facts})


def like(shared: Field[Any], **changes: Any) -> Any:
    """A field like another one, but for its default or some of the facts."""
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


class Kind(NamedTuple):
    """What an annotation says: ``tuple[str, ...]`` is several texts."""

    plain: type[Any]
    optional: bool
    several: bool


def _kind(hint: Any) -> Kind:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (plain,) = (each for each in arguments if each is not type(None))
        return Kind(plain, True, False)
    return Kind(arguments[0], False, True) if origin is tuple else Kind(hint, False, False)


def flag(of: Field[Any]) -> str:
    """The name of a field on the command line."""
    name: str = of.metadata.get("option", "--" + of.name.replace("_", "-"))
    return name


@dataclass(frozen=True)
class Options:
    """Base of the configuration dataclasses: each field is checked on construction.

    Raises `ConfigError` where a value cannot work; the message names the option.
    """

    heading: ClassVar[str]

    @classmethod
    @cache
    def kinds(cls) -> tuple[tuple[Field[Any], Kind], ...]:
        """The fields in their order, each with what its annotation says."""
        hints = typing.get_type_hints(cls)
        return tuple((each, _kind(hints[each.name])) for each in fields(cls))

    def __post_init__(self) -> None:
        for each, kind in self.kinds():
            value = getattr(self, each.name)
            if getattr(value, "ndim", None) == 0:  # a number of numpy's
                value = value.item()
                object.__setattr__(self, each.name, value)
            if value is None and kind.optional:
                continue
            if kind.several:  # a lone text or a list is taken too
                lone = isinstance(value, str) or not isinstance(value, Iterable)
                value = (value,) if lone else tuple(value)
                object.__setattr__(self, each.name, value)
            for one in value if kind.several else (value,):
                if fault := _fault(one, kind.plain, each.metadata):
                    raise ConfigError(f"{flag(each)} must {fault}")

    def check_budget(self) -> None:
        """Raise `ConfigError` where more than one budget is given."""
        given = [f"--{name}" for name in BUDGETS if getattr(self, name, None) is not None]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)} exclude each other: give one budget")


def _fault(value: Any, plain: type[Any], facts: Mapping[str, Any]) -> str | None:
    """How the sentence "--option must" ends, where the value cannot work."""
    if plain in (int, float):
        return _fault_of_number(value, plain, facts)
    if choices := facts.get("choices"):
        wanted = f"one of {', '.join(choices)};" if len(choices) > 1 else f"{choices[0]!r},"
        return None if value in choices else f"be {wanted} got {brief(value)}"
    if not isinstance(value, plain):
        return f"be {'a text' if plain is str else 'true or false'}, got {brief(value)}"
    return "not be empty, got ''" if value == "" and not facts.get("empty") else None


def _fault_of_number(value: Any, plain: type[Any], facts: Mapping[str, Any]) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        return f"be a number, got {brief(value)}"
    if plain is int and not isinstance(value, int):
        return f"be a whole number, got {value}"
    for name, words, holds in _BOUNDS:
        if name in facts and not holds(value, facts[name]):
            return f"be {words} {facts[name]}, got {value}"
    return None


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def split_options(
    options: Mapping[str, Any], *owners: type[Options], given: Sequence[Options | None] = ()
) -> tuple[Any, ...]:
    """Sort keyword options into the configurations (`owners`) whose fields they are.

    `given` has a configuration for some of the owners, whose values stand where there is no option,
    in place of the defaults. An option that belongs to none is a `ConfigError` with the nearest
    name.
    """
    names = {
        each.name: owner for owner in owners for each, _ in owner.kinds() if each.metadata["help"]
    }
    for name in options:
        if name not in names:
            raise ConfigError(f"there is no option {name!r}{did_you_mean(name, names)}")
    found = []
    for owner, config in zip(owners, given or [None] * len(owners), strict=True):
        if not isinstance(config, owner | None):
            raise ConfigError(f"a {owner.__name__} is needed, got {brief(config)}")
        own = {name: value for name, value in options.items() if names[name] is owner}
        found.append(owner(**own) if config is None else replace(config, **own))
    return tuple(found)


def extended(config: Any, budget: Mapping[str, float | None]) -> Any:
    """The configuration of a run with another budget, if one is given.

    Raises `ConfigError` where the run knows no such budget, or the value cannot be.
    """
    given = {name: value for name, value in budget.items() if value is not None}
    if not given:
        return config
    known = {each.name for each in fields(config)} & set(BUDGETS)
    for name in given:
        if name not in known:
            raise ConfigError(f"--resume takes a budget ({' or '.join(sorted(known))}), not {name}")
    return replace(config, **(dict.fromkeys(known) | given))
