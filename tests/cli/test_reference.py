"""docs/cli.md is what the commands say of themselves."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / "cli_reference.py"))


def test_the_file_is_what_the_tool_makes(tool: dict[str, Any]) -> None:
    place = tool["PLACE"]
    assert place == ROOT / "docs" / "cli.md"
    assert place.read_text("utf-8") == tool["reference"](), (
        "docs/cli.md is not what the commands say: run `python tools/cli_reference.py`"
    )


def test_no_width_of_a_terminal_changes_it(tool: dict[str, Any]) -> None:
    code = "import runpy; print(runpy.run_path('tools/cli_reference.py')['reference'](), end='')"
    narrow = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "40", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    assert narrow == tool["reference"]()


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("give --encoder DIR", "give `--encoder` DIR"),
        ("'auto' guesses it", "`auto` guesses it"),
        ("e.g. '*.txt'", "e.g. `*.txt`"),
        ("a*b and <name>", r"a\*b and \<name\>"),
        ("the head's, as `chargen info` has", "the head's, as `chargen info` has"),
    ],
)
def test_plain_text_becomes_markdown(tool: dict[str, Any], said: str, written: str) -> None:
    assert tool["_markdown"](said) == written


def test_variables_and_defaults_are_there(tool: dict[str, Any]) -> None:
    text = tool["reference"]()
    for row in (
        "| `0.8; x>=0` | `CHARGEN_SAMPLE_TEMPERATURE` |",
        "|  | `CHARGEN_TRAIN_RESUME` |",
        "|  | `CHARGEN_CONFIG` |",
    ):
        assert row in text
