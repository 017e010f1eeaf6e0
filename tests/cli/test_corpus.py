"""`chargen corpus`, and names where a corpus is asked for."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.text.serving import Site, serving

from .conftest import SMALL, TEXT, Command

needs_network_library = pytest.mark.skipif(
    not all(find_spec(name) for name in ("pooch", "requests")),
    reason="needs the extra chargen[data]",
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARGEN_CACHE_DIR", str(tmp_path / "cache"))


def test_list(chargen: Command) -> None:
    result = chargen("corpus", "list", "--json")
    assert result.code == 0
    rows = {row["name"]: row for row in json.loads(result.out)}
    assert {"shakespeare", "text8", "enwik8", "imdb", "sst2", "python-docs"} <= rows.keys()
    assert all(row["licence"] and row["about"] and row["language"] for row in rows.values())
    assert rows["enwik8"]["parts"] == ["enwik8:train", "enwik8:valid", "enwik8:test"]
    assert not rows["imdb"]["here"]
    people = chargen("corpus", "list").out
    assert all(name in people for name in rows)


@needs_network_library
def test_fetch_then_train_without_a_network(chargen: Command, tmp_path: Path) -> None:
    with serving(Site({"/fox.txt": TEXT.encode()})) as site:
        url = site.url("/fox.txt")
        fetched = chargen("corpus", "fetch", url, "--json")
        assert fetched.code == 0
        facts = json.loads(fetched.out)
        assert Path(facts["paths"]["all"]).read_text() == TEXT
    plain = chargen("corpus", "fetch", url)
    assert plain.out.strip() == facts["paths"]["all"]
    assert facts["sha256"][0] in plain.err
    trained = chargen("train", url, "--steps", 3, "--out", tmp_path / "fox", "--json", *SMALL)
    assert trained.code == 0, trained.err


@needs_network_library
def test_fetch_says_what_is_wrong(chargen: Command) -> None:
    with serving(Site({"/fox.txt": TEXT.encode()})) as site:
        wrong = chargen("corpus", "fetch", site.url("/fox.txt"), "--sha256", "0" * 64)
        missing = chargen("corpus", "fetch", site.url("/fix.txt"))
    assert (wrong.code, missing.code) == (1, 1)
    assert "is not what it should be" in wrong.err
    assert "404" in missing.err
    assert wrong.out == missing.out == ""


def test_a_text_that_comes_with_the_package(chargen: Command) -> None:
    result = chargen("corpus", "fetch", "essays")
    assert (result.code, result.err) == (0, "")
    assert Path(result.out.strip()).is_file()


def test_the_prose_that_comes_with_the_package(chargen: Command) -> None:
    whole = chargen("corpus", "info", "prose", "--json")
    parts = [
        chargen("corpus", "info", f"prose:{part}", "--json")
        for part in ("essays", "tales", "novella")
    ]
    characters = [json.loads(result.out)["characters"] for result in (whole, *parts)]
    assert characters[0] >= sum(characters[1:]) > 350_000
    assert all(json.loads(result.out)["suspicions"] == [] for result in parts)


def test_a_mistyped_name(chargen: Command) -> None:
    result = chargen("corpus", "fetch", "shakespaere")
    assert result.code == 2
    assert "did you mean shakespeare?" in result.err
    assert "chargen corpus list" in chargen("corpus", "fetch", "xyzzy").err


def test_the_extra_is_named(chargen: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    result = chargen("corpus", "fetch", "shakespeare")
    assert result.code == 1
    assert "pip install 'chargen[data]'" in result.err
    assert "Traceback" not in result.err


def test_info(chargen: Command, corpus: Path) -> None:
    result = chargen("corpus", "info", corpus, "--json")
    assert result.code == 0
    facts = json.loads(result.out)
    assert facts["characters"] == len(TEXT)
    assert facts["lines"] == 120
    assert facts["distinct"] == len(set(TEXT))
    assert len(facts["entropy"]) == 4
    assert facts["entropy"][0] > facts["entropy"][1] > facts["entropy"][2]
    assert facts["xz"] < 1
    people = chargen("corpus", "info", corpus).out
    assert f"{len(TEXT):,}" in people
    assert f"chargen train {corpus} --minutes {facts['suggested_minutes']:g}" in people


def test_info_counts_no_separators(chargen: Command, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("anna\nberta\n")
    facts = json.loads(chargen("corpus", "info", path, "--documents", "lines", "--json").out)
    assert facts["characters"] == len("annaberta")


def test_info_does_not_drive_the_terminal(chargen: Command, tmp_path: Path) -> None:
    path = tmp_path / "odd.txt"
    path.write_text("ab\x1b[31m\u202e" * 5)
    result = chargen("corpus", "info", path)
    assert result.code == 0
    assert "\x1b" not in result.out
    assert "\u202e" not in result.out
    assert "control characters" in result.out
