"""The models that come with the package, found by name, and suggestions for misspelt names."""

from __future__ import annotations

import contextlib
import os
from itertools import islice
from pathlib import Path

from chargen.errors import nearest_name

MANIFEST = "manifest.json"
"""The file that marks a folder as a checkpoint."""

METRICS = "metrics.jsonl"
"""The file in a checkpoint that holds the log of its run."""

_MODEL_FOLDERS = (
    Path(__file__).parent.parent / "models",  # in a wheel
    Path(__file__).parent.parent.parent / "checkpoints",  # in a checkout
)


def names() -> list[str]:
    """Return the sorted names of the shipped models, such as "reviews" and "sentiment"."""
    models = {
        path.parent.name for folder in _MODEL_FOLDERS for path in folder.glob("*/MODEL_CARD.md")
    }
    return sorted(models)


def resolve(directory: Path) -> Path:
    """Return the folder of a shipped model called NAME or checkpoints/NAME, else `directory`.

    A folder of that name in the user's working directory takes precedence.
    """
    if directory.exists() or directory.is_absolute():
        return directory
    parts = directory.parts
    if len(parts) == 1 or (len(parts) == 2 and parts[0] == "checkpoints"):
        for folder in _MODEL_FOLDERS:
            if (folder / parts[-1] / "MODEL_CARD.md").is_file():
                return folder / parts[-1]
    return directory


def checkpoint_suggestion(directory: Path) -> str:
    """Return a clause that suggests a checkpoint with a similar name; "" if there is none.

    The candidates are the siblings of `directory`, ``checkpoints/`` and the shipped models.
    """
    default = Path("checkpoints")
    candidates: dict[str, Path] = {}
    for folder in (directory.parent, default):
        with contextlib.suppress(OSError, ValueError):
            for entry in islice(os.scandir(folder), 10_000):
                if (folder / entry.name / MANIFEST).is_file():
                    candidates.setdefault(entry.name, folder / entry.name)
    if directory.parent in (Path(), default):
        for name in names():
            candidates.setdefault(name, directory.parent / name)
    match = nearest_name(directory.name, sorted(candidates))
    return f"; did you mean {candidates[match]}?" if match is not None else ""
