"""The example of code, run as a reader runs it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from subprocess import CompletedProcess
from textwrap import indent

import pytest

from tests.scripts import ROOT, run_script

SCRIPT = ROOT / "examples" / "code" / "python_code.py"


def run(*arguments: object) -> CompletedProcess[str]:
    return run_script(SCRIPT, *arguments)


def test_simple_code_is_learnt_and_parses(tmp_path: Path) -> None:
    functions = [f"def f{i}(x):\n    return x + {i}\n\n" for i in range(60)]
    for name in ("a", "c"):
        (tmp_path / f"{name}.py").write_text("".join(functions))
    methods = indent("".join(functions), "    ")
    (tmp_path / "b.py").write_text(f"class A:\n{methods}")
    (tmp_path / "notes.txt").write_text("no code")
    arguments = ("--steps", 300, "--hidden-size", 48, "--snippets", 20, "--length", 60)
    done = run(tmp_path, "--held-back", "b.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 files to learn from, 300 steps")
    found = re.search(r"b.py, held back: (\d\.\d\d) bits per character; xz", done.stdout)
    assert found
    assert float(found[1]) < 5  # a guess among 29 characters takes 4.9
    rows = re.findall(r"^(0.4|0.7|1.0|the real file) +(\d+) +(\d+) +(\d+)$", done.stdout, re.M)
    assert [name for name, *_ in rows] == ["0.4", "0.7", "1.0", "the real file"]
    assert rows[-1][1:] == ("60", "60", "60")  # of the held-back file, all parse
    assert all(0 <= int(lines) <= int(either) <= 20 for _, _, lines, either in rows[:-1])
    assert int(rows[0][2]) >= 1  # at 0.4
    snippet = done.stdout.split("# 0.4: the first that parses\n")[1].split("\n# ")[0]
    assert snippet.startswith("def ")
    assert ast.parse(snippet).body


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py"], "nowhere.py does not exist"),
        ([str(SCRIPT)], "at least two files with code are needed: one is held back"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--length", "0"], "--snippets and --length must be 1 or more"),
    ],
)
def test_a_mistake_ends_in_a_sentence(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode in (1, 2)
    assert done.stderr == f"python_code.py: {message}\n"


def test_a_file_to_hold_back_must_be_there() -> None:
    done = run("--held-back", "nothing.py")
    assert done.returncode == 2
    assert re.fullmatch(
        r"python_code.py: --held-back nothing.py is none of the \d+ files\n", done.stderr
    )


def test_a_file_to_hold_back_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "main.py").write_text("pass\n")
    monkeypatch.chdir(tmp_path / "one")
    done = run(".", "../other", "--held-back", "main.py")  # the path of one, the name of both
    assert done.stderr.startswith("python_code.py: ../other/main.py has 5 characters")
    done = run(tmp_path, "--held-back", "main.py")
    assert done.returncode == 2
    assert done.stderr.endswith(f"one/main.py or {tmp_path}/other/main.py\n")
