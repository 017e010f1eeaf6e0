"""The example of names, run as a reader runs it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.scripts import ROOT, run_script

SCRIPT = ROOT / "examples" / "names" / "new_names.py"
VILLAGES = SCRIPT.with_name("villages.txt")


def run(*arguments: object) -> CompletedProcess[str]:
    return run_script(SCRIPT, *arguments)


def test_names_are_new_and_begin_as_asked_and_ratings_are_in_order() -> None:
    arguments = ("--steps", 30, "--hidden-size", 32, "--count", 5, "--start", "Wh")
    arguments += ("--rate", "Xqzzt", "Whinfold St John", "--seed", 3)
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    names = re.findall(r"^  (Wh.*)$", done.stdout, re.M)
    assert len(names) == len(set(names)) == 5
    assert not {*map(str.casefold, names)} & {*VILLAGES.read_text().casefold().splitlines()}
    rated = re.findall(r"^ +(\d+\.\d\d)  (.*)$", done.stdout, re.M)
    assert [name for _, name in rated] == ["Whinfold St John  (in the list)", "Xqzzt"]
    assert float(rated[0][0]) < float(rated[1][0])
    assert run(*arguments).stdout == done.stdout  # steps and a seed: the same text again


def test_a_name_that_stands_in_the_list_is_counted_and_not_shown(tmp_path: Path) -> None:
    pairs = ["".join(pair) for pair in itertools.product("abcdefghi", repeat=2)]
    path = tmp_path / "pairs.txt"
    path.write_text("\n".join(pairs[:-2] + pairs[:3]))
    out = tmp_path / "model"
    done = run(path, "--steps", 100, "--hidden-size", 32, "--count", 5, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("72 names to learn from, 7 held back")
    found = re.search(
        r"(\d+) new names; of (\d+) drawn, (\d+) stand in the list, (\d+)", done.stdout
    )
    assert found
    new, drawn, listed, again = map(int, found.groups())
    assert new == 5
    assert listed >= 1  # all pairs of nine letters but two stand in the list
    assert drawn >= new + listed + again
    names = re.findall(r"^  (\w+)$", done.stdout, re.M)
    assert len(names) == new
    assert not set(names) & set(pairs[:-2])
    assert (out / "config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.txt"], "nowhere.txt does not exist"),
        (["--start", "ß"], "--start has characters that no name of the list has: ß"),
        (["--out", "."], ". exists: choose another --out"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--hidden-size", "0", "--start", "ß"], "--hidden-size must be at least 1, got 0"),
    ],
)
def test_a_mistake_ends_in_a_sentence(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode in (1, 2)
    assert done.stderr == f"new_names.py: {message}\n"
