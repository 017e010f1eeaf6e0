"""Corpora as ids: split, cached, shared, and refused with one sentence."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chargen.errors import ConfigError, CorpusError, OutOfMemoryError
from chargen.storage.directories import cache_folder
from chargen.text import building, cache, corpus, sources
from chargen.text.config import CorpusConfig
from chargen.text.corpus import Corpus, cached_corpus, load_corpus, release_memory
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary

TEXT = "Whan that Aprille with his shoures soote, the droghte of March hath perced\n" * 20


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Corpus]:
    monkeypatch.setenv("CHARGEN_CACHE_DIR", str(tmp_path / "cache"))

    def load(*paths: Path | str, **options: Any) -> Corpus:
        names = set(asdict(CorpusConfig()))
        config = CorpusConfig(**{k: v for k, v in options.items() if k in names})
        rest = {k: v for k, v in options.items() if k not in names}
        return load_corpus([str(p) for p in paths], config, **rest)

    return load


def whole(corpus: Corpus) -> str:
    return corpus.vocabulary.decode(np.concatenate([corpus.train, corpus.valid]))


def left_over(folder: Path) -> list[Path]:
    return list((folder / "cache" / "corpora").glob("building-*"))


class TestSplit:
    def test_the_last_tenth(self, book: Path, load: Callable[..., Corpus]) -> None:
        found = load(book)
        assert len(found.train) == int(len(TEXT) * 0.9)
        assert whole(found) == TEXT
        assert found.characters == len(TEXT)
        assert found.train.dtype == np.uint8
        assert not found.train.flags.writeable
        assert found.name == "book"
        assert found.sources == (str(book),)
        assert found.notes == ()

    def test_none(self, book: Path, load: Callable[..., Corpus]) -> None:
        found = load(book, valid_fraction=0)
        assert (len(found.train), len(found.valid)) == (len(TEXT), 0)

    def test_bytes_are_not_cut_inside_a_character(
        self, tmp_path: Path, load: Callable[..., Corpus]
    ) -> None:
        path = tmp_path / "t"
        for extra in range(4):
            path.write_text("x" * extra + "😀" * 100, encoding="utf-8")
            found = load(path, level="byte")
            assert "\ufffd" not in found.vocabulary.decode(found.train)
            assert "\ufffd" not in found.vocabulary.decode(found.valid)
            assert found.characters == extra + 100

    @pytest.mark.parametrize("level", ["char", "byte"])
    @pytest.mark.parametrize("reverse", [False, True])
    def test_documents_stay_whole(
        self, book: Path, load: Callable[..., Corpus], level: str, reverse: bool
    ) -> None:
        found = load(book, documents="lines", level=level, valid_fraction=0.33, reverse=reverse)
        edge = 0 if reverse else -1
        assert found.train[edge] == found.vocabulary.separator_id
        assert found.valid[edge] == found.vocabulary.separator_id
        assert len(found.valid) >= 0.33 * (len(found.train) + len(found.valid))
        assert found.characters == len(TEXT) - 20

    def test_the_first_document_is_longer_than_the_share(
        self, tmp_path: Path, load: Callable[..., Corpus]
    ) -> None:
        (tmp_path / "t").write_text("x" * 99 + "\ny\n")
        found = load(tmp_path / "t", documents="lines", valid_fraction=0.5)
        assert (len(found.train), len(found.valid)) == (100, 2)

    def test_one_document_cannot_be_split(self, book: Path, load: Callable[..., Corpus]) -> None:
        with pytest.raises(CorpusError, match="one document.*--valid"):
            load(book, documents="files")
        assert len(load(book, documents="files", valid_fraction=0).train) == len(TEXT) + 1

    def test_a_share_too_small_or_too_large(self, book: Path, load: Callable[..., Corpus]) -> None:
        one_symbol = 1 - 1.5 / len(TEXT)  # from which nothing can be learnt
        for fraction in (1e-17, 1 - 1e-9, one_symbol):
            with pytest.raises(CorpusError, match="--valid-fraction"):
                load(book, valid_fraction=fraction)

    @pytest.mark.parametrize("level", ["char", "byte"])
    @pytest.mark.parametrize("reverse", [False, True])
    def test_the_last_tenth_of_each_of_several(
        self, tmp_path: Path, load: Callable[..., Corpus], level: str, reverse: bool
    ) -> None:
        texts = {"a": "a" * 90 + "A" * 10, "b": "b\n" * 45 + "BB\nBBBBBB\n", "c": "é"}
        for name, text in texts.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        for names in ("abc", "bac"):
            found = load(*(tmp_path / one for one in names), level=level, reverse=reverse)
            train, valid = (
                found.vocabulary.decode(part[::-1] if reverse else part)
                for part in (found.train, found.valid)
            )
            upper, lower = {"a": "A" * 10 + "\n", "b": "BB\nBBBBBB\n"}, {**texts, "a": "a" * 90}
            lower |= {"a": "a" * 90 + "\n", "b": "b\n" * 45}
            assert train == "".join(lower[one] for one in names)
            assert valid == "".join(upper[one] for one in names if one != "c")
            assert found.notes == ("validation text: the last 10% of each of 3 files",)

    def test_a_small_share_is_not_called_none(
        self, tmp_path: Path, load: Callable[..., Corpus]
    ) -> None:
        for name in "ab":
            (tmp_path / name).write_text("some text\n" * 100)
        found = load(tmp_path / "a", tmp_path / "b", valid_fraction=0.004)
        assert found.notes == ("validation text: the last 0.4% of each of 2 files",)

    def test_documents_of_several_files_stay_whole(
        self, tmp_path: Path, load: Callable[..., Corpus]
    ) -> None:
        for name in "ab":
            (tmp_path / name).write_text(f"{name}\n\n" * 40)
        (tmp_path / "c").write_text("one document")
        names = [tmp_path / name for name in "abc"]
        found = load(*names, documents="blank-lines")
        assert found.vocabulary.decode(found.train) == "a\n" * 36 + "b\n" * 36 + "one document\n"
        assert found.vocabulary.decode(found.valid) == "a\n" * 4 + "b\n" * 4
        whole_files = load(*names, documents="files", valid_fraction=0.4)
        assert whole_files.vocabulary.decode(whole_files.valid).endswith("one document\n")
        assert len(whole_files.valid) > 13
        assert whole_files.notes == ()

    def test_a_marker_that_never_occurs(self, book: Path, load: Callable[..., Corpus]) -> None:
        for level in ("char", "byte"):
            with pytest.raises(CorpusError, match=r"'line': no line of .*book.txt.*mean lines\?"):
                load(book, documents="line", level=level)
            with pytest.raises(CorpusError, match=r"'~~~': no line of .*book.txt and 1 more"):
                load(*[book] * 4, documents="~~~", level=level)
        book.write_text(f"{TEXT}~~~\n{TEXT}")
        other = book.with_name("other.txt")
        other.write_text(TEXT)
        found = load(other, book, documents="~~~")
        ends = np.concatenate([found.train, found.valid]) == found.vocabulary.separator_id
        assert ends.sum() == 3

    def test_other_text(self, book: Path, tmp_path: Path, load: Callable[..., Corpus]) -> None:
        other = tmp_path / "other.txt"
        other.write_text("Whan zephirus!")
        found = load(book, valid=str(other))
        assert found.vocabulary.decode(found.train) == TEXT
        assert found.vocabulary.decode(found.valid) == "Whan \ufffdephirus\ufffd"
        assert found.characters == len(TEXT) + 14
        assert "2 of the 14 characters" in found.notes[0]
        (tmp_path / "nl.jsonl").write_text("\n")
        with pytest.raises(CorpusError, match="cannot be used for validation"):
            load(book, valid=str(tmp_path / "nl.jsonl"))

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
    @given(
        st.lists(st.text("aé\n", min_size=1, max_size=20), min_size=2, max_size=8),
        st.floats(0.05, 0.85),
        st.sampled_from(["char", "byte"]),
        st.sampled_from([None, "lines"]),
    )
    def test_nothing_is_lost(
        self,
        load: Callable[..., Corpus],
        tmp_path: Path,
        lines: list[str],
        fraction: float,
        level: str,
        documents: str | None,
    ) -> None:
        path = tmp_path / "t"
        path.write_text("start\n" + "\n".join(lines) + "\nend\n", encoding="utf-8")
        options = {"valid_fraction": fraction, "level": level, "documents": documents}
        found = load(path, min_characters=1, **options)
        text = path.read_text(encoding="utf-8")
        if documents:
            text = "".join(line + "\n" for line in text.split("\n") if line)
        assert whole(found) == text
        assert len(found.train)
        assert len(found.valid)
        back = load(path, min_characters=1, reverse=True, **options)
        assert np.array_equal(back.train, found.train[::-1])
        assert np.array_equal(back.valid, found.valid[::-1])


class TestCache:
    def test_the_second_run_does_not_encode(
        self, book: Path, load: Callable[..., Corpus], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = load(book)
        monkeypatch.setattr(building, "read", None)
        copy = book.rename(book.with_name("renamed.txt"))
        second = load(copy)
        assert second.key == first.key
        assert whole(second) == TEXT
        assert (second.name, second.sources) == ("renamed", (str(copy),))

    def test_what_decides_the_ids_decides_the_key(
        self, book: Path, load: Callable[..., Corpus]
    ) -> None:
        keys = [
            load(book, **options).key
            for options in (
                {},
                {"level": "byte"},
                {"min_count": 3},
                {"valid_fraction": 0.2},
                {"documents": "lines"},
                {"normalize": "NFC"},
                {"reverse": True},
                {"valid": str(book)},
                {"vocabulary": CharVocabulary("abc")},
            )
        ]
        book.write_text(TEXT + "!")
        keys.append(load(book).key)
        assert len(set(keys)) == len(keys)

    def test_by_key(self, book: Path, load: Callable[..., Corpus]) -> None:
        for reverse in (False, True):
            found = load(book, reverse=reverse)
            again = cached_corpus(found.key)
            assert again is not None
            assert np.array_equal(again.train, found.train)
            assert np.array_equal(again.valid, found.valid)
            assert again.vocabulary == found.vocabulary
        assert cached_corpus("0" * 64) is None
        assert cached_corpus("../corpora") is None
        assert cached_corpus("") is None

    @pytest.mark.parametrize("name", [cache.IDS, cache.META])
    @pytest.mark.parametrize("damage", [b"", b"{}", None])
    def test_a_damaged_one_is_made_again(
        self,
        book: Path,
        tmp_path: Path,
        load: Callable[..., Corpus],
        name: str,
        damage: bytes | None,
    ) -> None:
        place = tmp_path / "cache" / "corpora" / load(book).key
        if damage is None:
            (place / name).unlink()
        else:
            (place / name).write_bytes(damage)
        assert cached_corpus(place.name) is None
        assert whole(load(book)) == TEXT
        assert not left_over(tmp_path)

    def test_the_first_of_two_runs_wins(
        self,
        book: Path,
        tmp_path: Path,
        load: Callable[..., Corpus],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        publish = cache.publish
        inside: list[Corpus] = []

        def late(built: Path, place: Path) -> None:
            if not inside:
                monkeypatch.setattr(corpus, "publish", publish)
                inside.append(load(book))
            publish(built, place)

        monkeypatch.setattr(corpus, "publish", late)
        assert load(book).key == inside[0].key
        assert whole(inside[0]) == TEXT
        assert not left_over(tmp_path)

    def test_runs_that_start_together(
        self, book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CHARGEN_CACHE_DIR", str(tmp_path / "cache"))
        code = (
            "import sys; from chargen.text.corpus import load_corpus;"
            "from chargen.text.config import CorpusConfig;"
            "print(load_corpus([sys.argv[1]], CorpusConfig()).key)"
        )
        command = [sys.executable, "-c", code, str(book)]
        runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        keys = {run.communicate(timeout=60)[0] for run in runs}
        assert [run.returncode for run in runs] == [0, 0, 0]
        assert len(keys) == 1
        assert not left_over(tmp_path)

    def test_folders_of_killed_runs_are_removed(
        self, book: Path, tmp_path: Path, load: Callable[..., Corpus]
    ) -> None:
        folder = tmp_path / "cache" / "corpora"
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        with cache.workspace(folder) as mine:
            name = mine.name
            gone = folder / name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
            gone.mkdir()
            foreign = folder / "building-another-host-1-abc"
            foreign.mkdir()
            load(book)
            assert mine.exists()
            assert not gone.exists()
            assert foreign.exists()

    def test_what_another_process_uses_is_not_removed(
        self, book: Path, tmp_path: Path, load: Callable[..., Corpus]
    ) -> None:
        place = tmp_path / "cache" / "corpora" / load(book).key
        code = (
            "import sys; from chargen.text.corpus import cached_corpus;"
            "ids = cached_corpus(sys.argv[1]).train;"
            "print(len(ids), flush=True); sys.stdin.read(); print(int(ids[-1]))"
        )
        command = [sys.executable, "-c", code, place.name]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == f"{int(len(TEXT) * 0.9)}\n"
            (encoding,) = cache.encodings(place.parent)
            assert encoding.in_use
            assert cache.trim(place.parent, 0) == []
            assert place.exists()
            run.communicate("", timeout=60)
        assert run.returncode == 0
        assert not encoding.in_use
        assert cache.trim(place.parent, 0) == [encoding]
        assert not place.exists()
        assert not left_over(tmp_path)

    def test_using_it_makes_it_young(
        self, book: Path, tmp_path: Path, load: Callable[..., Corpus]
    ) -> None:
        folder = tmp_path / "cache" / "corpora"
        first, second = (folder / load(book, level=level).key for level in ("char", "byte"))
        for age, place in enumerate((first, second)):
            os.utime(place / cache.META, (1e9 + age, 1e9 + age))
        cached_corpus(first.name)
        assert [one.path for one in cache.encodings(folder)] == [second, first]
        assert [one.path for one in cache.trim(folder, 2000)] == [second]

    def test_the_environment_names_the_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CHARGEN_CACHE_DIR", str(tmp_path / "x"))
        assert cache_folder() == tmp_path / "x"
        monkeypatch.delenv("CHARGEN_CACHE_DIR")
        assert "chargen" in str(cache_folder())


class TestRefusals:
    def test_too_small(self, tmp_path: Path, load: Callable[..., Corpus]) -> None:
        path = tmp_path / "t"
        path.write_text("short")
        for level in ("char", "byte"):
            with pytest.raises(CorpusError, match="has 5 characters; at least 64 are needed"):
                load(path, level=level)
        assert load(path, min_characters=2).characters == 5
        with pytest.raises(CorpusError, match="at least 64"):
            load(path)  # now from the cache

    @pytest.mark.parametrize("level", ["char", "byte"])
    def test_empty(self, tmp_path: Path, load: Callable[..., Corpus], level: str) -> None:
        path = tmp_path / "t.txt"
        path.write_bytes(b"\xef\xbb\xbf")
        with pytest.raises(CorpusError, match="is empty"):
            load(path, level=level)
        assert not left_over(tmp_path)

    def test_a_text_that_changes_between_two_readings(
        self,
        book: Path,
        tmp_path: Path,
        load: Callable[..., Corpus],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        class Different:
            def __init__(self) -> None:
                self.readings = 0

            def __call__(self, *arguments: Any) -> Any:
                self.readings += 1
                yield from sources.read(*arguments)
                yield "and more" * (self.readings - 1)

        monkeypatch.setattr(building, "read", Different())
        with pytest.raises(CorpusError, match="changed while it was being read"):
            load(book)
        assert not left_over(tmp_path)

    def test_a_full_disk(
        self,
        book: Path,
        tmp_path: Path,
        load: Callable[..., Corpus],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def full(_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(building, "sync_file", full)
        with pytest.raises(CorpusError, match=r"corpora: No space left.*CHARGEN_CACHE_DIR"):
            load(book)
        assert not left_over(tmp_path)

    def test_memory_that_runs_out_is_not_a_matter_of_the_folder(
        self,
        book: Path,
        tmp_path: Path,
        load: Callable[..., Corpus],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fails(error: OSError | MemoryError) -> Callable[..., None]:
            def sync(_: Any) -> None:
                raise error

            return sync

        for error in (OSError(errno.ENOMEM, "Cannot allocate memory"), MemoryError()):
            monkeypatch.setattr(building, "sync_file", fails(error))
            with pytest.raises(OutOfMemoryError) as caught:
                load(book)
            assert "CHARGEN_CACHE_DIR" not in str(caught.value)
            assert not left_over(tmp_path)

    def test_a_cache_that_is_a_file(self, book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHARGEN_CACHE_DIR", str(book))
        with pytest.raises(CorpusError, match="CHARGEN_CACHE_DIR"):
            load_corpus([str(book)], CorpusConfig())

    def test_options_without_effect_are_noted(
        self, book: Path, load: Callable[..., Corpus]
    ) -> None:
        assert load(book, level="byte", min_count=2).notes == (
            "--min-count has no effect: no byte is unknown",
        )
        assert load(book, valid=str(book), valid_fraction=0.2).notes == (
            "--valid-fraction has no effect: --valid names the validation text",
        )

    def test_options_that_do_not_fit(self, book: Path, load: Callable[..., Corpus]) -> None:
        with pytest.raises(ConfigError, match="--text-column"):
            load(book, text_column="x")
        with pytest.raises(ConfigError, match="--documents"):
            load(book, documents="lines", vocabulary=ByteVocabulary())


def test_standard_input_is_read_once_and_kept(
    load: Callable[..., Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
        found = load("-")
        assert whole(found) == TEXT
        assert (found.name, found.sources) == ("stdin", ("standard input",))
        assert not left_over(tmp_path)
    assert cached_corpus(found.key) is not None
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(CorpusError, match="standard input is empty"):
        load("-")


def test_a_vocabulary_that_is_given(book: Path, load: Callable[..., Corpus]) -> None:
    vocabulary = CharVocabulary("Wahnt")
    found = load(book, vocabulary=vocabulary)
    assert found.vocabulary == vocabulary
    assert found.vocabulary.decode(found.train[:9]) == "Whan\ufffdthat"
    assert "are read as unknown" in found.notes[0]


def test_one_character(tmp_path: Path, load: Callable[..., Corpus]) -> None:
    (tmp_path / "t").write_text("z" * 100)
    found = load(tmp_path / "t")
    assert found.vocabulary.size == 2
    assert set(found.train.tolist()) == {1}


def test_progress(book: Path, load: Callable[..., Corpus]) -> None:
    heard: list[tuple[str, int, int]] = []
    load(book, progress=lambda *about: heard.append(about))
    assert list(dict.fromkeys(stage for stage, _, _ in heard)) == [
        "reading",
        "counting",
        "encoding",
    ]
    assert all(0 <= done <= total == len(TEXT) for _, done, total in heard)
    assert [done for _, done, _ in heard] == [0, len(TEXT)] * 3


def test_memory_can_be_released(book: Path, load: Callable[..., Corpus]) -> None:
    found = load(book)
    before = found.train.copy()
    release_memory(found.train)
    release_memory(np.zeros(3))
    assert np.array_equal(found.train, before)
