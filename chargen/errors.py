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

MAX_LISTED = 10
"""Maximum number of rows or files that a message lists; the rest are only counted."""


def brief(value: object) -> str:
    """Return the repr of an unexpected value for use in a message, shortened if it is long."""
    try:
        return _BRIEF.repr(value)
    except ValueError:  # Python does not write integers of thousands of digits
        return "an integer of thousands of digits"


def printable(name: str | os.PathLike[str]) -> str:
    """Return the name with unprintable characters escaped, so that it fits on one line."""
    return escaped(os.fspath(name), lambda character: not character.isprintable())


def escaped(text: str, must_escape: Callable[[str], bool]) -> str:
    """Return the text with Python escapes in place of the characters that `must_escape` selects."""
    return "".join(
        c.encode("unicode_escape", "surrogatepass").decode("ascii") if must_escape(c) else c
        for c in text
    )


def spelled(characters: str) -> str:
    """Return the characters separated by spaces, with unprintable ones escaped."""
    return " ".join(map(printable, characters))


def enumerated(rows: Sequence[object], word: str = "line") -> str:
    """Return ``line 4``, ``lines 4, 5 and 7``, or the first ten and the number of the others."""
    first = [str(row) for row in rows[:MAX_LISTED]]
    if len(rows) > MAX_LISTED:
        first.append(f"{len(rows) - MAX_LISTED:,} more")
    *before, last = first
    words = f"{', '.join(before)} and {last}" if before else last
    return f"{word}{'s' if len(rows) > 1 else ''} {words}"


def nearest_name(name: str, names: Iterable[str]) -> str | None:
    """Return the most similar of `names`, or None if none is similar to `name`."""
    import difflib  # only error messages need it

    near = difflib.get_close_matches(name[:80], list(names), 1)
    return near[0] if near else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: a suggestion, or an empty string."""
    near = nearest_name(name, names)
    return f"; did you mean {near}?" if near is not None else ""


class ChargenError(Exception):
    """Base class of all errors of this package.

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


class OneDocumentError(CorpusError):
    """A text that must be divided between documents has only one."""


class VocabularyError(ChargenError):
    """A vocabulary cannot encode a text, or is itself invalid."""


class CheckpointError(ChargenError):
    """A checkpoint is missing, damaged, of another kind or of a newer format."""


class TrainingError(ChargenError):
    """Training cannot continue, for instance because the loss is no longer a number."""


class CompressionError(ChargenError):
    """A compressed file is damaged, or cannot be read with this model and machine."""


class FollowerError(ChargenError):
    """Another rank ended the run and reports the reason; this rank ends silently.

    Its exit code is 0, because torchrun kills all ranks at the first nonzero code, which could
    interrupt the rank that reports the reason.
    """

    exit_code = 0


class OutOfMemoryError(ChargenError, MemoryError):
    """The machine or a GPU ran out of memory."""


_OUT_OF_MEMORY_WORDS = (
    *("can't allocate memory", "cannot allocate memory", "out of memory", "bad_alloc"),
    *("failed to map segment", "a primitive", "pyobject pointer is null"),
)
"""Parts of out-of-memory messages of torch, oneDNN, dynamic loaders and safetensors.

oneDNN writes "could not create a primitive".
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports a lack of memory; libraries rarely raise `MemoryError`."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    judged_by_message = isinstance(error, RuntimeError | ImportError) or type(error).__name__ == (
        "PanicException"  # from Rust; its class cannot be imported
    )
    return isinstance(error, MemoryError) or (
        judged_by_message and any(words in str(error).lower() for words in _OUT_OF_MEMORY_WORDS)
    )


@contextmanager
def convert_memory_errors(saved_clause: Callable[[], str] = str) -> Iterator[None]:
    """Convert any error that reports a lack of memory into `OutOfMemoryError`; also a decorator.

    `saved_clause` returns a clause for the message about what has been saved, or an empty string.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
            raise
        # oneDNN reports unsupported operations in the same words, so its message is included.
        reason = f" ({error})" if "a primitive" in str(error) else ""
        clause = saved_clause()
        raise OutOfMemoryError(
            f"there is not enough memory{reason}: free some, or ask for less at once (in training "
            "a smaller --hidden-size, --batch-size or --window)" + (f"; {clause}" if clause else "")
        ) from error


class MissingExtraError(ChargenError):
    """A library of an extra is not installed; the message says how to install it.

    Parameters
    ----------
    what : str
        The feature that needs the library.
    extra : str
        Name of the extra.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra: pip install 'chargen[{extra}]'")
