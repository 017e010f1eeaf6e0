"""Find the text files of a folder, in an order that does not depend on the system.

The folder holds either a corpus or one sub-folder per class.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from chargen.errors import CorpusError, enumerated, printable
from chargen.storage.shipped import MANIFEST
from chargen.text.config import AUTO_ENCODING, CorpusConfig
from chargen.text.detecting import is_wide, marked_encoding, wide_encoding
from chargen.text.files import Source, byte_blocks, from_path, unreadable

_UNLABELLED = "unsup"  # aclImdb's folder of texts without labels
_INSPECTED_BYTES = 8192  # bytes at the start of a file that are searched for a NUL


def text_files(root: Path, config: CorpusConfig, notes: list[str]) -> list[Source]:
    """Return the files in and below `root`, except hidden, empty and binary files and checkpoints.

    `notes` gets sentences that name the binary files and the checkpoints. Raises `CorpusError` if
    no file is left.
    """
    checkpoints: list[str] = []
    visible = _visible_files(root, checkpoints)
    files = ((path.relative_to(root).as_posix(), path) for path in visible)
    matches = [(name, path) for name, path in files if _matches(name, config.glob)]
    if checkpoints:
        notes.append(f"skipped in {printable(root)}: {enumerated(checkpoints, 'checkpoint')}")
    if not matches:
        among = f" that match {config.glob!r}" if config.glob else ""
        raise CorpusError(f"{printable(root)} holds no files{among}")
    sources = [from_path(path) for _, path in sorted(matches)]
    # A JSON file in a folder is as often settings as a table, so it is read as plain text.
    sources = [replace(s, form="plain") if s.form == "json" else s for s in sources if s.size]
    wide, unmarked = is_wide(config.encoding), config.encoding == AUTO_ENCODING
    binary = [] if wide else [s for s in sources if _looks_binary(s, unmarked)]
    if binary:
        names = ", ".join(source.name for source in binary[:3])
        more = f" and {len(binary) - 3} more" if len(binary) > 3 else ""
        notes.append(f"skipped files that look binary: {names}{more}")
        skipped = set(binary)
        sources = [source for source in sources if source not in skipped]
    if not sources:
        raise CorpusError(f"{printable(root)} holds no text: its files are empty or binary")
    return sources


def _visible_files(root: Path, checkpoints: list[str]) -> Iterator[Path]:
    """Yield the files in and below a folder, except hidden ones; follow no links to folders.

    Checkpoints below it are left out and added to `checkpoints`: a run that is saved in the folder
    that it reads would change its own text. Raises `CorpusError` if a folder cannot be read.
    """

    def stop(error: OSError) -> None:
        raise unreadable(printable(error.filename or root), error) from error

    for folder, folders, files in os.walk(root, onerror=stop):
        visible = [Path(folder) / name for name in folders if not name.startswith(".")]
        skipped = [path for path in visible if _is_checkpoint(path)]
        checkpoints += sorted(printable(path.relative_to(root).as_posix()) for path in skipped)
        folders[:] = [path.name for path in visible if path not in skipped]
        for name in files:
            path = Path(folder) / name
            if not name.startswith(".") and os.path.isfile(path):  # noqa: PTH113  broken links
                yield path


def _is_checkpoint(folder: Path) -> bool:
    path = folder / MANIFEST
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            manifest = json.loads(file.read(1 << 20))
    except (OSError, ValueError, RecursionError):
        return False
    # Other programs have files of that name.
    return isinstance(manifest, dict) and manifest.keys() >= {"format_version", "kind", "files"}


def _matches(relative: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    if "**/" in pattern:  # any number of folders; in fnmatch "*/" stands for one or more
        variants = (pattern.replace("**/", folders, 1) for folders in ("", "*/"))
        return any(_matches(relative, variant) for variant in variants)
    return fnmatch.fnmatch(relative if "/" in pattern else PurePosixPath(relative).name, pattern)


def _looks_binary(source: Source, allow_unmarked: bool) -> bool:
    """Return whether the start of a file contains a NUL, but is not UTF-16 or UTF-32.

    These encodings without a byte order mark are considered only if `allow_unmarked` is true.
    """
    head = next(byte_blocks(source), b"")[:_INSPECTED_BYTES]
    wide = marked_encoding(head) or (wide_encoding(head) if allow_unmarked else None)
    return b"\0" in head and (wide is None or not is_wide(wide))


# ---------------------------------------------------------------- folders of classes


def class_files(root: Path, notes: list[str]) -> list[tuple[str, Path]]:
    """Return the .txt files below each sub-folder of `root`, each with that sub-folder's name.

    `notes` gets sentences about files that are left out. Raises `CorpusError` if there are no such
    files, or if the sub-folders themselves hold folders of classes.
    """
    texts, others = txt_files(root)
    inside = [(file.relative_to(root).parts, file) for file in texts if file.parent != root]
    labelled = [(parts[0], file) for parts, file in inside if parts[0] != _UNLABELLED]
    if not labelled:
        raise CorpusError(
            f"{printable(root)} holds no folders with .txt files: it should have one folder per "
            "class (as aclImdb/train has pos and neg)"
        )
    _refuse_nested_classes(root, [parts for parts, _ in inside])
    others = sorted([*others, *(file for file in texts if file.parent == root)])
    if others:
        names = [printable(file.relative_to(root).as_posix()) for file in others]
        notes.append(
            f"{printable(root)}: not read as texts of a class: {enumerated(names, 'file')}"
        )
    if unlabelled := len(inside) - len(labelled):
        notes.append(
            f"{printable(root)}: {_UNLABELLED} holds texts without a label, which are left out: "
            f"{unlabelled:,}"
        )
    return labelled


def txt_files(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the .txt files and the other files below `root`, both sorted; omit hidden files."""
    files = list(_visible_files(root, []))
    for entry in root.iterdir():  # the folder of a class may be a link
        if entry.is_symlink() and entry.is_dir() and not entry.name.startswith("."):
            files += _visible_files(entry, [])
    files.sort()
    texts = [file for file in files if file.suffix.lower() == ".txt"]
    return texts, [file for file in files if file.suffix.lower() != ".txt"]


def _refuse_nested_classes(root: Path, files: Sequence[Sequence[str]]) -> None:
    """Raise `CorpusError` for folders of class folders, as aclImdb has train/pos and test/pos."""
    parents: dict[str, str] = {}
    for label, *rest in files:
        if len(rest) > 1 and parents.setdefault(rest[0], label) != label:
            first = parents[rest[0]]
            raise CorpusError(
                f"{printable(root)}: {printable(first)} and {printable(label)} both hold a folder "
                f"{printable(rest[0])}: name the folder that holds one folder per class, such as "
                f"{printable(str(root / first))}"
            )
