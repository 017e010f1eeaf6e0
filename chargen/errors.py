"""The errors that chargen raises; each is a `ChargenError` with a message of one sentence."""

from __future__ import annotations

import errno
import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 2
_BRIEF.maxstring = _BRIEF.maxother = 80

NAMED = 10
"""Rows or files that a sentence names; of the others it says how many they are."""


def brief(value: object) -> str:
    """What was found in the place of what was expected, fit for a sentence: large things cut."""
    return _BRIEF.repr(value)


def shown(name: str | os.PathLike[str]) -> str:
    """The name with every character that is not printable escaped, so that it fits a line."""
    return escaped(os.fspath(name), lambda character: not character.isprintable())


def escaped(text: str, which: Callable[[str], bool]) -> str:
    """The text with the characters of which that is true as Python's escapes of them."""
    return "".join(
        c.encode("unicode_escape", "surrogatepass").decode("ascii") if which(c) else c for c in text
    )


def spelled(characters: str) -> str:
    """Characters one by one, those that do not print as escapes."""
    return " ".join(c if c.isprintable() else ascii(c)[1:-1] for c in characters)


def named(rows: Sequence[object], word: str = "line") -> str:
    """``line 4``, ``lines 4, 5 and 7``, or the first ten and how many more there are."""
    first = [str(row) for row in rows[:NAMED]]
    if len(rows) > NAMED:
        first.append(f"{len(rows) - NAMED:,} more")
    *before, last = first
    words = f"{', '.join(before)} and {last}" if before else last
    return f"{word}{'s' if len(rows) > 1 else ''} {words}"


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
        Exit code of the command line: 2 for a wrong option or argument, 1 for a problem with the
        data, a checkpoint or the machine.
    """

    exit_code = 1


class ConfigError(ChargenError):
    """An option has an invalid value; the message names the option."""

    exit_code = 2


class CorpusError(ChargenError):
    """A text cannot be read or is too small; the message names the file and the position."""


class VocabularyError(ChargenError):
    """A vocabulary cannot encode a text, or is itself invalid."""


class CheckpointError(ChargenError):
    """A checkpoint is missing, damaged, of another kind or of a newer format."""


class TrainingError(ChargenError):
    """Training cannot continue, for instance because the loss is no longer a number."""


class CompressionError(ChargenError):
    """A compressed file is damaged, or cannot be read with this model and machine."""


class FollowerError(ChargenError):
    """Another rank ended the run and reports the reason; this one ends silently.

    Its exit code is 0, because torchrun kills all ranks at the first other code, which could
    interrupt the rank that reports the reason.
    """

    exit_code = 0


class OutOfMemoryError(ChargenError, MemoryError):
    """There was not enough memory, of the machine or of a GPU."""


_NO_MEMORY = (
    *("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc"),
    *("failed to map segment", "a primitive", "pyobject pointer is null"),
)
"""How torch, oneDNN ("could not create a primitive"), loaders and safetensors say it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; few of the libraries below say `MemoryError`."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    speaks = isinstance(error, RuntimeError | ImportError) or type(error).__name__ == (
        "PanicException"  # of Rust; its class cannot be imported
    )
    return isinstance(error, MemoryError) or (
        speaks and any(words in str(error).lower() for words in _NO_MEMORY)
    )


@contextmanager
def enough_memory(kept: Callable[[], str] = str) -> Iterator[None]:
    """Turn memory that runs out into an `OutOfMemoryError`; also a decorator.

    `kept` gives a clause on what is left.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
            raise
        # oneDNN has the same words for what it cannot do.
        reason = f" ({error})" if "a primitive" in str(error) else ""
        clause = kept()
        raise OutOfMemoryError(
            f"there is not enough memory{reason}: free some, or ask for less at once (in training "
            "a smaller --hidden-size, --batch-size or --window)" + (f"; {clause}" if clause else "")
        ) from error


class MissingExtraError(ChargenError):
    """A library of an extra is not installed; the message says how to install it.

    Parameters
    ----------
    what : str
        The feature that needs it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra: pip install 'chargen[{extra}]'")
