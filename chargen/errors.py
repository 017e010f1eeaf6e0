"""The errors that chargen raises; every one is a `ChargenError` and reads as one sentence."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable

_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 2
_BRIEF.maxstring = _BRIEF.maxother = 80


def brief(value: object) -> str:
    """What was found in the place of what was expected, fit for a sentence: large things cut."""
    return _BRIEF.repr(value)


def shown(name: str | os.PathLike[str]) -> str:
    """The name with every character that is not printable escaped, so that it fits a line."""
    text = os.fspath(name)
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, if one is near."""
    import difflib  # only a mistake needs it

    near = difflib.get_close_matches(name[:80], list(names), 1)
    return near[0] if near else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about a name that there is not: empty, or with the nearest name."""
    near = nearest(name, names)
    return f"; did you mean {near}?" if near is not None else ""


class ChargenError(Exception):
    """Base of all errors of this package.

    Attributes
    ----------
    exit_code : int
        What the command line exits with: 2 where an option or argument is wrong,
        1 where the data, a checkpoint or the machine is.
    """

    exit_code = 1


class ConfigError(ChargenError):
    """An option has a value that cannot work; the message names the option."""

    exit_code = 2


class CorpusError(ChargenError):
    """Text that cannot be read or is too small; the message names the file and the place."""


class VocabularyError(ChargenError):
    """Text that a vocabulary cannot encode, or a vocabulary that is not one."""


class CheckpointError(ChargenError):
    """A checkpoint that is missing, damaged, of another kind or of a newer format."""


class TrainingError(ChargenError):
    """Training that cannot go on, such as one whose loss is no longer a number."""


class CompressionError(ChargenError):
    """A compressed file that is damaged, or that this model and machine cannot read."""


class FollowerError(ChargenError):
    """Another rank of the same run ended it and tells why; this one ends quietly.

    Its exit code is 0, because torchrun kills the ranks that are left at the first other one, and
    the one that tells would be cut short.
    """

    exit_code = 0


class MissingExtraError(ChargenError):
    """A library of an extra is not installed; the message says how to install it.

    Parameters
    ----------
    what : str
        What needs it.
    extra : str
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra: pip install 'chargen[{extra}]'")
