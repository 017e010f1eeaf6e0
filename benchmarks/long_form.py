"""Shared by the long reliability tests: a temporary folder, the report, and the exit code."""

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
    """Run in a temporary folder, print the results, and exit with 1 if there are faults.

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
        Where the folder is created; the system's default location if None.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"chargen-{name}-", dir=parent))
    try:
        counts = run(folder)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(counts) if as_json else "\n".join(f"{k}: {v}" for k, v in counts.items()))
    sys.exit(1 if counts[faults] else 0)
