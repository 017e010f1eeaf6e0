"""The files of a folder that hold text, in an order that does not depend on the system.

Of a corpus, and of a folder with one sub-folder per class.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath

from chargen.errors import CorpusError, named, shown
from chargen.text.config import AUTO_ENCODING, CorpusConfig
from chargen.text.detecting import is_wide, marked_encoding, wide_encoding
from chargen.text.files import Source, byte_blocks, from_path, unreadable

_UNLABELLED = "unsup"  # a folder of aclImdb
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
            if name.startswith(".") or not _matches(relative, config.glob):
                continue
            if os.path.isfile(path):  # noqa: PTH113  no error for a link to nowhere
                found.append((relative, path))
    if not found:
        among = f" that match {config.glob!r}" if config.glob else ""
        raise CorpusError(f"{shown(root)} holds no files{among}")
    sources = [from_path(path) for _, path in sorted(found)]
    # Where JSON lies among other files it is settings as often as a table.
    sources = [replace(s, form="plain") if s.form == "json" else s for s in sources if s.size]
    wide, unmarked = is_wide(config.encoding), config.encoding == AUTO_ENCODING
    binary = [] if wide else [s for s in sources if _looks_binary(s, unmarked)]
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


def _looks_binary(source: Source, unmarked: bool) -> bool:
    """Whether it has a NUL, which text has in UTF-16 and UTF-32: marked, or perhaps `unmarked`."""
    head = next(byte_blocks(source), b"")[:_SNIFFED]
    wide = marked_encoding(head) or (wide_encoding(head) if unmarked else None)
    return b"\0" in head and (wide is None or not is_wide(wide))


# ---------------------------------------------------------------- folders of classes


def class_files(root: Path, notes: list[str]) -> list[tuple[str, Path]]:
    """The .txt files below each sub-folder of `root`, with the name of that sub-folder.

    `notes` gets sentences about what is left out. Raises `CorpusError` where there are none, or the
    sub-folders hold folders of classes themselves.
    """
    texts, others = txt_files(root)
    inside = [(file.relative_to(root).parts, file) for file in texts if file.parent != root]
    found = [(parts[0], file) for parts, file in inside if parts[0] != _UNLABELLED]
    if not found:
        raise CorpusError(
            f"{shown(root)} holds no folders with .txt files: it should have one folder per class "
            "(as aclImdb/train has pos and neg)"
        )
    _refuse_parts(root, [parts for parts, _ in inside])
    others = sorted([*others, *(file for file in texts if file.parent == root)])
    if others:
        names = [shown(file.relative_to(root).as_posix()) for file in others]
        notes.append(f"{shown(root)}: not read as texts of a class: {named(names, 'file')}")
    if unlabelled := len(inside) - len(found):
        notes.append(
            f"{shown(root)}: {_UNLABELLED} holds texts without a label: left out {unlabelled:,}"
        )
    return found


def txt_files(root: Path) -> tuple[list[Path], list[Path]]:
    """The .txt files of a folder and those below it in order, and the others; none is hidden."""
    # Each sub-folder by itself, because a class's may be a link.
    found = (one.rglob("*") if one.is_dir() else [one] for one in root.iterdir())
    files = sorted(
        file
        for file in chain.from_iterable(found)
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(root).parts)
    )
    texts = [file for file in files if file.suffix.lower() == ".txt"]
    return texts, [file for file in files if file.suffix.lower() != ".txt"]


def _refuse_parts(root: Path, files: Sequence[Sequence[str]]) -> None:
    """Refuse folders of folders of classes, as aclImdb has train/pos and test/pos."""
    above: dict[str, str] = {}
    for label, *further in files:
        if len(further) > 1 and above.setdefault(further[0], label) != label:
            first = above[further[0]]
            raise CorpusError(
                f"{shown(root)}: {shown(first)} and {shown(label)} both hold a folder "
                f"{shown(further[0])}: name the folder that holds one folder per class, such as "
                f"{shown(str(root / first))}"
            )
