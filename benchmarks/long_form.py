"""What the long forms of the reliability tests share: a folder of their own, and how they end."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn


def run_and_report(
    run: Callable[[Path], dict[str, Any]],
    name: str,
    faults: str,
    as_json: bool,
    parent: str | None = None,
) -> NoReturn:
    """Run in a temporary folder, print what was found, and end with 1 if there are faults.

    Parameters
    ----------
    run : callable
        Takes the folder and returns counts by name.
    name : str
        Part of the folder's name.
    faults : str
        Name of the count that must be 0 (or of the list that must be empty).
    as_json : bool
    parent : str, optional
        Where the folder is made; the system's place by default.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"chargen-{name}-", dir=parent))
    try:
        found = run(folder)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(found) if as_json else "\n".join(f"{k}: {v}" for k, v in found.items()))
    sys.exit(1 if found[faults] else 0)
