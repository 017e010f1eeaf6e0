"""What corpus arguments name, and the stream of text that they are read as."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.errors import ConfigError, CorpusError
from chargen.text import builtin, sources
from chargen.text.building import fingerprint
from chargen.text.config import CorpusConfig, TableConfig
from chargen.text.files import from_path
from chargen.text.sources import corpus_name, read, read_all, resolve
from chargen.text.symbols import SEPARATOR
from chargen.text.tables import open_table
from tests.pipes import written_once

PLAIN = CorpusConfig()
TEXT = "To be, or not to be: été, 日本, 😀\n" * 100


def packed(ending: str) -> bytes:
    data = TEXT.encode()
    if ending == ".zst":
        return bytes(pytest.importorskip("zstandard").ZstdCompressor().compress(data))
    pack: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
    }
    return pack[ending](data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"b.txt": "bee\n", "a/z.txt": "zed", "a.md": "ay", "empty": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2", ".xz", ".zst"])
class TestArchives:
    def test_whole(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"t.txt{ending}"
        path.write_bytes(packed(ending) * 2)  # archives may be written one after the other
        done: list[int] = []
        config = CorpusConfig()
        assert "".join(read(resolve([str(path)], config), config, advance=done.append)) == TEXT * 2
        assert 0 < sum(done) <= path.stat().st_size

    def test_truncated(self, tmp_path: Path, ending: str) -> None:
        if not ending:
            pytest.skip("a plain file does not tell where it ends")
        path = tmp_path / f"t.txt{ending}"
        for keep in (-1, -9, 20):
            path.write_bytes(packed(ending)[:keep])
            with pytest.raises(CorpusError, match="t.txt.* is damaged"):
                read_all([str(path)], PLAIN)

    def test_damaged(self, tmp_path: Path, ending: str) -> None:
        if not ending:
            pytest.skip("not an archive")
        path = tmp_path / f"t.txt{ending}"
        for data in (b"nothing of the kind", packed(ending)[:30] + b"\0\xff" * 40):
            path.write_bytes(data)
            with pytest.raises(CorpusError, match="t.txt.* is damaged"):
                read_all([str(path)], PLAIN)


def test_a_bomb_comes_in_small_pieces(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"a" * 20_000_000))
    assert max(map(len, read(resolve([str(path)], PLAIN), PLAIN))) <= 1 << 20


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("this Python reads .zst by itself")
    path = tmp_path / "t.zst"
    path.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(CorpusError, match=r"chargen\[zstd\]"):
        read_all([str(path)], PLAIN)


class TestFolders:
    def test_sorted_and_joined_by_newlines(self, folder: Path) -> None:
        assert read_all([str(folder)], PLAIN) == "ay\nzed\nbee\n"

    @pytest.mark.parametrize(
        ("glob", "text"),
        [
            ("*.txt", "zed\nbee\n"),
            ("**/*.md", "ay"),
            ("a/*", "zed"),
            ("z.*", "zed"),
            ("**/c/*", "deeper\ndeep\n"),
            ("b/**/*.log", "deeper\nlow\n"),
            ("**/b/**/x.log", "deeper\n"),
        ],
    )
    def test_glob(self, folder: Path, glob: str, text: str) -> None:
        for name, content in {"b/c/x": "deeper", "c/y": "deep", "b/w": "low"}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.log").write_text(f"{content}\n")
        assert read_all([str(folder)], CorpusConfig(glob=glob)) == text

    def test_a_glob_is_for_folders(self, folder: Path) -> None:
        files = [str(folder / "a.md"), str(folder / "b.txt")]
        for corpora, told in (
            ([str(folder)], []),
            ([*files, str(folder)], []),
            (files[:1], [f"--glob has no effect on {files[0]}: it"]),
            (files, [f"--glob has no effect on {files[0]} and {len(files) - 1} more: it"]),
        ):
            notes: list[str] = []
            resolve(corpora, CorpusConfig(glob="*"), notes)
            assert [note.partition(" chooses")[0] for note in notes] == told

    def test_hidden_linked_and_special_files_are_left_out(self, folder: Path) -> None:
        (folder / ".hidden").write_text("no")
        (folder / ".git").mkdir()
        (folder / ".git" / "x").write_text("no")
        (folder / "loop").symlink_to(folder, target_is_directory=True)
        (folder / "nowhere").symlink_to(folder / "missing")
        if hasattr(os, "mkfifo"):
            os.mkfifo(folder / "pipe")
        assert read_all([str(folder)], PLAIN) == "ay\nzed\nbee\n"

    def test_binary_files_are_named(self, folder: Path) -> None:
        (folder / "c.bin").write_bytes(b"\x7fELF\0\0")
        (folder / "d.bin.gz").write_bytes(gzip.compress(b"\0"))
        (folder / "e.txt").write_text("wide", encoding="utf-16")
        notes: list[str] = []
        assert read_all([str(folder)], PLAIN, notes) == "ay\nzed\nbee\nwide"
        assert "c.bin" in notes[0]
        assert "d.bin.gz" in notes[0]
        assert "e.txt was read as utf-16" in notes[1]

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
    @pytest.mark.parametrize("text", ["Wide, and\nno mark.\n", "\u65e5\u672c\u8a9e\u3002\n" * 3])
    def test_wide_files_without_a_mark_are_text_where_encodings_are_guessed(
        self, folder: Path, encoding: str, text: str
    ) -> None:
        (folder / "e.txt").write_bytes(text.encode(encoding))
        (folder / "c.bin").write_bytes(b"\x7fELF\2\1\1\0\0\0" + bytes(range(256)) * 40)
        (folder / "d.bin").write_bytes(b"\0")
        notes: list[str] = []
        guessing = CorpusConfig(encoding="auto")
        assert read_all([str(folder)], guessing, notes) == "ay\nzed\nbee\n" + text
        assert ["c.bin" in note and "d.bin" in note for note in notes] == [True, False]
        assert f"e.txt was read as {encoding.replace('-', '_')}" in notes[1]
        notes.clear()
        assert read_all([str(folder)], PLAIN, notes) == "ay\nzed\nbee\n"
        assert "e.txt" in notes[0]

    def test_undecodable_files_are_errors(self, folder: Path) -> None:
        (folder / "c.txt").write_bytes(b"caf\xe9")
        with pytest.raises(CorpusError, match="c.txt is not utf-8: byte offset 3"):
            read_all([str(folder)], PLAIN)

    def test_nothing_to_read(self, tmp_path: Path) -> None:
        with pytest.raises(CorpusError, match="holds no files"):
            resolve([str(tmp_path)], PLAIN)
        (tmp_path / "x").write_bytes(b"\0")
        with pytest.raises(CorpusError, match="holds no text"):
            resolve([str(tmp_path)], PLAIN)
        with pytest.raises(CorpusError, match=r"match '\*.txt'"):
            resolve([str(tmp_path)], CorpusConfig(glob="*.txt"))


class TestWhatIsNoCorpus:
    def test_missing(self, folder: Path) -> None:
        with pytest.raises(CorpusError, match=r"does not exist; did you mean .*b\.txt"):
            resolve([str(folder / "bb.txt")], PLAIN)
        with pytest.raises(CorpusError, match="did you mean python-docs"):
            resolve(["python-doc"], PLAIN)
        with pytest.raises(CorpusError, match="does not exist$"):
            resolve(["/no/such/thing"], PLAIN)
        with pytest.raises(CorpusError):
            resolve(["a\0b"], PLAIN)
        with pytest.raises(CorpusError, match="empty"):
            resolve([""], PLAIN)
        with pytest.raises(ConfigError):
            resolve([], PLAIN)

    def test_empty(self, folder: Path) -> None:
        with pytest.raises(CorpusError, match="is empty"):
            resolve([str(folder / "empty")], PLAIN)

    @pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs a device")
    def test_devices(self) -> None:
        with pytest.raises(CorpusError, match="/dev/zero is not a file"):
            resolve(["/dev/zero"], PLAIN)

    def test_names_of_several_lines_stay_on_one(self, tmp_path: Path) -> None:
        path = tmp_path / "a\nb\x1b[31m.txt"
        path.write_bytes(b"\xff")
        with pytest.raises(CorpusError, match=r"a\\nb\\x1b\[31m.txt is not utf-8"):
            read_all([str(path)], PLAIN)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
    def test_unreadable(self, folder: Path) -> None:
        (folder / "b.txt").chmod(0)
        with pytest.raises(CorpusError, match="cannot be read"):
            read_all([str(folder / "b.txt")], PLAIN)

    def test_changed_or_removed_after_it_was_found(self, folder: Path) -> None:
        path = folder / "b.txt"
        found = resolve([str(path)], PLAIN)
        path.write_text("something else")
        with pytest.raises(CorpusError, match="changed while"):
            list(read(found, PLAIN))
        path.unlink()
        with pytest.raises(CorpusError, match="does not exist"):
            list(read(found, PLAIN))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"typed\r\n")))
    assert read_all(["-"], PLAIN) == "typed\n"
    with pytest.raises(ConfigError, match="only once"):
        resolve(["-", "-"], PLAIN)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("through a pipe",))
    writer.start()
    assert read_all([str(pipe)], PLAIN) == "through a pipe"
    writer.join()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    ("name", "delimiter"), [("t.csv", None), ("t.csv", ";"), ("t.tsv", None), ("t", ";")]
)
def test_tables_from_named_pipes(tmp_path: Path, name: str, delimiter: str | None) -> None:
    pipe = tmp_path / name
    with written_once(pipe, "a;text\n1;one\n2;two\n"):
        table = open_table(from_path(pipe), TableConfig(delimiter=delimiter), [])
        assert [table.text(row) for row in table.rows()] == ["one", "two"]


class TestBuiltin:
    def test_language_reference(self) -> None:
        text = read_all(["python-docs"], PLAIN)
        assert text == "\n\n".join(builtin.topics())
        apart = read_all(["python-docs"], CorpusConfig(documents="files"))
        assert apart.count(SEPARATOR) == len(builtin.topics())

    def test_standard_library(self) -> None:
        found = resolve(["python-stdlib"], PLAIN)
        names = [source.name for source in found]
        assert names == sorted(names)
        assert "python-stdlib/abc.py" in names
        assert not any("site-packages" in name or "/test/" in name for name in names)
        first = "".join(read(found[:3], PLAIN))
        assert "import" in first

    def test_a_name_wins_over_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("python-docs").write_text("mine")
        assert read_all(["./python-docs"], PLAIN) == "mine"
        assert read_all(["python-docs"], PLAIN) != "mine"

    def test_source_files_have_an_encoding_of_their_own(self) -> None:
        notes: list[str] = []
        latin = b"# -*- coding: latin-1 -*-\r\nname = 'caf\xe9'\n"
        assert "café" in builtin.decode_python([latin], "f.py", notes)
        assert builtin.decode_python([b"# coding: none-such\n"], "g.py", notes) == ""
        assert builtin.decode_python([b"caf\xe9"], "h.py", notes) == ""
        assert [note.split()[0] for note in notes] == ["g.py", "h.py"]


class TestDocuments:
    @given(st.lists(st.text("ab\n", min_size=1), min_size=1, max_size=5), st.integers(1, 4))
    def test_lines(self, pieces: list[str], size: int) -> None:
        whole = "".join(pieces)
        found = "".join(sources.separate_lines(pieces))
        lines = [line for line in whole.split("\n") if line]
        assert [line for line in found.split(SEPARATOR) if line] == lines
        assert SEPARATOR * 2 not in found
        assert not found.startswith(SEPARATOR)

    @pytest.mark.parametrize(
        ("documents", "expected"),
        [(None, "a\nb\nc\nd"), ("files", "a\n\nb|c\nd|"), ("lines", "a|b|c|d|")],
    )
    def test_each_is_followed_by_one_separator(
        self, tmp_path: Path, documents: str | None, expected: str
    ) -> None:
        (tmp_path / "1").write_text("a\n\nb")
        (tmp_path / "2").write_text("c\nd")
        if documents is None:
            expected = "a\n\nb\nc\nd"
        text = read_all([str(tmp_path)], CorpusConfig(documents=documents))
        assert text.replace(SEPARATOR, "|") == expected

    def test_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "t.jsonl.gz"
        lines = [json.dumps({"text": text}) for text in ("a\nb", "", "c")]
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
        for documents, expected in ((None, "a\nb\nc\n"), ("rows", "a\nb|c|"), ("lines", "a|b|c|")):
            text = read_all([str(path)], CorpusConfig(documents=documents))
            assert text.replace(SEPARATOR, "|") == expected

    @pytest.mark.parametrize(
        ("documents", "text", "expected"),
        [
            ("blank-lines", "\n\na\nb\n\n \t\nc\n\n", "a\nb|c|"),
            ("blank-lines", "a\n\nb", "a|b|"),
            ("~~~", "a\n\nb\n~~~\nc ~~~\n ~~~\n", "a\n\nb|c ~~~\n ~~~|"),
            ("~~~", "~~~\n~~~\n\na\n\n~~~", "a|"),
            ("<|endoftext|>", "a\r\n<|endoftext|>\r\nb\r\n", "a|b|"),
            ("~~~", "a\n", "a|"),
        ],
    )
    @pytest.mark.parametrize("clean", [None, "html"])
    def test_lines_that_end_documents(
        self, tmp_path: Path, documents: str, text: str, expected: str, clean: str | None
    ) -> None:
        (tmp_path / "a.txt").write_bytes(text.encode())
        (tmp_path / "b.txt").write_text("the next")
        (tmp_path / "c.jsonl").write_text(json.dumps({"text": text}) + '\n{"text": "row"}\n')
        found = read_all([str(tmp_path)], CorpusConfig(documents=documents, clean=clean))
        assert found.replace(SEPARATOR, "|") == f"{expected}the next|{expected}row|"

    def test_a_marker_may_look_like_a_tag(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("<b>a</b>\n<hr>\nb<br>\n")
        found = read_all([str(tmp_path)], CorpusConfig(documents="<hr>", clean="html"))
        assert found.replace(SEPARATOR, "|").replace("\n", "") == "a|b|"

    @pytest.mark.parametrize("documents", ["", "a\nb"])
    def test_what_is_no_marker(self, documents: str) -> None:
        with pytest.raises(ConfigError, match="--documents must"):
            CorpusConfig(documents=documents)

    def test_rows_need_tables(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match=r"--documents rows.*b\.txt"):
            resolve([str(folder / "b.txt")], CorpusConfig(documents="rows"))


@given(st.lists(st.text("ab", max_size=30)), st.integers(1, 9))
def test_pieces_are_gathered(pieces: list[str], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CHUNK_CHARACTERS", size)
        found = list(sources.rechunked(pieces))
    assert "".join(found) == "".join(pieces)
    assert all(0 < len(piece) <= size for piece in found)


def test_normalized_text(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("e\u0301" * 3, encoding="utf-8")
    assert read_all([str(path)], CorpusConfig(normalize="NFC")) == "é" * 3
    path.write_text("a\ne\u0301nd\nb\nénd\n", encoding="utf-8")
    for marker in ("énd", "e\u0301nd"):
        found = read_all([str(path)], CorpusConfig(normalize="NFC", documents=marker))
        assert found.replace(SEPARATOR, "|") == "a|b|"


def test_a_fingerprint_is_of_the_content_and_how_it_is_read(folder: Path) -> None:
    def of(path: Path, config: CorpusConfig = PLAIN) -> str:
        return fingerprint(resolve([str(path)], config), config)

    first = of(folder / "b.txt")
    (folder / "copy.txt").write_text("bee\n")
    assert of(folder / "copy.txt") == first
    assert of(folder / "a.md") != first
    for config in (CorpusConfig(errors="replace"), CorpusConfig(documents="lines")):
        assert of(folder / "b.txt", config) != first
    (folder / "b.csv").write_text("bee\n")
    assert of(folder / "b.csv") != first


@pytest.mark.parametrize(
    ("corpora", "name"),
    [
        (["a/tiny shakespeare.txt"], "tiny-shakespeare"),
        (["x.jsonl.gz"], "x"),
        (["book.v2.txt.xz"], "book.v2"),
        (["python-docs"], "python-docs"),
        (["-"], "stdin"),
        (["война.txt", "b"], "война-and-1-more"),
        (["..."], "corpus"),
        (["a\n\x1b.txt"], "a"),
        (["हिन्दी  कविता.txt"], "हिन्दी-कविता"),
        (["cafe\u0301.md"], "cafe\u0301"),
    ],
)
def test_names_of_corpora(corpora: list[str], name: str) -> None:
    assert corpus_name(corpora) == name
