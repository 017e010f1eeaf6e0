"""A checkpoint is a directory of safetensors and JSON, replaced as a whole and verified on reading.

    DIR/manifest.json            format version, kind, and size and SHA-256 of every other file
    DIR/NAME.safetensors         tensors
    DIR/NAME.json                configuration, vocabulary
    DIR/metrics.jsonl            the log of a run, for people and plots; nothing is loaded from it

This module knows neither models nor vocabularies: it moves named tensors and JSON values.
Nothing here unpickles.
"""

from __future__ import annotations

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

from chargen.errors import CheckpointError, brief, enough_memory
from chargen.storage import shipped
from chargen.storage.directories import (
    make_directory,
    real_path,
    replace_directory,
    sync_file,
    sync_path,
)
from chargen.storage.verified import (
    SUFFIXES,
    check_memory,
    listed_entries,
    parse_json,
    read_plain_file,
    read_tensors,
    read_verified,
    stated_size,
)

MANIFEST, METRICS = shipped.MANIFEST, shipped.METRICS

FORMAT_VERSION = 1
"""What `save` writes and `load` reads; a later version of a checkpoint has a higher one."""


@dataclass
class Checkpoint:
    """What a checkpoint directory holds."""

    kind: str  # "language-model" or another kind of model
    # by path without suffix: "config", "vocabulary", "training/state"
    documents: dict[str, Any] = field(default_factory=dict)
    # by path without suffix: "model", "training/optimizer". On the CPU
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    path: Path | None = None  # where it was read

    def document(self, name: str) -> dict[str, Any]:
        """A JSON document, checked to be an object."""
        value = self.documents.get(name)
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.path}: {name}.json is missing or not an object")
        return value

    def folder(self, name: str) -> dict[str, dict[str, Tensor]]:
        """The tensors in a folder of the checkpoint, by their paths within it."""
        start = name + "/"
        return {
            path.removeprefix(start): group
            for path, group in self.tensors.items()
            if path.startswith(start)
        }

    def keep_training(
        self, document: dict[str, Any], tensors: dict[str, dict[str, Tensor]]
    ) -> None:
        """Add what only resuming needs: a JSON document and named groups of tensors."""
        self.documents["training/state"] = document
        self.tensors |= {f"training/{name}": group for name, group in tensors.items()}


# ---------------------------------------------------------------- writing


@enough_memory()
def save(directory: Path, checkpoint: Checkpoint, *, metrics: Sequence[str] = ()) -> None:
    """Write a checkpoint, with the lines of its log, whole or not at all.

    Everything is written to a hidden sibling, synced, and put in the place of `directory` by one
    rename; what stood there is removed only then, and stays where there is a `CheckpointError`.
    """
    directory = real_path(directory)  # a link stays one, and what it points to is replaced
    writing = _sibling(directory, "writing")
    try:
        if directory.exists() and not directory.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        make_directory(directory.parent)
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir()
        try:
            _write_files(writing, checkpoint)
            if metrics:
                text = "".join(line + "\n" for line in metrics)
                with (writing / METRICS).open("w", encoding="utf-8") as file:
                    file.write(text)
                    sync_file(file)
            _keep_other_files(_place(directory), writing)
            sync_path(writing)
            replace_directory(writing, directory, _sibling(directory, "previous"))
        finally:
            shutil.rmtree(writing, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"cannot write the checkpoint {directory}: {reason}") from error


def _keep_other_files(old: Path, new: Path) -> None:
    """What people put beside a checkpoint's own files, such as MODEL_CARD.md, stays."""
    if not old.is_dir():
        return
    for path in old.iterdir():
        ours = path.suffix in SUFFIXES or path.name == METRICS
        if not ours and path.is_file() and not path.is_symlink():
            shutil.copy2(path, new / path.name)
            sync_path(new / path.name)


def check_writable(directory: Path) -> None:
    """Find out before the work that a checkpoint could not be written: a `CheckpointError`."""
    directory = real_path(directory)
    if directory.is_symlink():  # still: links that go round in a circle
        raise CheckpointError(f"cannot write {directory}: {os.strerror(errno.ELOOP)}")
    probe = _sibling(directory, "writing")
    try:
        make_directory(probe.parent)
        shutil.rmtree(probe, ignore_errors=True)
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"cannot write to {directory.parent}: {reason}") from error


