"""Text from everywhere: the short form of `benchmarks/fuzz_texts.py`, and what must not fill up."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from chargen.errors import ConfigError, CorpusError
from chargen.text import files
from chargen.text.config import CorpusConfig
from chargen.text.corpus import load_corpus
from chargen.text.sources import read_all

from .loading import benchmark


def test_every_file_is_read_or_refused(tmp_path: Path) -> None:
    found = benchmark("fuzz_texts").run(800, 7, tmp_path, 0)
    assert found["failures"] == []
    assert all(counts.get("text") and counts["refused"] for counts in found["kinds"].values())


BOMBS = pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)


@BOMBS
def test_a_bomb_is_defused_unless_it_is_allowed(
    suffix: str, pack: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ALWAYS_ALLOWED_BYTES", 1_000_000)
    monkeypatch.setattr(files, "MAX_EXPANSION_RATIO", 500)
    path = tmp_path / f"bomb.txt{suffix}"
    path.write_bytes(pack(b"a" * 8_000_000))
    unpacked = 0

    def count(source: object, advance: object) -> object:
        nonlocal unpacked
        for block in real(source, advance):  # type: ignore[arg-type]
            unpacked += len(block)
            yield block

    real = files.unpacked_blocks
    monkeypatch.setattr(files, "unpacked_blocks", count)
    limit = max(1_000_000, 500 * path.stat().st_size)
    if limit < 8_000_000:  # gzip packs a thousand times at most
        with pytest.raises(CorpusError, match=rf"bomb\.txt\{suffix} unpacks.*--max-bytes"):
            read_all([str(path)], CorpusConfig())
        assert unpacked <= limit + 2 * files.BLOCK
    assert len(read_all([str(path)], CorpusConfig(max_bytes=8_000_000))) == 8_000_000
    with pytest.raises(CorpusError, match="--max-bytes"):
        read_all([str(path)], CorpusConfig(max_bytes=7_999_999))


@pytest.mark.parametrize("encoding", ["utf-8", "auto"])
@pytest.mark.parametrize("ending", ["txt", "tsv", "jsonl"])
def test_what_is_allowed_can_be_trained_on(
    ending: str, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ALWAYS_ALLOWED_BYTES", 1000)
    monkeypatch.setattr(files, "MAX_EXPANSION_RATIO", 10)
    rows = {"txt": "abc\n" * 2000, "tsv": "text\n" + "abc\n" * 2000}
    path = tmp_path / f"bomb.{ending}.bz2"
    path.write_bytes(bz2.compress(rows.get(ending, '{"text": "abc"}\n' * 2000).encode()))
    config = CorpusConfig(encoding=encoding, max_bytes=100_000)
    assert load_corpus([str(path)], config).characters == 8000


def test_a_repetitive_log_is_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "log.txt.xz"
    path.write_bytes(lzma.compress(b"12:00 nothing happened\n" * 1_000_000))
    assert 1000 * path.stat().st_size < 23_000_000
    assert len(read_all([str(path)], CorpusConfig())) == 23_000_000


def test_plain_text_has_a_limit_only_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("some text\n" * 1000)
    assert len(read_all([str(path)], CorpusConfig(max_bytes=10_000))) == 10_000
    with pytest.raises(CorpusError, match=r"text\.txt has more bytes.*--max-bytes"):
        read_all([str(path)], CorpusConfig(max_bytes=9_999))
    with pytest.raises(ConfigError, match="--max-bytes"):
        CorpusConfig(max_bytes=0)


def test_the_limit_is_no_part_of_the_encoding(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("some text\n" * 1000)
    keys = {
        load_corpus([str(path)], CorpusConfig(max_bytes=most)).key
        for most in (None, 10_000, 20_000)
    }
    assert len(keys) == 1
    with pytest.raises(CorpusError, match=r"text\.txt has more bytes.*--max-bytes"):
        load_corpus([str(path)], CorpusConfig(max_bytes=9_999))
