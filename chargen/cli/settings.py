"""Options from a TOML file, which replace the defaults of the commands.

The command line takes precedence over environment variables, and variables over the file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from chargen.errors import ConfigError, did_you_mean


def read_settings(path: Path, root: click.Group) -> dict[str, Any]:
    """Return the options of a file by command, in the form of `click.Context.default_map`.

    The file has a table for each command, such as ``[train]`` and ``[sentiment.train]``; keys are
    options without the leading dashes, with ``-`` or ``_`` between words. Raises `ConfigError` if
    the file cannot be read, a command or an option is unknown, or a value has the wrong form.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"--config {path} cannot be read: {reason}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--config {path} is not TOML: {error}") from error
    return _group_settings(tables, root, str(path), ())


def _group_settings(
    table: dict[str, Any], group: click.Group, path: str, parent_names: tuple[str, ...]
) -> dict[str, Any]:
    settings = {}
    for name, inner in table.items():
        command = group.commands.get(name)
        where = ".".join((*parent_names, name))
        if command is None:
            hint = did_you_mean(name, group.commands)
            raise ConfigError(f"{path}: there is no command {where!r}{hint}")
        if not isinstance(inner, dict):
            raise ConfigError(f"{path}: {where} must be a table: [{where}]")
        if isinstance(command, click.Group):
            settings[name] = _group_settings(inner, command, path, (*parent_names, name))
        else:
            settings[name] = _command_settings(inner, command, path, where)
    return settings


def _command_settings(
    table: dict[str, Any], command: click.Command, path: str, command_name: str
) -> dict[str, Any]:
    names = {
        option.removeprefix("--").replace("-", "_"): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--")
    }
    settings = {}
    for key, value in table.items():
        parameter = names.get(key.replace("-", "_"))
        if parameter is None:
            hint = did_you_mean(key.replace("-", "_"), names)
            raise ConfigError(f"{path}, [{command_name}]: there is no option {key!r}{hint}")
        if required := _required_form(value, parameter):
            raise ConfigError(f"{path}, [{command_name}]: {key} must be {required}")
        if parameter.name in settings:
            raise ConfigError(f"{path}, [{command_name}]: {key} is given twice, in two spellings")
        # As text, which click checks in the same way as on the command line.
        plain = value if isinstance(value, bool | list) else str(value)
        settings[str(parameter.name)] = plain
    return settings


def _required_form(value: Any, option: click.Option) -> str | None:
    """Return how the sentence "the option must be" ends, or None if the value has a valid form."""
    items = value if isinstance(value, list) else [value]
    is_nested = any(isinstance(item, list | dict) for item in items)
    if isinstance(value, list) != option.multiple or is_nested:
        return "a list of texts" if option.multiple else "a single value"
    if option.is_flag != any(isinstance(item, bool) for item in items):
        return "true or false" if option.is_flag else "a number or a text"
    return None
