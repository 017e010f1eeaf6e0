"""A script of `examples/` or `benchmarks/`, run as a reader runs it, but in this process.

Starting Python and importing torch takes longer than most of them do.
"""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import TextIO

import pytest
import torch

ROOT = Path(__file__).parents[1]


def run_script(
    path: str | Path, *arguments: object, stdout: TextIO | None = None
) -> CompletedProcess[str]:
    """What the script left behind; `path` begins at the project's root.

    It writes to `stdout` where that is given, else to what is given back.
    """
    script = ROOT / path
    output, errors = io.StringIO(), io.StringIO()
    known, threads = set(sys.modules), torch.get_num_threads()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(output if stdout is None else stdout),
        contextlib.redirect_stderr(errors),
    ):
        patch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        patch.setattr(sys, "path", [str(script.parent), *sys.path])
        code: object = 0
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as stopped:
            code = stopped.code
        finally:
            # Two folders may have a module of one name.
            for name in set(sys.modules) - known:
                found = getattr(sys.modules[name], "__file__", None)
                if found and Path(found).parent == script.parent:
                    del sys.modules[name]
            torch.set_num_threads(threads)
            if torch.are_deterministic_algorithms_enabled():  # torch would import its compiler
                torch.use_deterministic_algorithms(False)
    status = code if isinstance(code, int) else 0 if code is None else 1
    said = errors.getvalue() + (f"{code}\n" if isinstance(code, str) else "")
    return CompletedProcess(sys.argv, status, output.getvalue(), said)
