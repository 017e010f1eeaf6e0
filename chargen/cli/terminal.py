"""Output to a terminal or a pipe, without characters that would control the terminal."""

from __future__ import annotations

import codecs
import contextlib
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

_KEPT_CHARACTERS = {"\n", "\t"}
# Format characters that join or shape letters; others can reverse the direction of the text.
_SHAPING = {"\u200c", "\u200d", "\u00ad"}


def visible(text: str) -> str:
    """Return the text with control, direction, line-separating and surrogate characters as escapes.

    Newlines, tabs and all characters that are merely displayed are kept.
    """
    if text.isprintable():
        return text
    return escaped(
        text, lambda character: character not in _KEPT_CHARACTERS and _controls_terminal(character)
    )


def visible_json(text: str) -> str:
    """Return equivalent JSON with characters that would control a terminal as JSON escapes."""
    if text.isprintable():
        return text
    return "".join(json.dumps(c)[1:-1] if _controls_terminal(c) and c != "\n" else c for c in text)


def echo_json(value: Any) -> None:
    """Print a value as one line of JSON on stdout."""
    click.echo(visible_json(json.dumps(value, ensure_ascii=False)))


def _controls_terminal(character: str) -> bool:
    category = unicodedata.category(character)
    return category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and character not in _SHAPING)


REFRESH_SECONDS = 1 / 60
"""Seconds between two updates of text that is being written; the eye does not see more."""


def write_incrementally(
    pieces: Iterable[str], file: TextIO, show: Callable[[str], str] = str
) -> None:
    """Write pieces of text, converted by `show`, while they are being generated.

    Pieces are collected between updates, because writing each takes longer than generating it.
    """
    waiting: list[str] = []
    shown_at = 0.0
    try:
        for piece in pieces:
            waiting.append(piece)
            now = time.perf_counter()
            if now - shown_at >= REFRESH_SECONDS:
                _flush_pieces(waiting, file, show)
                shown_at = now
    finally:  # also shows what was generated before an interruption
        _flush_pieces(waiting, file, show)


def _flush_pieces(waiting: list[str], file: TextIO, show: Callable[[str], str]) -> None:
    file.write(show("".join(waiting)))
    file.flush()
    waiting.clear()


def colour_by_default() -> bool:
    """Return whether stdout may be coloured by default: it is a terminal, and NO_COLOR is unset."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


_ESCAPES = "chargen-escapes"


def prepare_streams() -> None:
    """Prepare the standard streams for any text; a program calls this once, at its start.

    Streams that were closed before the program started become the null device. Characters that the
    encoding of stdout lacks are written as JSON escapes, which are readable and keep JSON valid.
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
    """ASCII stream that is declared as UTF-8, because click replaces an ASCII stream by UTF-8."""

    def write(self, text: str) -> int:
        return super().write(text.encode("ascii", _ESCAPES).decode("ascii"))


def _open_closed_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)


def leave_closed_pipe() -> None:
    """Redirect stdout to the null device, so that Python's flush at exit raises no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Print a line for people on stderr, if it can be written: no work is lost with its reader."""
    with contextlib.suppress(OSError):
        click.echo(visible(text), err=True)


def say_notes(notes: Iterable[str]) -> None:
    """Print each distinct note once on stderr."""
    for note in dict.fromkeys(notes):
        say(f"note: {note}")


def error_message(error: Exception) -> str:
    """Return the message for an error that ends the program."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
