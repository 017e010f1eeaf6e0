"""Checkpoints: directories of safetensors and JSON, replaced atomically and verified when read.

    DIR/manifest.json            format version, kind, and size and SHA-256 of each NAME.* file
    DIR/NAME.safetensors         tensors
    DIR/NAME.json                configuration, vocabulary
    DIR/metrics.jsonl            the log of a run, for people and plots; loading ignores it

This module stores named tensors and JSON values, and is independent of models and vocabularies.
Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
from torch import Tensor

from chargen.errors import CheckpointError, brief, convert_memory_errors
from chargen.storage import shipped
from chargen.storage.directories import (
    keep_other_entries,
    make_directory,
    real_path,
    replace_directory,
    sync_file,
    sync_path,
)
from chargen.storage.verified import (
    SUFFIXES,
    check_memory,
    check_size,
    manifest_entries,
    parse_json,
    read_plain_file,
    read_tensors,
    read_verified,
    stated_size,
)

MANIFEST, METRICS = shipped.MANIFEST, shipped.METRICS

FORMAT_VERSION = 1
"""The format that `save` writes and `load` reads; a later format has a higher number."""


@dataclass
class Checkpoint:
    """The contents of a checkpoint directory."""

    kind: str  # "language-model" or another kind of model
    # keyed by path without suffix: "config", "vocabulary", "training/state"
    documents: dict[str, Any] = field(default_factory=dict)
    # keyed by path without suffix: "model", "training/optimizer"; all on the CPU
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    path: Path | None = None  # the directory it was read from

    def document(self, name: str) -> dict[str, Any]:
        """Return a JSON object by name; raise `CheckpointError` if it is missing or not one."""
        value = self.documents.get(name)
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.path}: {name}.json is missing or not an object")
        return value

    def tensors_in(self, name: str) -> dict[str, dict[str, Tensor]]:
        """Return the groups of tensors in a subfolder, keyed by their paths within it."""
        start = name + "/"
        return {
            path.removeprefix(start): group
            for path, group in self.tensors.items()
            if path.startswith(start)
        }

    def add_training_state(
        self, document: dict[str, Any], tensors: dict[str, dict[str, Tensor]]
    ) -> None:
        """Add the state that only resuming needs: a JSON document and named groups of tensors."""
        self.documents["training/state"] = document
        self.tensors |= {f"training/{name}": group for name, group in tensors.items()}


# ---------------------------------------------------------------- writing


@convert_memory_errors()
def save(directory: Path, checkpoint: Checkpoint, *, metrics: Sequence[str] = ()) -> None:
    """Write a checkpoint and the lines of its log atomically.

    Everything is written to a hidden sibling, synced, and moved to `directory` by one rename. An
    earlier checkpoint is removed only after that; it stays if `CheckpointError` is raised.
    """
    directory = real_path(directory)  # a link is kept, and its target is replaced
    writing = _sibling(directory, "writing")
    try:
        if directory.exists() and not directory.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        make_directory(directory.parent)
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir()
        try:
            old = _current_directory(directory)
            if old.is_dir():
                shutil.copymode(old, writing)  # a private folder stays private
            _write_files(writing, checkpoint)
            if metrics:
                text = "".join(line + "\n" for line in metrics)
                with (writing / METRICS).open("w", encoding="utf-8") as file:
                    file.write(text)
                    sync_file(file)
            if old.is_dir():
                keep_other_entries(old, writing, _own_entries(old))
            sync_path(writing)
            replace_directory(writing, directory, _sibling(directory, "previous"))
        finally:
            shutil.rmtree(writing, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"cannot write the checkpoint {directory}: {reason}") from error


def _own_entries(directory: Path) -> set[str]:
    """Return the names of the files and folders in a checkpoint's folder that belong to it."""
    try:
        listed = {Path(name).parts[0] for name in file_sizes(directory)}
    except CheckpointError:  # it is damaged
        listed = {path.name for path in directory.iterdir() if path.suffix in SUFFIXES}
    return {MANIFEST, METRICS, "training", *listed}


def check_writable(directory: Path) -> None:
    """Raise `CheckpointError`, before a run does its work, if no checkpoint can be written."""
    directory = real_path(directory)
    if directory.is_symlink():  # only a cycle of links remains a link
        raise CheckpointError(f"cannot write {directory}: {os.strerror(errno.ELOOP)}")
    # Saving replaces the directory: a mount point cannot be replaced, and a working directory would
    # no longer exist.
    if os.path.ismount(directory):
        raise CheckpointError(f"cannot write {directory}: it is a mount point; name a folder in it")
    with contextlib.suppress(FileNotFoundError):  # the working directory has been removed
        if Path.cwd().is_relative_to(directory):
            raise CheckpointError(
                f"cannot write {directory}: the working directory is in it; start from another one"
            )
    # The old files could not be removed, nor the folder be written again.
    if directory.is_dir() and not os.access(directory, os.W_OK):
        raise CheckpointError(f"cannot write {directory}: {os.strerror(errno.EACCES)}")
    probe = _sibling(directory, "writing")
    try:
        make_directory(probe.parent)
        shutil.rmtree(probe, ignore_errors=True)
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"cannot write to {directory.parent}: {reason}") from error


