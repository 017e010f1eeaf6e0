"""Options for reading, splitting and encoding a corpus; no file or array is touched here."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

from chargen.errors import ConfigError, brief
from chargen.options import Options, option

AUTO_ENCODING = "auto"
MINIMUM_CHARACTERS = 64
"""Smallest number of characters that training accepts."""
DOCUMENT_MODES = ("lines", "files", "rows", "blank-lines")
"""Ways to separate documents; the alternative is a marker, a line that ends each document."""
# Codecs for host names, and one that rejects everything.
_UNSUPPORTED_CODECS = ("idna", "punycode", "undefined")


def is_text_encoding(name: str) -> bool:
    """Return whether Python has a codec of this name that decodes bytes to text."""
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        return False
    if info.name in _UNSUPPORTED_CODECS or info.incrementaldecoder is None:
        return False
    # rot13, hex, zlib and the like are codecs too, but do not decode bytes to text.
    return bool(getattr(info, "_is_text_encoding", True))


def check_encoding(name: str) -> None:
    """Raise `ConfigError` unless `name` is "auto" or an encoding that files can be read in."""
    if name != AUTO_ENCODING and not is_text_encoding(name):
        raise ConfigError(
            "--encoding must be 'auto' or a text encoding that Python knows"
            f" (such as utf-8, latin-1, cp1252), got {name!r}"
        )


def normal_label(label: str) -> str:
    """Return a label without surrounding blanks, in Unicode normalization form NFC."""
    return unicodedata.normalize("NFC", label.strip())


def matching_label(label: Any, labels: Collection[str]) -> Any:
    """Return the one of `labels` that `label` is after `normal_label`, or `label` if none is."""
    if not isinstance(label, str) or label in labels:
        return label
    normal = normal_label(label)
    return normal if normal in labels else label


@dataclass(frozen=True)
class TableConfig(Options):
    """Options for reading tables of texts."""

    heading: ClassVar[str] = "Text"

    advice: ClassVar[str] = ""
    """End of the message about a missing column: what else the user can do."""

    text_column: tuple[str, ...] = option(
        (),
        "Column of the text (default: found by its usual names); if given several times, the "
        "columns are joined by newlines.",
        metavar="NAME",
    )
    delimiter: str | None = option(
        None,
        "Character that separates the fields of a table, or 'tab' (default: whichever of , ; | "
        "and tab fits).",
        metavar="CHARACTER",
    )
    header: bool = option(
        True,
        "Whether the first row of a table names its columns; otherwise they are called 1, 2, 3.",
    )
    quoting: str | None = option(
        None,
        "Whether quotes enclose the fields of a table (csv) or are part of the text (none; "
        "default: inferred from the table).",
        choices=("csv", "none"),
    )
    encoding: str = option(
        "utf-8", "Encoding of the files; 'auto' guesses it (needs chargen[detect])."
    )
    errors: str = option(
        "strict",
        "Stop at bytes that cannot be decoded, or replace them with U+FFFD.",
        choices=("strict", "replace"),
    )

    def __post_init__(self) -> None:
        columns: Any = self.text_column
        if columns is None:  # in checkpoints older than the choice of several columns
            object.__setattr__(self, "text_column", ())
        super().__post_init__()
        check_encoding(self.encoding)
        if self.delimiter is not None:
            aliases = {"tab": "\t", "\\t": "\t"}
            object.__setattr__(self, "delimiter", aliases.get(self.delimiter, self.delimiter))
            if len(self.delimiter) != 1 or self.delimiter in '"\r\n\0':
                raise ConfigError(
                    f"--delimiter must be one character or 'tab', got {self.delimiter!r}"
                )
        if len(set(self.text_column)) < len(self.text_column):
            raise ConfigError("--text-column must name each column once")

    @property
    def max_bytes(self) -> int | None:
        """Largest size of a source in bytes, or None; an option of `CorpusConfig` alone."""
        return None

    @property
    def separated_options(self) -> list[str]:
        """Names of the options in use that describe separated fields and do not apply to JSON."""
        given = {
            "--delimiter": self.delimiter is not None,
            "--quoting": self.quoting is not None,
            "--no-header": not self.header,
        }
        return [name for name, is_given in given.items() if is_given]

    @property
    def table_options(self) -> list[str]:
        """Names of the options in use that apply only to tables."""
        return ["--text-column"] * bool(self.text_column) + self.separated_options


@dataclass(frozen=True)
class CorpusConfig(TableConfig):
    """Options for reading, splitting and encoding a corpus."""

    advice: ClassVar[str] = " (or read the file as plain text from standard input: - < file)"

    level: str = option(
        "char",
        "Read Unicode characters, or UTF-8 bytes (then no symbol is unknown).",
        choices=("char", "byte"),
    )
    min_count: int = option(
        1, "Characters that occur less often in the corpus are read as unknown.", low=1
    )
    valid: str | None = option(
        None, "Validate on this file or folder instead of the end of the corpus.", metavar="CORPUS"
    )
    valid_fraction: float = option(
        0.1, "Share of each file, at its end, kept for validation.", low=0, below=1
    )
    # False for runs of earlier versions, which did not split each file.
    valid_of_each: bool = option(True)
    raw_bytes: bool = option(
        False, "Learn the bytes of any file without decoding them; implies --level byte."
    )
    glob: str | None = option(
        None, "In folders, read only the files that match, e.g. '*.txt'.", metavar="PATTERN"
    )
    label_column: str | None = option(
        None,
        "Column that holds a label: each row is a document, read after its label (see chargen "
        "sample --label).",
        metavar="NAME",
    )
    normalize: str | None = option(
        None, "Unicode normalization form of the text.", choices=("NFC",)
    )
    documents: str | None = option(
        None,
        "Keep documents apart: each line, file or table row is one, or documents end at blank "
        "lines, or at lines that are exactly TEXT (which are not learnt).",
        metavar="lines|files|rows|blank-lines|TEXT",
    )
    clean: str | None = option(
        None,
        "Turn HTML tags and entities into text. Files that are not tables are cleaned line by "
        "line, so a tag that spans lines is not changed.",
        choices=("html",),
    )
    max_bytes: int | None = option(
        None,
        "Largest size of a source in bytes, after unpacking (default: no limit, but a compressed "
        "file that unpacks to more than text usually does is refused).",
        low=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if "\n" in (self.documents or ""):
            raise ConfigError(f"--documents must be on one line, got {brief(self.documents)}")
        if self.raw_bytes:
            self._check_raw()
        if self.label_column is not None:
            self._check_labels()
        if self.valid == "-":
            raise ConfigError("--valid must be a file, a folder or a name, got '-'")

    def _check_raw(self) -> None:
        object.__setattr__(self, "level", "byte")
        given = {
            "--normalize": self.normalize is not None,
            "--clean": self.clean is not None,
            "--encoding": self.encoding != "utf-8",
            "--errors": self.errors != "strict",
        }
        refused = self.table_options + [name for name, is_given in given.items() if is_given]
        if refused:
            raise ConfigError(f"--raw-bytes reads no text: leave {refused[0]} out")
        if self.documents not in (None, "files"):
            raise ConfigError(
                f"--raw-bytes reads no lines or rows: --documents must be 'files', got "
                f"{brief(self.documents)}"
            )

    def _check_labels(self) -> None:
        if self.documents not in (None, "rows"):
            raise ConfigError(
                f"--label-column keeps rows apart: --documents must be 'rows', got "
                f"{brief(self.documents)}"
            )
        if self.label_column in self.text_column:
            raise ConfigError(
                f"text and label would both be read from {self.label_column!r}: choose with "
                "--text-column and --label-column"
            )
        object.__setattr__(self, "documents", "rows")

    @property
    def table_options(self) -> list[str]:
        """Names of the options in use that apply only to tables."""
        return super().table_options + ["--label-column"] * (self.label_column is not None)

    @property
    def marker(self) -> str | None:
        """The line that ends each document, or None if documents do not end at such a line.

        It is normalized like the text in which it is looked for.
        """
        if self.documents is None or self.documents in DOCUMENT_MODES:
            return None
        if self.normalize == "NFC":
            return unicodedata.normalize("NFC", self.documents)
        return self.documents
