"""The models that come with the package, found by name wherever it is installed."""

from __future__ import annotations

from pathlib import Path

_PLACES = (
    Path(__file__).parent / "models",  # in a wheel
    Path(__file__).parent.parent / "checkpoints",  # in a checkout
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
