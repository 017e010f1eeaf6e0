"""Bytes to characters in a stream: encodings, byte order marks, newlines, normalization.

What leaves here holds no NUL, no carriage return and no lone surrogate.
"""

from __future__ import annotations

import codecs
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from chargen.errors import CorpusError
from chargen.text.config import AUTO_ENCODING

REPLACEMENT = "\ufffd"
SAMPLE = 1 << 18  # bytes from which an encoding is guessed
# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
# Decoders that never yield a lone surrogate; the others (utf-7, unicode_escape) are looked after.
_SOUND = ("utf-8", "utf-16", "utf-32", "ascii", "iso8859", "cp")


def is_wide(encoding: str) -> bool:
    """Whether NUL bytes are a normal part of the encoding."""
    return encoding != AUTO_ENCODING and codecs.lookup(encoding).name.startswith(
        ("utf-16", "utf-32")
    )


def marked_encoding(head: bytes) -> str | None:
    """The encoding that a byte order mark at the beginning of `head` tells, if there is one."""
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)


def decode(
    blocks: Iterable[bytes], name: str, encoding: str, errors: str, notes: list[str]
) -> Iterator[str]:
    """Decode a stream of bytes; newlines of any convention become ``"\\n"``.

    Raises
    ------
    CorpusError
        Naming the byte offset, for bytes that are not text in this encoding.
    """
    blocks = iter(blocks)
    head, blocks = _peek(blocks, SAMPLE if encoding == AUTO_ENCODING or is_wide(encoding) else 4)
    encoding = _choose_encoding(head, name, encoding, notes)
    codec = codecs.lookup(encoding).name
    inner = codecs.getincrementaldecoder(encoding)(errors)
    decoder = io.IncrementalNewlineDecoder(inner, translate=True)
    checked = not codec.startswith(_SOUND)
    offset = 0
    characters = 0
    first = True
    for block in _with_end(blocks):
        offset += len(block)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise _undecodable(error, offset, name, encoding) from error
        except (UnicodeError, ValueError, OverflowError) as error:
            raise CorpusError(
                f"{name} is not {encoding}: {error} (before byte offset {offset})"
            ) from error
        if first and text:
            first = False
            text = text.removeprefix("\ufeff")
        if "\0" in text or (checked and not text.isascii()):
            begin = None if is_wide(codec) else offset - len(block) + block.find(b"\0")
            done = characters
            text = clean(text, errors, lambda at: _place(name, begin, done + at))  # noqa: B023
        characters += len(text)
        if text:
            yield text


def newlines(text: str) -> str:
    """The text with newlines of any convention as ``"\\n"``."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def clean(text: str, errors: str, place: Callable[[int], str]) -> str:
    """Replace what is no text (NUL, lone surrogates) by U+FFFD, or refuse it when strict.

    `place` turns an index into words for the message.
    """
    if errors == "replace":
        return _NOT_TEXT.sub(REPLACEMENT, text)
    found = _NOT_TEXT.search(text)
    if found is None:
        return text
    if found[0] == "\0":
        raise CorpusError(
            f"{place(found.start())} looks binary: it holds a NUL; --errors replace reads it "
            "as U+FFFD"
        )
    raise CorpusError(
        f"{place(found.start())} holds a lone surrogate, U+{ord(found[0]):04X}, which is not"
        " text; --errors replace reads it as U+FFFD"
    )


def _place(name: str, byte: int | None, character: int) -> str:
    where = f"character {character}" if byte is None or byte < 0 else f"byte offset {byte}"
    return f"{name}, {where},"


def _peek(blocks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """At least the first `size` bytes (all, if there are fewer), and the whole stream again."""
    held: list[bytes] = []
    length = 0
    for block in blocks:
        held.append(block)
        length += len(block)
        if length >= size:
            break

    def again() -> Iterator[bytes]:
        yield from held
        held.clear()
        yield from blocks

    return b"".join(held)[:size], again()


def _with_end(blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield from (block for block in blocks if block)
    yield b""  # tells the decoder that nothing follows


def _choose_encoding(head: bytes, name: str, encoding: str, notes: list[str]) -> str:
    """The encoding to read with: a byte order mark goes before UTF-8 and before guessing.

    Raises
    ------
    CorpusError
        Where the bytes show that it cannot be the one that was asked for.
    """
    found = marked_encoding(head)
    if encoding != AUTO_ENCODING and codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        if found is not None and not codecs.lookup(encoding).name.startswith(found):
            raise CorpusError(
                f"{name} begins with the byte order mark of {found}, so it is not {encoding}: "
                "leave --encoding out"
            )
        if (
            found is None
            and is_wide(encoding)
            and len(head) > 3
            and 0 not in head
            and _is_utf8(head)
        ):
            raise CorpusError(
                f"{name} is not {encoding}: it reads as utf-8, without any NUL: leave --encoding "
                "out"
            )
        return encoding
    if found is None and encoding == AUTO_ENCODING:
        found = _guess(head, name)
    if found is not None and found != "utf-8":
        notes.append(f"{name} was read as {found}")
    return found or "utf-8"


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(head, final=False)
    except UnicodeDecodeError:
        return False
    return True


def _guess(head: bytes, name: str) -> str:
    if len(head) == SAMPLE and b"\n" in head:
        head = head[: head.rindex(b"\n")]  # do not judge by half a character
    if _is_utf8(head):
        return "utf-8"
    try:
        from charset_normalizer import from_bytes
    except ImportError as error:
        raise CorpusError(
            f"{name}: --encoding auto needs the extra: pip install 'chargen[detect]'"
        ) from error
    best = from_bytes(head).best()
    if best is None:
        raise CorpusError(f"{name} looks binary: no encoding fits it; name one with --encoding")
    return str(best.encoding)


def _undecodable(error: UnicodeDecodeError, fed: int, name: str, encoding: str) -> CorpusError:
    # The decoder may have held bytes of earlier blocks back, so the offset counts from the end.
    offset = fed - len(error.object) + error.start
    value = error.object[error.start : error.start + 1]
    byte = f" (0x{value[0]:02x})" if value else ""
    return CorpusError(
        f"{name} is not {encoding}: byte offset {offset}{byte}, {error.reason};"
        " try --encoding auto, --encoding latin-1 or --errors replace"
    )


def _is_boundary(character: str) -> bool:
    """Whether nothing that stands before this character can combine with it."""
    if character.isascii():
        return True
    code = ord(character)
    # Vowels and tails of Hangul and the vowel signs of Kirat Rai compose, but are letters.
    if 0x1160 <= code <= 0x11FF or 0x16D63 <= code <= 0x16D6A:
        return False
    return not unicodedata.category(character).startswith("M")


def normalized(pieces: Iterable[str], form: str) -> Iterator[str]:
    """Normalize a stream of text, as if it were one string (Unicode Annex 15)."""
    held: list[str] = []
    for piece in pieces:
        cut = next((i for i in range(len(piece) - 1, -1, -1) if _is_boundary(piece[i])), None)
        if cut is None:
            held.append(piece)
            continue
        held.append(piece[:cut])
        text = _normalize(form, "".join(held))
        held = [piece[cut:]]
        if text:
            yield text
    if rest := _normalize(form, "".join(held)):
        yield rest


def _normalize(form: str, text: str) -> str:
    return text if text.isascii() else unicodedata.normalize(form, text)  # type: ignore[arg-type]
