"""Shared by the long reliability tests: commands in forked processes, a folder, the report."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from chargen.cli.main import main as chargen_main


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


def fork_command(arguments: Sequence[object], stderr: Path, prepare: Callable[[], None]) -> int:
    """Fork a process that calls `prepare` and runs a command of chargen; return its process id.

    The parent must have no other threads. What the command says goes to the file `stderr`.
    """
    if pid := os.fork():
        return pid
    code = 70
    try:
        null = os.open(os.devnull, os.O_RDWR)
        errors = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for target, source in ((0, null), (1, null), (2, errors)):
            os.dup2(source, target)
        # The importing program may have replaced these streams.
        sys.stdout, sys.stderr = (os.fdopen(n, "w", encoding="utf-8") for n in (1, 2))
        words = [str(argument) for argument in arguments]
        prepare()
        chargen_main(words)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 71
    finally:
        sys.stderr.flush()
        os._exit(code)
