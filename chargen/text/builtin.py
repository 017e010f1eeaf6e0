"""Text that every Python carries with it: its language reference and its standard library."""

from __future__ import annotations

import io
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from chargen.errors import CorpusError
from chargen.text.decoding import newlines
from chargen.text.files import Source, from_path

NAMES = ("python-docs", "python-stdlib")
# (name, language, licence, what it is)
DESCRIPTIONS = (
    ("python-docs", "English", "PSF-2.0", "the language reference that every Python carries"),
    ("python-stdlib", "Python", "PSF-2.0", "the source of Python's standard library"),
)
_LEFT_OUT = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}


def resolve_builtin(name: str) -> list[Source]:
    if name == "python-docs":
        return [Source(name, form="topics", size=sum(len(text) for text in topics()))]
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path.relative_to(root).as_posix() for path in _python_files(root))
    if not paths:
        raise CorpusError("python-stdlib: this Python does not include the source of its library")
    found = (from_path(root / path, f"{name}/{path}") for path in paths)
    return [replace(source, form="python") for source in found]


def _python_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name in _LEFT_OUT or path.is_symlink():
            continue
        if path.is_dir():
            yield from _python_files(path)
        elif path.suffix == ".py" and path.is_file():
            yield path


def topics() -> list[str]:
    """The language reference by topic, in the order of the topics' names."""
    try:
        from pydoc_data.topics import topics as found
    except ImportError as error:
        raise CorpusError("python-docs: this Python does not include pydoc_data.topics") from error
    # Some versions keep markup that breaks lines with carriage returns.
    return [newlines(found[name]) for name in sorted(found)]


def decode_python(blocks: Iterable[bytes], name: str, notes: list[str]) -> str:
    """A source file as text by its coding line; empty, with a note, when it cannot be decoded."""
    data = b"".join(blocks)
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
        text.encode("utf-8")  # no lone surrogates
        if "\0" in text:
            raise ValueError("it holds a NUL")
    except (SyntaxError, ValueError, LookupError) as error:
        notes.append(f"{name} was skipped: {error}")
        return ""
    return newlines(text)
