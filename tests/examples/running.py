"""A script of `examples/` whose exit code is looked at."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess
from typing import TextIO

from tests.scripts import ROOT, run_script

EXAMPLES = ROOT / "examples"


def run(
    script: str | Path, *arguments: object, code: int = 0, stdout: TextIO | None = None
) -> CompletedProcess[str]:
    """What the script left behind; its exit code must be `code`."""
    done = run_script(EXAMPLES / script, *arguments, stdout=stdout)
    assert done.returncode == code, done.stderr
    return done
