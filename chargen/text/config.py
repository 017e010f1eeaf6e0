"""How a corpus is read, split and encoded; knows nothing about files or arrays."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import ClassVar

from chargen.errors import ConfigError, brief
from chargen.options import Options, option

AUTO_ENCODING = "auto"
MINIMUM_CHARACTERS = 64
"""Fewer are not trained on."""
WAYS = ("lines", "files", "rows", "blank-lines")
"""How documents are kept apart, beside a marker: a line that ends one."""
# Codecs of host names, and one that refuses everything.
_NOT_OF_FILES = ("idna", "punycode", "undefined")

ENCODING = option("utf-8", "Encoding of the files; 'auto' guesses it (needs chargen[detect]).")
ERRORS = option(
    "strict",
    "Stop at bytes that cannot be decoded, or read them as U+FFFD.",
    choices=("strict", "replace"),
)


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


def check_encoding(name: str) -> None:
    """Raise `ConfigError` unless files can be read in this encoding."""
    if name != AUTO_ENCODING and not is_text_encoding(name):
        raise ConfigError(
            "--encoding must be 'auto' or a text encoding that Python knows"
            f" (such as utf-8, latin-1, cp1252), got {name!r}"
        )


@dataclass(frozen=True)
class CorpusConfig(Options):
    """Options of a corpus."""

    heading: ClassVar[str] = "Text"

    level: str = option(
        "char", "Read Unicode characters, or UTF-8 bytes (no unknowns).", choices=("char", "byte")
    )
    min_count: int = option(
        1, "Characters seen less often than this in the corpus are read as unknown.", low=1
    )
    valid: str | None = option(
        None, "Validate on this file or folder instead of the end of the corpus.", metavar="CORPUS"
    )
    valid_fraction: float = option(
        0.1, "Share of each file, at its end, kept for validation.", low=0, below=1
    )
    # Runs of earlier versions kept the end of the last of several files.
    valid_of_each: bool = option(True)
    encoding: str = ENCODING
    errors: str = ERRORS
    raw_bytes: bool = option(
        False, "With --level byte, which it implies: learn the bytes of any file, decoding nothing."
    )
    glob: str | None = option(
        None, "In folders, read only the files that match, e.g. '*.txt'.", metavar="PATTERN"
    )
    text_column: str | None = option(
        None, "Column or field that holds the text in .csv, .tsv and .jsonl files.", metavar="NAME"
    )
    label_column: str | None = option(
        None,
        "Column or field that holds a label: each row is a document that is read after it (see "
        "chargen sample --label).",
        metavar="NAME",
    )
    normalize: str | None = option(
        None, "Unicode normalization form of the text.", choices=("NFC",)
    )
    documents: str | None = option(
        None,
        "Keep documents apart: each line, file or table row is one, or one ends at blank lines, or "
        "at a line that is exactly TEXT (which is not learnt).",
        metavar="lines|files|rows|blank-lines|TEXT",
    )
    clean: str | None = option(
        None,
        "Turn HTML tags and entities into text: of each table row, else line by line (a tag that "
        "spans lines stays as it is).",
        choices=("html",),
    )
    max_bytes: int | None = option(
        None,
        "Most bytes of text to take from a source, unpacked (default: as many as it has, unless a "
        "small compressed file unpacks to more than text does).",
        low=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_encoding(self.encoding)
        if "\n" in (self.documents or ""):
            raise ConfigError(f"--documents must be on one line, got {brief(self.documents)}")
        if self.label_column is not None:
            if self.documents not in (None, "rows"):
                raise ConfigError(
                    f"--label-column keeps rows apart: --documents must be 'rows', got "
                    f"{brief(self.documents)}"
                )
            object.__setattr__(self, "documents", "rows")
        if self.raw_bytes:
            self._check_raw()
        if self.valid == "-":
            raise ConfigError("--valid must be a file, a folder or a name, got '-'")

    def _check_raw(self) -> None:
        object.__setattr__(self, "level", "byte")
        if self.documents not in (None, "files"):
            raise ConfigError(
                f"--raw-bytes knows no lines and rows: --documents must be 'files', got "
                f"{self.documents!r}"
            )
        for name in ("text_column", "normalize", "clean"):
            if getattr(self, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"--raw-bytes reads no text: leave {option} out")

    @property
    def marker(self) -> str | None:
        """The line that ends a document, where documents are told by one."""
        return None if self.documents in WAYS else self.documents
