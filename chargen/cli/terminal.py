"""What may reach a terminal: text with nothing in it that drives the terminal."""

from __future__ import annotations

import unicodedata

import click

_PLAIN = {"\n", "\t"}
# Format characters that join or shape letters; the others turn the direction of the text around.
_SHAPING = {"\u200c", "\u200d", "\u00ad"}


def visible(text: str) -> str:
    """The text with control, direction and surrogate characters written as escapes.

    Newlines and tabs stay; so does everything that only draws.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character in _PLAIN or not _drives(character) else _escape(character)
        for character in text
    )


def _drives(character: str) -> bool:
    category = unicodedata.category(character)
    return category in ("Cc", "Cs") or (category == "Cf" and character not in _SHAPING)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def say(text: str) -> None:
    """A line for people, on stderr."""
    click.echo(visible(text), err=True)
