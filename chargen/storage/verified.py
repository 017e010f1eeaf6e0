"""Read untrusted checkpoints: files must match the manifest and stay within limits.

Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from chargen.errors import CheckpointError, brief, is_out_of_memory
from chargen.storage.shipped import MANIFEST

SUFFIXES = {".json", ".safetensors"}

# Limits that keep an untrusted file from taking many times its size in memory. A vocabulary of all
# characters has 5 MB, and the header of a thousand tensors 100 KB.
MAX_JSON_BYTES = 8 << 20
MAX_JSON_BRACKETS = 100_000
MAX_JSON_DEPTH = 32
MAX_HEADER_BYTES = 1 << 20

# Errors that safetensors and torch raise for types and shapes that do not match.
_READ_ERRORS = (
    *(SafetensorError, ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError),
    ValueError,
)


def manifest_entries(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest's entries by file name; an invalid name is a `CheckpointError`."""
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise CheckpointError(f"{path / MANIFEST}: files is missing")
    for name in files:
        pure = PurePosixPath(name)
        if (
            pure.suffix not in SUFFIXES
            or str(pure) != name  # aliases would let one file be read many times
            or not 1 <= len(pure.parts) <= 2
            or ".." in pure.parts
            or pure.is_absolute()
            or "\\" in name
            or not name.isprintable()
            or len(name) > 200
        ):
            raise CheckpointError(
                f"{path / MANIFEST}: {brief(name)} is not a valid name of a file in a checkpoint"
            )
    return files


def stated_size(path: Path, name: str, entry: Any) -> int:
    size = entry.get("bytes") if isinstance(entry, Mapping) else None
    if not isinstance(size, int):
        raise CheckpointError(f"{path / MANIFEST}: the entry of {name} has no size")
    return size


def read_verified(path: Path, name: str, entry: Any) -> bytes:
    size = stated_size(path, name, entry)
    if (path / name).is_symlink() or ((path / name).parent.is_symlink() and "/" in name):
        raise CheckpointError(f"{path / name} is a symbolic link; a checkpoint holds plain files")
    data = read_plain_file(path / name, limit=size + 1)
    if len(data) != size:
        raise CheckpointError(
            f"{path / name} is truncated or changed: it does not have the "
            f"{brief(size)} bytes that {MANIFEST} states"
        )
    if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
        raise CheckpointError(f"{path / name} was changed: its SHA-256 is not that of {MANIFEST}")
    return data


def read_plain_file(path: Path, limit: int) -> bytes:
    """Read at most `limit` bytes of a file, allocating no more than the file's size."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe would block
            raise CheckpointError(f"cannot read {path}: it is not a plain file")
        with path.open("rb") as file:
            return file.read(max(0, min(limit, os.fstat(file.fileno()).st_size)))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error


def parse_json(path: Path, data: bytes) -> Any:
    """Parse a JSON file strictly, without repeated fields, within limits of size and depth."""
    check_size(path, data)
    try:
        value = json.loads(
            data, object_pairs_hook=_refuse_repeated_fields, parse_constant=_refuse_constant
        )
        _check_depth(value, MAX_JSON_DEPTH)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    return value


def _refuse_repeated_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the field {brief(repeated)} occurs twice")
    return fields


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _check_depth(value: Any, levels_left: int) -> None:
    if not isinstance(value, (dict, list)):
        return
    if not levels_left:
        raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} deep")
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, (dict, list)):
            _check_depth(inner, levels_left - 1)


def check_memory(size: int) -> None:
    """Raise MemoryError if `size` bytes are not available; safetensors would abort the process."""
    bytearray(size)


def check_size(path: Path, data: bytes) -> None:
    """Raise `CheckpointError` if JSON, or the header of tensors, is too large to be read."""
    if path.suffix == ".json":
        brackets = data.count(b"[") + data.count(b"{")
        too_large = len(data) > MAX_JSON_BYTES or brackets > MAX_JSON_BRACKETS
    else:
        too_large = int.from_bytes(data[:8], "little") > MAX_HEADER_BYTES
    if too_large:
        part = "" if path.suffix == ".json" else "the header of "
        raise CheckpointError(f"{part}{path} is larger than any such file of a checkpoint may be")


def read_tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    check_size(path, data)
    check_memory(len(data))
    try:
        return safetensors.torch.load(data)
    except _READ_ERRORS as e:
        if is_out_of_memory(e):
            raise
        reason = str(e).split("\n")[0][:200]
        raise CheckpointError(f"{path} is not safetensors: {reason}") from e
