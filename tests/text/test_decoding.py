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
    # Letters such as \u6161 alone could as well be "aa" in UTF-8, which is refused.
    data = f"{text}.".encode(encoding)
    expected = newlines(f"{text}.").removeprefix("\ufeff")
    assert read(data, size, encoding) == expected


def test_only_what_reads_as_text_contradicts_an_encoding() -> None:
    assert read("āā".encode("utf-16-le"), 1, "utf-16-le") == "āā"
    with pytest.raises(CorpusError, match="not utf-16-le: it reads as utf-8"):
        read(b"plain words", 3, "utf-16-le")


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


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [(codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"), (codecs.BOM_UTF8, "utf-8")],
)
@pytest.mark.parametrize("asked", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_a_mark_contradicts_other_encodings(mark: bytes, encoding: str, asked: str) -> None:
    order = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}.get(mark, "utf-8")
    data = mark + "some words".encode(order)
    if asked in (encoding, order):
        assert read(data, encoding=asked) == "some words"
        return
    with pytest.raises(CorpusError, match=f"mark of {encoding}, so it is not {asked}"):
        read(data, encoding=asked)


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
    for before in (b"", b"a" * 8):  # in the first block or in a later one
        data = before + b"ab\\ud800"
        with pytest.raises(
            CorpusError, match=rf"file, character {len(before) + 2}, .* surrogate, U\+D800"
        ):
            read(data, 8, encoding="unicode_escape")
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


WESTERN = {
    "a pound sign in each row": "".join(f"{i},£{i}.50\n" for i in range(17)),
    "quotes and a dash": "He said “hello” — it’s a café on the corner.\n" * 5,
    "French": "L'été à la forêt, où le héros français mange des œufs au mois d'août.\n" * 5,
    "German": "Die größte Überraschung für Mädchen war die Straße.\n" * 5,
    "Spanish": "El niño comió una manzana; ¿qué pasó después? ¡Nadie lo sabía!\n" * 5,
    "Portuguese": "As nações não são irmãs, mas os corações são. Você já comeu?\n" * 5,
    "Swedish": "På ängen står en älg och äter örter, för den är hungrig.\n" * 5,
}
EASTERN = {
    "Polish": "Zażółć gęślą jaźń. W Szczebrzeszynie chrząszcz brzmi w trzcinie.\n" * 5,
    "a Polish name": "The man's name was Wałęsa, and he lived in a city on the sea.\n" * 5,
    "Czech": "Příliš žluťoučký kůň úpěl ďábelské ódy. Když přišel domů, bylo pozdě.\n" * 5,
    "Hungarian": "Az eső esik, az idő múlik; a nők és a férfiak a hűvös szellőben.\n" * 5,
}
PLAIN = "An ordinary line of plain words, and then another one, before what is told apart.\n"


def guessed(data: bytes, notes: list[str] | None = None) -> str:
    """What the bytes are read as where nobody says in which encoding they are."""
    notes = [] if notes is None else notes
    return "".join(decode(cut(data, 1 << 14), "f", "auto", "strict", notes))


@pytest.mark.parametrize("before", [0, 5000], ids=["at once", "after what was read as a sample"])
@pytest.mark.parametrize("name", [*WESTERN, *EASTERN])
def test_code_pages_that_share_letters(name: str, before: int) -> None:
    pytest.importorskip("charset_normalizer")
    encoding = "cp1252" if name in WESTERN else "cp1250"
    text = PLAIN * before + (WESTERN | EASTERN)[name]
    notes: list[str] = []
    assert guessed(text.encode(encoding), notes) == text
    assert notes == [f"f was read as {encoding}"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text", ["The fox.\n" * 3, "Всё смешалось в доме.\n" * 9, "日本語。\n" * 9]
)
def test_wide_text_without_a_mark(text: str, encoding: str) -> None:
    pytest.importorskip("charset_normalizer")
    notes: list[str] = []
    assert guessed(text.encode(encoding), notes) == text
    assert notes == [f"f was read as {encoding.replace('-', '_')}"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("text", ["The fox.\n" * 3, "Всё é.\n" * 9])
@pytest.mark.parametrize("asked", ["utf-8", "latin-1", "ascii"])
def test_wide_text_is_told_apart_from_binary(text: str, encoding: str, asked: str) -> None:
    for errors in ("strict", "replace"):
        data = text.encode(encoding)
        if errors == "replace":
            assert "\0" not in "".join(decode([data], "f", asked, errors, []))
            continue
        with pytest.raises(CorpusError, match=f"^f is UTF-16 or UTF-32 .* --encoding {encoding}$"):
            list(decode([data], "f", asked, errors, []))


def test_a_damaged_byte_makes_no_other_encoding_of_utf_8() -> None:
    data = ("日本語の文章。\n" * 500).encode()
    for place in (0, 100, len(data) - 2):
        with pytest.raises(CorpusError, match=r"f is not utf-8: byte offset .* --errors replace"):
            guessed(data[:place] + b"\xff" + data[place:])


def test_binary_files_are_told() -> None:
    pytest.importorskip("charset_normalizer")
    picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(i * i % 251 for i in range(5000))
    for read_it in (guessed, read):
        with pytest.raises(CorpusError, match=r"^f.* looks binary.*--level byte --raw-bytes"):
            read_it(picture)


@pytest.mark.parametrize("asked", ["utf-8", "auto", "cp1252", "ascii"])
def test_advice_is_never_what_was_given(asked: str) -> None:
    data = ("日本語の文章。\n" * 9).encode() + b"\x81\xff"
    with pytest.raises(CorpusError, match="--errors replace$") as told:
        read(data, encoding=asked)
    assert f"--encoding {asked}" not in str(told.value)


def test_latin_1_with_quotes_is_said_to_be_cp1252() -> None:
    notes: list[str] = []
    data = "“é” and “é”".encode("cp1252")
    assert "".join(decode(cut(data, 3), "f", "latin-1", "strict", notes)) == data.decode("latin-1")
    assert len(notes) == 1
    assert "--encoding cp1252" in notes[0]
    list(decode(["é".encode("latin-1")], "f", "latin-1", "strict", notes))
    list(decode([data], "f", "cp1252", "strict", notes))
    assert len(notes) == 1


# What composes with what comes before: marks, Hangul vowels and tails, Kirat Rai vowel signs.
composing = st.text(
    st.sampled_from("aeé\u0301\u0323\u0327\u1100\u1161\u11a8가\u0915\u093c\U00016d63\U00016d67 ")
    | st.characters(exclude_categories=("Cs",))
)


@given(composing, st.integers(1, 5))
def test_normalization_does_not_see_the_pieces(text: str, size: int) -> None:
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    assert "".join(normalized(pieces, "NFC")) == unicodedata.normalize("NFC", text)
