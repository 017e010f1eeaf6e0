"""`chargen corpus`, and names where a corpus is asked for."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from chargen.text.config import CorpusConfig
from chargen.text.corpus import cached_corpus, load_corpus
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
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_shows_no_progress_on_a_terminal(quiet: bool) -> None:
    import fcntl
    import pty
    import termios

    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    with serving(Site({"/fox.txt": TEXT.encode()})) as site:
        command = [sys.executable, "-m", "chargen", "corpus", "fetch", site.url("/fox.txt")]
        subprocess.run(
            [*command, *["--quiet"] * quiet], stdout=subprocess.PIPE, stderr=terminal, check=True
        )
    os.write(terminal, b"\nthe end\n")  # so that there is something to read
    shown = os.read(controller, 1 << 16).decode()
    assert ("fox.txt:   0%" in shown) is not quiet
    assert shown.startswith("\r\nthe end") is quiet
    os.close(controller)
    os.close(terminal)


@needs_network_library
def test_fetch_says_what_is_wrong(chargen: Command) -> None:
    with serving(Site({"/fox.txt": TEXT.encode()})) as site:
        wrong = chargen("corpus", "fetch", site.url("/fox.txt"), "--sha256", "0" * 64)
        missing = chargen("corpus", "fetch", site.url("/fix.txt"))
    assert (wrong.code, missing.code) == (1, 1)
    assert "is not the expected file" in wrong.err
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


def corpora(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "corpora"


def encode(tmp_path: Path, name: str) -> Path:
    """Encode a text of its own as training does, and give the folder of the encoding."""
    path = tmp_path / f"{name}.txt"
    path.write_text((name + TEXT)[:1000])
    return corpora(tmp_path) / load_corpus([str(path)], CorpusConfig()).key


def test_clean_shows_what_it_would_free_and_removes_what_it_is_told(
    chargen: Command, tmp_path: Path
) -> None:
    assert json.loads(chargen("corpus", "clean", "--json").out)["encodings"] == []
    old, young = (encode(tmp_path, name) for name in ("old", "young"))
    os.utime(old / "meta.json", (1e9, 1e9))
    both = sum(file.stat().st_size for place in (old, young) for file in place.iterdir())

    shown = chargen("corpus", "clean")
    assert (shown.code, shown.err) == (0, "")
    assert re.search(r"used 2001-09-09 +old$", shown.out, re.M)
    facts = json.loads(chargen("corpus", "clean", "--json").out)
    assert [row["name"] for row in facts["encodings"]] == ["old", "young"]
    assert facts["removable_bytes"] == facts["bytes"] == both
    assert facts["freed_bytes"] == 0
    assert facts["limit_bytes"] == 10_000_000_000
    assert sorted(corpora(tmp_path).iterdir()) == sorted([old, young])

    facts = json.loads(chargen("corpus", "clean", "--older-than", 30, "--json").out)
    assert [(row["key"], row["removed"]) for row in facts["encodings"]] == [
        (old.name, True),
        (young.name, False),
    ]
    assert list(corpora(tmp_path).iterdir()) == [young]
    assert "freed" in chargen("corpus", "clean", "--all").out
    assert list(corpora(tmp_path).iterdir()) == []
    assert chargen("corpus", "clean", "--all", "--older-than", 1).code == 2


def test_clean_leaves_what_a_run_uses_and_what_is_not_ours(
    chargen: Command, tmp_path: Path
) -> None:
    used, other = (encode(tmp_path, name) for name in ("used", "other"))
    (corpora(tmp_path) / "notes").mkdir()
    (other / "meta.json").write_text("{")  # damaged
    mapped = cached_corpus(used.name)
    facts = json.loads(chargen("corpus", "clean", "--all", "--json").out)
    rows = {row["key"]: (row["in_use"], row["removed"]) for row in facts["encodings"]}
    assert rows == {used.name: (True, False), other.name: (False, True)}
    assert facts["freed_bytes"] == facts["removable_bytes"]
    assert mapped is not None
    assert mapped.train[0]
    del mapped
    chargen("corpus", "clean", "--all")
    assert [path.name for path in corpora(tmp_path).iterdir()] == ["notes"]


def test_the_cache_has_a_bound(
    chargen: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [encode(tmp_path, name) for name in ("one", "two", "three")]
    for age, place in enumerate(places):
        os.utime(place / "meta.json", (1e9 - age, 1e9 - age))  # the last one is the oldest
    size = sum(file.stat().st_size for file in places[0].iterdir())
    mapped = cached_corpus(places[2].name)
    os.utime(places[2] / "meta.json", (1e9 - 2, 1e9 - 2))
    monkeypatch.setenv("CHARGEN_CACHE_GB", str(3.5 * size / 1e9))
    newest = encode(tmp_path, "newest")
    assert mapped is not None  # the oldest, and in use
    assert set(corpora(tmp_path).iterdir()) == {places[0], places[2], newest}
    del mapped
    monkeypatch.setenv("CHARGEN_CACHE_GB", "0")
    text, out = tmp_path / "four.txt", tmp_path / "four"
    text.write_text(TEXT)
    result = chargen("train", text, "--steps", 1, "--out", out, *SMALL)
    assert "of earlier corpora were removed" in result.err
    (only,) = corpora(tmp_path).iterdir()
    assert only.name == json.loads((out / "config.json").read_text())["corpus"]["key"]
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv("CHARGEN_CACHE_GB", wrong)
        result = chargen("corpus", "clean")
        assert (result.code, result.out) == (2, "")
        assert "CHARGEN_CACHE_GB" in result.err


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
    people = chargen("corpus", "info", path, "--documents", "lines").out.splitlines()
    assert "documents 2" in [" ".join(line.split()) for line in people]


def test_info_does_not_drive_the_terminal(chargen: Command, tmp_path: Path) -> None:
    path = tmp_path / "odd.txt"
    path.write_text("ab\x1b[31m\u202e" * 5)
    result = chargen("corpus", "info", path)
    assert result.code == 0
    assert "\x1b" not in result.out
    assert "\u202e" not in result.out
    assert "control characters" in result.out


LINES = "the quick brown fox jumps over the lazy dog, £5 — naïve\n"
KINDS: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "plain": ("a text.txt", LINES.encode() * 40, ()),
    "with a quote and a dash": ("--it's.txt", LINES.encode() * 40, ()),
    "cp1252": ("t.txt", LINES.encode("cp1252") * 40, ("--encoding", "cp1252")),
    "guessed": ("t.txt", LINES.encode("cp1252") * 40, ("--encoding", "auto")),
    "damaged": ("t.txt", LINES.encode() * 40 + b"\xff", ("--errors", "replace")),
    "packed": ("t.txt.gz", gzip.compress(LINES.encode() * 40), ("--max-bytes", "9999")),
    "lines": ("t.txt", LINES.encode() * 40, ("--documents", "lines")),
    "one line": ("t.txt", LINES.encode() * 2, ("--documents", "files")),
    "a marker": ("t.txt", (LINES + "--- \n").encode() * 40, ("--documents", "--- ")),
    "a table": ("t.csv", b"id,body\n" + b'1,"a, b: ""c"" and d"\n' * 40, ("--text-column", "body")),
    "rows": (
        "t.jsonl",
        b'{"the text": "a b c <b>d</b> e f g h"}\n' * 40,
        ("--documents", "rows", "--text-column", "the text", "--clean", "html"),
    ),
    "bytes": ("t.txt", LINES.encode() * 40, ("--level", "byte")),
    "raw bytes": ("t.bin", bytes(range(256)) * 9, ("--level", "byte", "--raw-bytes")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_proposed_command_works_when_it_is_pasted(
    chargen: Command, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "guessed":
        pytest.importorskip("charset_normalizer")
    name, data, options = KINDS[kind]
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    told = chargen("corpus", "info", *options, "--", name)
    assert told.code == 0, told.err
    _, _, command = next(
        line for line in told.out.splitlines() if "to begin with" in line
    ).partition("chargen train ")
    as_json = json.loads(chargen("corpus", "info", "--json", *options, "--", name).out)
    assert as_json["suggested_command"] == f"chargen train {command}"
    words = shlex.split(command)
    assert words[1] == "--minutes"
    del words[1:3]
    trained = chargen("train", *words, "--steps", 1, "--out", "out", "-q", *SMALL)
    assert trained.code == 0, trained.err
    saved = json.loads(Path("out/config.json").read_text())["corpus"]
    assert [argument.removeprefix("./") for argument in saved["arguments"]] == [name]
    for option, value in zip(options[::2], options[1::2], strict=False):
        found = saved["config"][option[2:].replace("-", "_")]
        assert found == [value] or str(found) == value  # there may be several columns


def test_too_little_text_has_no_command(chargen: Command, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("short")
    assert "chargen train" not in chargen("corpus", "info", tmp_path / "t.txt").out
    found = chargen("corpus", "info", tmp_path / "t.txt", "--json")
    assert json.loads(found.out)["suggested_command"] is None


def test_a_wrong_encoding_is_suspected_whichever_was_given(
    chargen: Command, tmp_path: Path
) -> None:
    (tmp_path / "t.txt").write_bytes(LINES.encode("cp1252") * 9)
    result = chargen("corpus", "info", tmp_path / "t.txt", "--encoding", "latin-1")
    assert "is latin-1 the right encoding?" in result.out
    assert "utf-8" not in result.out
    assert "--encoding cp1252" in result.err
