"""The models that come with the package, found by name wherever it is installed; near misses."""

from __future__ import annotations

import contextlib
import os
from itertools import islice
from pathlib import Path

from chargen.errors import nearest

MANIFEST = "manifest.json"
"""The file that makes a folder a checkpoint."""

METRICS = "metrics.jsonl"
"""The log of a run in its checkpoint."""

_PLACES = (
    Path(__file__).parent.parent / "models",  # in a wheel
    Path(__file__).parent.parent.parent / "checkpoints",  # in a checkout
)


def names() -> list[str]:
    """What there is, such as "reviews" and "sentiment"."""
    found = {path.parent.name for place in _PLACES for path in place.glob("*/MODEL_CARD.md")}
    return sorted(found)


def resolve(directory: Path) -> Path:
    """The folder of a shipped model called NAME or checkpoints/NAME; else `directory` itself.

    A folder of that name where the user stands comes first.
    """
    if directory.exists() or directory.is_absolute():
        return directory
    parts = directory.parts
    if len(parts) == 1 or (len(parts) == 2 and parts[0] == "checkpoints"):
        for place in _PLACES:
            if (place / parts[-1] / "MODEL_CARD.md").is_file():
                return place / parts[-1]
    return directory


def nearest_checkpoint(directory: Path) -> str:
    """The end of a sentence about a checkpoint that there is not: the nearest that there is.

    Looked for beside `directory`, in ``checkpoints/`` and among the shipped models.
    """
    default = Path("checkpoints")
    found: dict[str, Path] = {}
    for folder in (directory.parent, default):
        with contextlib.suppress(OSError, ValueError):
            for entry in islice(os.scandir(folder), 10_000):
                if (folder / entry.name / MANIFEST).is_file():
                    found.setdefault(entry.name, folder / entry.name)
    if directory.parent in (Path(), default):
        for name in names():
            found.setdefault(name, directory.parent / name)
    near = nearest(directory.name, sorted(found))
    return f"; did you mean {found[near]}?" if near is not None else ""