def packed(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files of a checkpoint by their names, the manifest among them."""
    contents: dict[str, bytes] = {}
    for name, tensors in checkpoint.tensors.items():
        whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        check_memory(3 * sum(value.nbytes for value in whole.values()))  # copies on the way
        contents[name + ".safetensors"] = safetensors.torch.save(whole)
    for name, document in checkpoint.documents.items():
        contents[name + ".json"] = _to_json(document)
    files = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(contents.items())
    }
    manifest = {"format_version": FORMAT_VERSION, "kind": checkpoint.kind, "files": files}
    contents[MANIFEST] = _to_json(manifest)
    return contents


def _write_files(folder: Path, checkpoint: Checkpoint) -> None:
    contents = packed(checkpoint)
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            sync_file(file)
    for sub in {(folder / name).parent for name in contents} - {folder}:
        sync_path(sub)


def _to_json(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    # Names of files may hold lone surrogates; json.loads reads them back the same way.
    return text.encode("utf-8", "surrogatepass")


def _sibling(directory: Path, role: str) -> Path:
    return directory.with_name(f".{directory.name}.{role}")


def _place(directory: Path) -> Path:
    """Where a checkpoint lies.

    Between the two renames of a system without an atomic exchange, and after a crash there, it lies
    beside its place.
    """
    previous = _sibling(real_path(directory), "previous")
    return previous if not directory.exists() and (previous / MANIFEST).exists() else directory


# ---------------------------------------------------------------- reading


@enough_memory()
def load(
    directory: str | os.PathLike[str], kind: str | None = None, *, training: bool = False
) -> Checkpoint:
    """Read and verify a checkpoint, or a shipped model by its name (see `chargen.storage.shipped`).

    With `training` the files that only resuming needs are read too. Raises `CheckpointError` where
    it is missing, incomplete, changed since it was written, of another kind, or of a newer format,
    `OutOfMemoryError` where memory does not hold it.
    """
    path = shipped.resolve(Path(directory))
    last = None
    for attempt in range(20):
        source = _place(path)
        manifest = None
        try:
            manifest = read_manifest(source)
            return _read_files(source, manifest, kind, training)
        except CheckpointError as error:
            # A run may just have put a newer checkpoint in its place: then read that one.
            found = (source, manifest, str(error))
            if found == last:
                raise
            last = found
            time.sleep(0.001 * attempt)
    raise CheckpointError(f"{path} changes faster than it can be read")


def read_manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}{shipped.nearest_checkpoint(path)}")
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
    """Whether something that looks like a checkpoint lies there (it may still be damaged)."""
    return (_place(directory) / MANIFEST).exists()


def kind_of(directory: Path) -> str | None:
    """What kind of model a checkpoint holds by its own word; None where none can be read."""
    try:
        kind = read_manifest(directory).get("kind")
    except (CheckpointError, OSError):
        return None
    return kind if isinstance(kind, str) else None


def _read_files(
    path: Path, manifest: dict[str, Any], kind: str | None, training: bool
) -> Checkpoint:
    found = manifest.get("kind")
    if not isinstance(found, str) or not found.isprintable() or len(found) > 80:
        raise CheckpointError(f"{path / MANIFEST}: kind is {brief(found)}")
    if kind is not None and found != kind:
        raise CheckpointError(f"{path} is a {found} checkpoint; a {kind} one is needed here")
    checkpoint = Checkpoint(found, path=path)
    for name, entry in listed_entries(path, manifest).items():
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


def listed_files(directory: Path) -> dict[str, int]:
    """Size in bytes of each file that a folder's manifest names, itself not among them."""
    entries = listed_entries(directory, read_manifest(directory))
    return {name: stated_size(directory, name, entry) for name, entry in entries.items()}


def read_metrics(directory: Path, step: int) -> list[str]:
    """Rows of the log up to a step: what came after the checkpoint will happen again."""
    path = _place(directory) / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            if json.loads(line)["step"] <= step:
                rows.append(line)
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a crash
    return rows
