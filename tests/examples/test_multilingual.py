"""The example of several languages, run as a reader runs it."""

from __future__ import annotations

import re
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.scripts import ROOT, run_script

SCRIPT = ROOT / "examples" / "multilingual" / "languages.py"
TEXTS = SCRIPT.with_name("texts")


def run(*arguments: object) -> CompletedProcess[str]:
    return run_script(SCRIPT, *arguments)


def test_languages_are_written_on_demand_and_found_again(tmp_path: Path) -> None:
    out = tmp_path / "model"
    files = [TEXTS / f"{name}.txt" for name in ("el", "en", "ru")]
    done = run(*files, "--steps", 120, "--hidden-size", 64, "--samples", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    lines = dict(re.findall(r"^(el|en|ru): (.+)$", done.stdout, re.M))
    letters = {"el": "α-ωά-ώ", "en": "a-z", "ru": "а-яё"}
    for name, line in lines.items():  # each in its own script, by far the most of it
        own = re.findall(f"[{letters[name]}]", line.lower())
        assert len(own) > 0.8 * sum(map(str.isalpha, line))
    assert list(lines) == ["el", "en", "ru"]
    assert not re.search("[\ue000-\uf8ff]", done.stdout)  # tags are read as spaces
    rows = re.findall(r"^(el|en|ru) +24 +3 +(\d+\.\d\d) +(\d) +(\d)$", done.stdout, re.M)
    assert [row[0] for row in rows] == ["el", "en", "ru"]
    found = re.search(
        r"9 paragraphs .*: model (\d\.\d{3}), trigrams (\d\.\d{3}), always el 0.333", done.stdout
    )
    assert found
    for column, accuracy in ((2, found[1]), (3, found[2])):
        assert float(accuracy) == pytest.approx(sum(int(row[column]) for row in rows) / 9, abs=1e-3)
    assert float(found[1]) == float(found[2]) == 1.0  # three scripts: nothing to take for another
    assert (out / "config.json").is_file()


@pytest.mark.parametrize("name", ["de", "el", "en", "es", "fr", "ru"])
def test_the_texts_of_the_example_are_of_like_size(name: str) -> None:
    data = (TEXTS / f"{name}.txt").read_bytes()
    assert 2000 < len(data) < 4096
    assert len(data.decode().splitlines()) == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.txt"], "nowhere.txt does not exist"),
        ([TEXTS / "en.txt"], "at least two languages are needed, each in a file of its own"),
        ([TEXTS / "en.txt", "--shortest", 500], "0 paragraphs (lines) of at least 500 characters"),
        ([TEXTS / "en.txt", TEXTS / "en.txt"], "its name is that of the language"),
        (["--length", 0], "--length must be 1 or more, got 0"),
    ],
)
def test_a_mistake_ends_in_a_sentence(arguments: list[object], message: str) -> None:
    done = run(*arguments)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert re.fullmatch(r"languages.py: .*\n", done.stderr)
