"""Texts that come with Python: its language reference and its standard library."""

from __future__ import annotations

import io
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from chargen.errors import CorpusError
from chargen.text.decoding import normalize_newlines
from chargen.text.files import Source, from_path

NAMES = ("python-docs", "python-stdlib")
# (name, language, licence, description)
DESCRIPTIONS = (
    ("python-docs", "English", "PSF-2.0", "the language reference that comes with every Python"),
    ("python-stdlib", "Python", "PSF-2.0", "the source of Python's standard library"),
)
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}


def resolve_builtin(name: str) -> list[Source]:
    if name == "python-docs":
        return [Source(name, form="topics", size=sum(len(text) for text in topics()))]
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(path.relative_to(root).as_posix() for path in _python_files(root))
    if not paths:
        raise CorpusError("python-stdlib: this Python does not include the source of its library")
    sources = (from_path(root / path, f"{name}/{path}") for path in paths)
    return [replace(source, form="python") for source in sources]


def _python_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name in _SKIPPED_FOLDERS or path.is_symlink():
            continue
        if path.is_dir():
            yield from _python_files(path)
        elif path.suffix == ".py" and path.is_file():
            yield path


def topics() -> list[str]:
    """Return the language reference as one text per topic, sorted by topic name."""
    try:
        from pydoc_data.topics import topics as texts
    except ImportError as error:
        raise CorpusError("python-docs: this Python does not include pydoc_data.topics") from error
    # In some versions of Python the markup of the topics has carriage returns as line breaks.
    return [normalize_newlines(texts[name]) for name in sorted(texts)]


def decode_python(blocks: Iterable[bytes], name: str, notes: list[str]) -> str:
    """Decode a Python source file by its coding line; return "" and add a note if that fails."""
    data = b"".join(blocks)
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
        text.encode("utf-8")  # raises ValueError for lone surrogates
        if "\0" in text:
            raise ValueError("it holds a NUL")
    except (SyntaxError, ValueError, LookupError) as error:
        notes.append(f"{name} was skipped: {error}")
        return ""
    return normalize_newlines(text)
