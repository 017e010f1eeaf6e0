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


def models() -> dict[str, Path]:
    """Return the folders of the shipped models by name, such as "reviews", in sorted order."""
    cards = (card for folder in reversed(_MODEL_FOLDERS) for card in folder.glob("*/MODEL_CARD.md"))
    return dict(sorted({card.parent.name: card.parent for card in cards}.items()))


def resolve(directory: Path) -> Path:
    """Return the folder of a shipped model called NAME or checkpoints/NAME, else `directory`.

    A folder of that name in the user's working directory takes precedence.
    """
    # Path.exists would raise an error for a name that is too long.
    if os.path.exists(directory) or directory.is_absolute():  # noqa: PTH110
        return directory
    parts = directory.parts
    if len(parts) == 1 or (len(parts) == 2 and parts[0] == "checkpoints"):
        return models().get(parts[-1], directory)
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
        for name in models():
            candidates.setdefault(name, directory.parent / name)
    match = nearest_name(directory.name, sorted(candidates))
    return f"; did you mean {candidates[match]}?" if match is not None else ""
