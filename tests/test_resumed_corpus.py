"""A run goes on with the text that it began with, whatever the cache keeps."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import chargen
from chargen.errors import CorpusError
from chargen.training.reporting import Reporter

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 30
SMALL: dict[str, Any] = {"hidden_size": 16, "batch_size": 4, "window": 16, "precision": "float32"}

Edit = Callable[[Path], object]


def _emptied(folder: Path) -> None:
    (folder / "book" / "one.txt").write_text("")
    (folder / "book" / "two.txt").write_text("")


EDITS: dict[str, tuple[Edit, str]] = {
    "longer": (lambda folder: (folder / "book" / "one.txt").write_text(TEXT + "!"), "has changed"),
    "of the same length": (
        lambda folder: (folder / "book" / "one.txt").write_text(TEXT.replace("fox", "cat")),
        "has changed",
    ),
    "a file more": (lambda folder: (folder / "book" / "three.txt").write_text("!"), "has changed"),
    "a file less": (lambda folder: (folder / "book" / "two.txt").unlink(), "has changed"),
    "other validation": (lambda folder: (folder / "valid.txt").write_text("other"), "has changed"),
    "emptied": (_emptied, "holds no text"),
}


class Notes(Reporter):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHARGEN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "corpora"


@pytest.fixture
def out(tmp_path: Path, cache: Path) -> Path:
    """A run of two steps over a folder and a file to validate on."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "one.txt").write_text(TEXT)
    (tmp_path / "book" / "two.txt").write_text("and then it slept.\n")
    (tmp_path / "valid.txt").write_text(TEXT)
    out = tmp_path / "out"
    valid = str(tmp_path / "valid.txt")
    chargen.train(tmp_path / "book", out, steps=2, valid=valid, **SMALL)
    assert cache.exists()
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("name", EDITS)
def test_an_edited_text_is_refused(name: str, cached: bool, out: Path, cache: Path) -> None:
    edit, told = EDITS[name]
    edit(out.parent)
    if not cached:
        shutil.rmtree(cache)
    before = files(out)
    with pytest.raises(CorpusError, match=told):
        chargen.resume(out, steps=4)
    assert files(out) == before


def test_the_same_text_goes_on_the_same_with_and_without_the_cache(out: Path, cache: Path) -> None:
    copy = Path(shutil.copytree(out, out.parent / "copy"))
    with_cache, without = Notes(), Notes()
    assert chargen.resume(out, steps=4, reporter=with_cache).steps == 4
    shutil.rmtree(cache)
    assert chargen.resume(copy, steps=4, reporter=without).steps == 4
    assert with_cache.notes == without.notes
    assert with_cache.notes[-1] == "continuing from step 2"
    weights = "model.safetensors"
    assert (out / weights).read_bytes() == (copy / weights).read_bytes()


def test_a_text_that_is_gone_is_read_from_the_cache_which_is_said(out: Path, cache: Path) -> None:
    shutil.rmtree(out.parent / "book")
    heard = Notes()
    assert chargen.resume(out, steps=4, reporter=heard).steps == 4
    assert f"{out.parent / 'book'} cannot be read again" in heard.notes[0]
    shutil.rmtree(cache)
    with pytest.raises(CorpusError, match="book does not exist"):
        chargen.resume(out, steps=6)


def test_a_text_from_a_pipe(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    chargen.train("-", tmp_path / "out", steps=2, **SMALL)
    heard = Notes()
    assert chargen.resume(tmp_path / "out", steps=4, reporter=heard).steps == 4
    assert "standard input cannot be read again" in heard.notes[0]
    shutil.rmtree(cache)
    with pytest.raises(CorpusError, match="came from a pipe"):
        chargen.resume(tmp_path / "out", steps=6)


def test_a_run_that_lies_in_the_folder_of_its_text(tmp_path: Path) -> None:
    book = tmp_path / "book"
    book.mkdir()
    (book / "one.txt").write_text(TEXT)
    (book / "manifest.json").write_text('{"name": "of another program"}\n')
    run = chargen.train(book, book / "checkpoints" / "first", steps=4, **SMALL)
    assert chargen.resume(run.directory, steps=6).steps == 6
    told = Notes()
    second = chargen.train(book, book / "second", steps=4, reporter=told, **SMALL)
    notes = [note for note in told.notes if note.startswith("skipped")]
    assert notes == [f"skipped in {book}: checkpoint checkpoints/first"]
    vocabularies = [
        (path / "vocabulary.json").read_text() for path in (run.directory, second.directory)
    ]
    assert vocabularies[0] == vocabularies[1]
