"""Benchmarks as modules, for their short forms."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent.parent


def benchmark(name: str) -> ModuleType:
    """`benchmarks/NAME.py`, imported; it may import its neighbours."""
    folder = str(ROOT / "benchmarks")
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that it hides nothing
    return importlib.import_module(name)
