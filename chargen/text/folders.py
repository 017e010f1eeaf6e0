"""The files of a folder that hold text, in an order that does not depend on the system."""

from __future__ import annotations

import fnmatch
import os
import stat
from dataclasses import replace
from pathlib import Path, PurePosixPath

from chargen.errors import CorpusError, shown
from chargen.text.config import CorpusConfig
from chargen.text.decoding import is_wide, marked_encoding
from chargen.text.files import Source, byte_blocks, from_path, unreadable

_SNIFFED = 8192  # bytes in which a file shows that it is binary


def text_files(root: Path, config: CorpusConfig, notes: list[str]) -> list[Source]:
    """What `root` and the folders below it hold, hidden, empty and binary files left out.

    `notes` gets a sentence that names the binary ones.
    """
    found: list[tuple[str, Path]] = []

    def stop(error: OSError) -> None:
        raise unreadable(shown(error.filename or root), error) from error

    for folder, folders, files in os.walk(root, onerror=stop, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(folder) / name
            relative = path.relative_to(root).as_posix()
            if not name.startswith(".") and _matches(relative, config.glob) and _is_file(path):
                found.append((relative, path))
    if not found:
        among = f" that match {config.glob!r}" if config.glob else ""
        raise CorpusError(f"{shown(root)} holds no files{among}")
    sources = [from_path(path) for _, path in sorted(found)]
    # Where JSON lies among other files it is settings as often as a table.
    sources = [replace(s, form="plain") if s.form == "json" else s for s in sources if s.size]
    binary = [] if is_wide(config.encoding) else [s for s in sources if _looks_binary(s)]
    if binary:
        names = ", ".join(source.name for source in binary[:3])
        more = f" and {len(binary) - 3} more" if len(binary) > 3 else ""
        notes.append(f"skipped files that look binary: {names}{more}")
        passed = set(binary)
        sources = [source for source in sources if source not in passed]
    if not sources:
        raise CorpusError(f"{shown(root)} holds no text: its files are empty or binary")
    return sources


def _matches(relative: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    pattern = pattern.removeprefix("**/")
    return fnmatch.fnmatch(relative if "/" in pattern else PurePosixPath(relative).name, pattern)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:  # a link to nowhere
        return False


def _looks_binary(source: Source) -> bool:
    head = next(byte_blocks(source), b"")[:_SNIFFED]
    marked = marked_encoding(head)
    return b"\0" in head and (marked is None or not is_wide(marked))
