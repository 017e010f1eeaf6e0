"""Bytes become the same text however they arrive, or a sentence says which byte does not."""

from __future__ import annotations

import codecs
import encodings.aliases
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.errors import CorpusError
from chargen.text.config import is_text_encoding
from chargen.text.decoding import decode, normalized

ALL_ENCODINGS = sorted(filter(is_text_encoding, set(encodings.aliases.aliases.values())))
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def read(data: bytes, size: int = 1 << 20, encoding: str = "utf-8", errors: str = "strict") -> str:
    return "".join(decode(cut(data, size), "file", encoding, errors, []))


def newlines(text: str) -> str:
    return io.IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)


@given(
    texts,
    st.integers(1, 7),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "gb18030", "utf-7"]),
)
def test_blocks_do_not_matter(text: str, size: int, encoding: str) -> None:
    data = text.encode(encoding)
    expected = newlines(text).removeprefix("\ufeff")
    assert read(data, size, encoding) == expected


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
@pytest.mark.parametrize("asked", ["utf-8", "auto"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_byte_order_marks(mark: bytes, encoding: str, asked: str, size: int) -> None:
    assert read(mark + "aé😀\r\n".encode(encoding), size, asked) == "aé😀\n"


def test_a_mark_is_noted() -> None:
    notes: list[str] = []
    list(decode(["hi".encode("utf-16")], "file", "utf-8", "strict", notes))
    assert notes == ["file was read as utf-16"]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_newlines_of_every_convention(size: int) -> None:
    assert read(b"a\r\nb\rc\nd\r", size) == "a\nb\nc\nd\n"


@given(texts.map(str.encode), texts.map(str.encode), st.integers(1, 5))
def test_the_byte_that_is_wrong(before: bytes, after: bytes, size: int) -> None:
    with pytest.raises(CorpusError, match=rf"byte offset {len(before)} \(0xff\)"):
        read(before + b"\xff" + after, size)


@pytest.mark.parametrize("size", [1, 2, 100])
def test_text_that_ends_inside_a_character(size: int) -> None:
    with pytest.raises(CorpusError, match=r"byte offset 3 \(0xe2\).*--errors replace"):
        read(b"abc\xe2\x82", size)
    assert read(b"abc\xe2\x82", size, errors="replace") == "abc\ufffd"


@pytest.mark.parametrize("size", [1, 4, 100])
def test_nul_looks_binary(size: int) -> None:
    with pytest.raises(CorpusError, match="byte offset 5, looks binary"):
        read("aé\r\n".encode() + b"\0b", size)
    assert read(b"a\0b", size, errors="replace") == "a\ufffdb"


def test_lone_surrogates_of_a_codec() -> None:
    with pytest.raises(CorpusError, match="surrogate, U\\+D800"):
        read(b"ab\\ud800", encoding="unicode_escape")
    assert read(b"ab\\ud800", encoding="unicode_escape", errors="replace") == "ab\ufffd"


@given(
    st.binary(max_size=60), st.sampled_from(ALL_ENCODINGS), st.sampled_from(["strict", "replace"])
)
def test_any_bytes_in_any_encoding(data: bytes, encoding: str, errors: str) -> None:
    try:
        text = read(data, 7, encoding, errors)
    except CorpusError:
        return
    text.encode("utf-8")  # no lone surrogate
    assert "\0" not in text
    assert "\r" not in text


def test_encodings_are_guessed() -> None:
    pytest.importorskip("charset_normalizer")
    text = "Всё смешалось в доме Облонских. Жена узнала, что муж был в связи.\n" * 20
    notes: list[str] = []
    assert "".join(decode([text.encode("cp1251")], "f", "auto", "strict", notes)) == text
    assert notes == ["f was read as cp1251"]
    notes.clear()
    assert "".join(decode([text.encode()], "f", "auto", "strict", notes)) == text
    assert not notes


# What composes with what comes before: marks, Hangul vowels and tails, Kirat Rai vowel signs.
composing = st.text(
    st.sampled_from("aeé\u0301\u0323\u0327\u1100\u1161\u11a8가\u0915\u093c\U00016d63\U00016d67 ")
    | st.characters(exclude_categories=("Cs",))
)


@given(composing, st.integers(1, 5))
def test_normalization_does_not_see_the_pieces(text: str, size: int) -> None:
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    assert "".join(normalized(pieces, "NFC")) == unicodedata.normalize("NFC", text)
