"""Sorting keyword options into the configuration dataclasses whose fields they are."""

from __future__ import annotations

import dataclasses
from typing import Any

from chargen.errors import ConfigError, did_you_mean


def split_options(options: dict[str, Any], *configs: type[Any]) -> tuple[Any, ...]:
    """Build each configuration from the options that are its fields.

    Parameters
    ----------
    options : dict
        By field name.
    *configs : dataclass types
        With no field in common.

    Raises
    ------
    ConfigError
        Where an option belongs to none; the nearest name is suggested.
    """
    names = {field.name: config for config in configs for field in dataclasses.fields(config)}
    for name in options:
        if name not in names:
            raise ConfigError(f"there is no option {name!r}{did_you_mean(name, names)}")
    return tuple(
        config(**{k: v for k, v in options.items() if names[k] is config}) for config in configs
    )


BUDGETS = ("minutes", "epochs", "steps")
"""Names that the length of a run goes by; one of them is given."""


def extended(config: Any, budget: dict[str, float | None]) -> Any:
    """The configuration of a run with another budget, if one is given.

    Raises
    ------
    ConfigError
        Where the run knows no such budget, or the value cannot be.
    """
    given = {name: value for name, value in budget.items() if value is not None}
    if not given:
        return config
    known = {field.name for field in dataclasses.fields(config)} & set(BUDGETS)
    for name in given:
        if name not in known:
            raise ConfigError(f"--resume takes a budget ({' or '.join(sorted(known))}), not {name}")
    return dataclasses.replace(config, **(dict.fromkeys(known) | given))
