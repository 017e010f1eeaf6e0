"""Files that a command writes besides what it prints: checked before the work."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path

from chargen.cli.terminal import visible
from chargen.errors import ConfigError, MissingExtraError
from chargen.storage.directories import real_path


def check_files(
    files: Mapping[str, str | None], force: bool, *, drawn: Collection[str] = ()
) -> None:
    """Find out before the work that a file must not or cannot be written.

    Parameters
    ----------
    files : mapping of str to str or None
        By option; None where it was not given.
    force : bool
        Whether files may be replaced.
    drawn : collection of str
        The options whose files matplotlib draws.

    Raises
    ------
    ConfigError, MissingExtraError
    """
    given = [(option, Path(name)) for option, name in files.items() if name is not None]
    for option, path in given:
        try:
            if path.is_dir():
                raise ConfigError(f"{option} {path} is a folder: name a file")
            if path.exists() and not path.is_file():
                raise ConfigError(f"{option} {path} is not a plain file")
            if path.exists() and not force:
                raise ConfigError(f"{path} exists: choose another {option}, or give --force")
            if not real_path(path).parent.is_dir():
                raise ConfigError(f"{option} {path}: there is no folder to write it into")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{option} {visible(str(path))} cannot be written: {error}"
            ) from error
    names = [real_path(path) for _, path in given]
    if len(set(names)) < len(names):
        raise ConfigError(f"{' and '.join(option for option, _ in given)} need a file each")
    for option, _ in given:
        if option in drawn and find_spec("matplotlib") is None:
            raise MissingExtraError(option, "plot")
