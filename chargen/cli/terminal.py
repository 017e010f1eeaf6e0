"""What may reach a terminal: text with nothing in it that drives the terminal."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

import click

from chargen.errors import escaped

_PLAIN = {"\n", "\t"}
# Format characters that join or shape letters; the others turn the direction of the text around.
_SHAPING = {"\u200c", "\u200d", "\u00ad"}


def visible(text: str) -> str:
    """The text with control, direction and surrogate characters written as escapes.

    Newlines and tabs stay; so does everything that only draws.
    """
    if text.isprintable():
        return text
    return escaped(text, lambda character: character not in _PLAIN and _drives(character))


def visible_json(text: str) -> str:
    """The same JSON with what would drive a terminal as escapes of JSON: as a value it is equal."""
    if text.isprintable():
        return text
    return "".join(json.dumps(c)[1:-1] if _drives(c) and c != "\n" else c for c in text)


def echo_json(value: Any) -> None:
    """A value as a line of JSON on stdout."""
    click.echo(visible_json(json.dumps(value, ensure_ascii=False)))


def _drives(character: str) -> bool:
    category = unicodedata.category(character)
    return category in ("Cc", "Cs") or (category == "Cf" and character not in _SHAPING)


REFRESH_SECONDS = 1 / 60
"""Time between two moments at which flowing text is shown: the eye sees no more of them."""


def write_flowing(pieces: Iterable[str], file: TextIO, show: Callable[[str], str] = str) -> None:
    """Write pieces of text while they are being made, each as `show` gives it.

    Showing each piece by itself would take longer than making it.
    """
    waiting: list[str] = []
    shown_at = 0.0
    try:
        for piece in pieces:
            waiting.append(piece)
            now = time.perf_counter()
            if now - shown_at >= REFRESH_SECONDS:
                _show(waiting, file, show)
                shown_at = now
    finally:  # what was made before an interruption is shown too
        _show(waiting, file, show)


def _show(waiting: list[str], file: TextIO, show: Callable[[str], str]) -> None:
    file.write(show("".join(waiting)))
    file.flush()
    waiting.clear()


def colourful() -> bool:
    """Whether what goes to stdout may be coloured where nobody says so."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


_ESCAPES = "chargen-escapes"


def prepare_streams() -> None:
    """Make the standard streams fit for all that a program writes; it calls this once, at first.

    Where whoever started us has closed them they lead nowhere. What the encoding of stdout cannot
    hold is written as an escape of JSON, which people can read and which keeps JSON what it is.
    """
    _open_closed_streams()
    stdout = sys.stdout
    if not isinstance(stdout, io.TextIOWrapper):
        return
    codecs.register_error(_ESCAPES, _escapes)
    stdout.reconfigure(errors=_ESCAPES)
    if codecs.lookup(stdout.encoding).name == "ascii":
        stdout.flush()
        sys.stdout = _Ascii(stdout.buffer, "utf-8", line_buffering=stdout.line_buffering)


def _escapes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


class _Ascii(io.TextIOWrapper):
    """Writes ASCII and calls it UTF-8: a stream called ASCII click replaces by one of UTF-8."""

    def write(self, text: str) -> int:
        return super().write(text.encode("ascii", _ESCAPES).decode("ascii"))


def _open_closed_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)


def leave_closed_pipe() -> None:
    """Let stdout lead nowhere: Python would complain at exit, when it flushes what nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """A line for people, on stderr."""
    click.echo(visible(text), err=True)


def say_notes(notes: Iterable[str]) -> None:
    """Each note once, on stderr."""
    for note in dict.fromkeys(notes):
        say(f"note: {note}")


def sentence(error: Exception) -> str:
    """What `say` tells of an error that ends the program."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