def file_contents(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return the contents of a checkpoint's files, including the manifest, by file name.

    Raises `CheckpointError` if `load` could not read a file again because of its size.
    """
    contents: dict[str, bytes] = {}
    for name, tensors in checkpoint.tensors.items():
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        check_memory(3 * sum(value.nbytes for value in contiguous.values()))  # packing makes copies
        contents[name + ".safetensors"] = safetensors.torch.save(contiguous)
    for name, document in checkpoint.documents.items():
        contents[name + ".json"] = to_json(document)
    for name, data in contents.items():
        check_size(Path(name), data)
    files = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(contents.items())
    }
    manifest = {"format_version": FORMAT_VERSION, "kind": checkpoint.kind, "files": files}
    contents[MANIFEST] = to_json(manifest)
    return contents


def _write_files(folder: Path, checkpoint: Checkpoint) -> None:
    contents = file_contents(checkpoint)
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            sync_file(file)
    for subfolder in {(folder / name).parent for name in contents} - {folder}:
        sync_path(subfolder)


def to_json(value: Any) -> bytes:
    """Return a document as the content of a file."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    # File names may contain lone surrogates; only their escapes are valid in UTF-8.
    return text.encode("utf-8", "backslashreplace")


def _sibling(directory: Path, role: str) -> Path:
    return directory.parent / f".{directory.name}.{role}"  # with_name refuses the root


def _current_directory(directory: Path) -> Path:
    """Return the directory that holds a checkpoint now.

    On a system without an atomic exchange, that is a sibling of `directory` between the two renames
    of `replace_directory`, and after a crash between them.
    """
    previous = _sibling(real_path(directory), "previous")
    return previous if not directory.exists() and (previous / MANIFEST).exists() else directory


# ---------------------------------------------------------------- reading


@convert_memory_errors()
def load(
    directory: str | os.PathLike[str], kind: str | None = None, *, training: bool = False
) -> Checkpoint:
    """Read and verify a checkpoint, or a shipped model by its name (see `chargen.storage.shipped`).

    With `training`, also read the files that only resuming needs. Raises `CheckpointError` if the
    checkpoint is missing, incomplete, changed since it was written, of another kind or of a newer
    format, and `OutOfMemoryError` if it does not fit into memory.
    """
    try:
        return _load(shipped.resolve(Path(directory)), kind, training)
    except OSError as error:  # of the path itself, such as a name that is too long
        raise CheckpointError(f"cannot read {directory}: {error.strerror}") from error


def _load(path: Path, kind: str | None, training: bool) -> Checkpoint:
    """Read a checkpoint, again if it is replaced meanwhile."""
    last_failure = None
    for attempt in range(20):
        source = _current_directory(path)
        manifest = None
        try:
            manifest = read_manifest(source)
            return _read_files(source, manifest, kind, training)
        except CheckpointError as error:
            # A run may just have replaced the checkpoint: then read the new one.
            failure = (source, manifest, str(error))
            if failure == last_failure:
                raise
            last_failure = failure
            time.sleep(0.001 * attempt)
    raise CheckpointError(f"{path} changes faster than it can be read")


def read_manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}{shipped.checkpoint_suggestion(path)}")
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a checkpoint: a checkpoint is a directory")
    if not (path / MANIFEST).exists():
        raise CheckpointError(f"{path} is not a checkpoint: it has no {MANIFEST}")
    manifest = parse_json(path / MANIFEST, read_plain_file(path / MANIFEST, limit=1 << 20))
    if not isinstance(manifest, dict):
        raise CheckpointError(f"{path / MANIFEST} is not a JSON object")
    version = manifest.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format {brief(version)}, newer than this version of chargen can read "
            f"({FORMAT_VERSION}): update chargen"
        )
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path / MANIFEST}: format_version is {brief(version)}")
    return manifest


def exists(directory: Path) -> bool:
    """Return whether `directory` looks like a checkpoint; its files may still be damaged."""
    return (_current_directory(directory) / MANIFEST).exists()


def kind_of(directory: Path) -> str | None:
    """Return the kind of model that a checkpoint's manifest states; None if it is unreadable."""
    try:
        kind = read_manifest(directory).get("kind")
    except (CheckpointError, OSError):
        return None
    return kind if isinstance(kind, str) else None


def _read_files(
    path: Path, manifest: dict[str, Any], kind: str | None, training: bool
) -> Checkpoint:
    stated_kind = manifest.get("kind")
    if not isinstance(stated_kind, str) or not stated_kind.isprintable() or len(stated_kind) > 80:
        raise CheckpointError(f"{path / MANIFEST}: kind is {brief(stated_kind)}")
    if kind is not None and stated_kind != kind:
        raise CheckpointError(f"{path} is a {stated_kind} checkpoint; a {kind} one is needed here")
    checkpoint = Checkpoint(stated_kind, path=path)
    for name, entry in manifest_entries(path, manifest).items():
        pure = PurePosixPath(name)
        if len(pure.parts) == 2 and not training:
            continue
        data = read_verified(path, name, entry)
        stem = str(pure.with_suffix(""))
        if pure.suffix == ".json":
            checkpoint.documents[stem] = parse_json(path / name, data)
        else:
            checkpoint.tensors[stem] = read_tensors(path / name, data)
    return checkpoint


def file_sizes(directory: Path) -> dict[str, int]:
    """Return the size in bytes of each file that a checkpoint's manifest lists, by name."""
    entries = manifest_entries(directory, read_manifest(directory))
    return {name: stated_size(directory, name, entry) for name, entry in entries.items()}


def read_metrics(directory: Path, step: int) -> list[str]:
    """Read the rows of the log up to a step; a resumed run repeats the later steps."""
    path = _current_directory(directory) / METRICS
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            if json.loads(line)["step"] <= step:
                rows.append(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # a damaged line: nothing else depends on the log
    return rows
