"""How a corpus is read, split and encoded.

Knows nothing about files or arrays: importing it costs neither numpy nor torch, so that the
command line can build its options from the fields.
"""

from __future__ import annotations

import codecs
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from chargen.errors import ConfigError

AUTO_ENCODING = "auto"
# Codecs of host names, and one that refuses everything.
_NOT_OF_FILES = ("idna", "punycode", "undefined")


def _option(
    default: Any, help: str, choices: tuple[str, ...] | None = None, **metadata: Any
) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, **metadata})


def is_text_encoding(name: str) -> bool:
    """Whether Python can decode bytes to text with the codec of this name."""
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        return False
    if info.name in _NOT_OF_FILES or info.incrementaldecoder is None:
        return False
    # rot13, hex, zlib and their like are codecs too, but not from bytes to text.
    return bool(getattr(info, "_is_text_encoding", True))


@dataclass(frozen=True)
class CorpusConfig:
    """Options of a corpus; the command line's options, defaults and help derive from it.

    Raises
    ------
    ConfigError
        When a value is impossible; the sentence names the command-line option.
    """

    heading: ClassVar[str] = "Text"

    level: str = _option(
        "char", "Read Unicode characters, or UTF-8 bytes (no unknowns).", ("char", "byte")
    )
    min_count: int = _option(
        1, "Characters seen less often than this in the corpus are read as unknown."
    )
    valid: str | None = _option(
        None,
        "Validate on this file or folder instead of the end of the corpus.",
        metavar="CORPUS",
    )
    valid_fraction: float = _option(0.1, "Share of the text, at its end, kept for validation.")
    encoding: str = _option(
        "utf-8", "Encoding of the files; 'auto' guesses it (needs chargen[detect])."
    )
    errors: str = _option(
        "strict",
        "Stop at bytes that cannot be decoded, or read them as U+FFFD.",
        ("strict", "replace"),
    )
    glob: str | None = _option(
        None, "In folders, read only the files that match, e.g. '*.txt'.", metavar="PATTERN"
    )
    text_column: str | None = _option(
        None,
        "Column or field that holds the text in .csv, .tsv and .jsonl files.",
        metavar="NAME",
    )
    normalize: str | None = _option(None, "Unicode normalization form of the text.", ("NFC",))
    documents: str | None = _option(
        None,
        "Keep documents apart: each line, file or table row is one.",
        ("lines", "files", "rows"),
    )
    clean: str | None = _option(
        None,
        "Turn HTML tags and entities into text: of each table row, else line by line (a tag that "
        "spans lines stays as it is).",
        ("html",),
    )

    max_bytes: int | None = _option(
        None,
        "Most bytes of text to take from a source, unpacked (default: as many as it has, unless a "
        "small compressed file unpacks to more than text does).",
    )

    def __post_init__(self) -> None:
        self._check_choices()
        if self.max_bytes is not None and (type(self.max_bytes) is not int or self.max_bytes < 1):
            raise ConfigError(f"--max-bytes must be a whole number from 1 on, got {self.max_bytes}")
        if type(self.min_count) is not int or self.min_count < 1:
            raise ConfigError(f"--min-count must be a whole number from 1 on, got {self.min_count}")
        fraction = self.valid_fraction
        if (
            isinstance(fraction, bool)
            or not isinstance(fraction, (int, float))
            or not math.isfinite(fraction)
            or not 0 <= fraction < 1
        ):
            raise ConfigError(f"--valid-fraction must be at least 0 and below 1, got {fraction}")
        if not isinstance(self.encoding, str) or not (
            self.encoding == AUTO_ENCODING or is_text_encoding(self.encoding)
        ):
            raise ConfigError(
                "--encoding must be 'auto' or a text encoding that Python knows"
                f" (such as utf-8, latin-1, cp1252), got {self.encoding!r}"
            )
        for option, value in (
            ("--glob", self.glob),
            ("--text-column", self.text_column),
            ("--valid", self.valid),
        ):
            if value is not None and (not isinstance(value, str) or not value):
                raise ConfigError(f"{option} must not be empty, got {value!r}")
        if self.valid == "-":
            raise ConfigError("--valid must be a file, a folder or a name, got '-'")

    def _check_choices(self) -> None:
        for option, value, choices in (
            ("--level", self.level, ("char", "byte")),
            ("--errors", self.errors, ("strict", "replace")),
            ("--normalize", self.normalize, (None, "NFC")),
            ("--documents", self.documents, (None, "lines", "files", "rows")),
            ("--clean", self.clean, (None, "html")),
        ):
            if value not in choices:
                allowed = " or ".join(repr(choice) for choice in choices if choice is not None)
                raise ConfigError(f"{option} must be {allowed}, got {value!r}")
