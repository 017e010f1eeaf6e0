"""Decode a stream of bytes: encodings, byte order marks, newlines, normalization.

The decoded text holds no NUL, no carriage return and no lone surrogate.
"""

from __future__ import annotations

import codecs
import io
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from chargen.errors import CorpusError
from chargen.text.config import AUTO_ENCODING, TableConfig
from chargen.text.detecting import (
    SAMPLE_BYTES,
    detect,
    is_text,
    is_wide,
    marked_encoding,
    wide_encoding,
)
from chargen.text.files import Advance, Source, byte_blocks

REPLACEMENT = "\ufffd"
BLOCK = 1 << 20
_MIN_DETECTION_BYTES = 16  # fewest bytes from which an encoding is recognized
_MAX_BYTES_IN_MEMORY = 1 << 24  # largest copy that is kept in memory, in bytes
_CONTROL = re.compile("[\x80-\x9f]")
_CP1252_NOTE = (
    "{} has bytes 0x80 to 0x9f, which are control codes in latin-1, but quotes and dashes in "
    "cp1252: it is probably cp1252 (--encoding cp1252)"
)
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
# Decoders that never yield a lone surrogate; text of others (utf-7, unicode_escape) is checked.
_SURROGATE_FREE_CODECS = ("utf-8", "utf-16", "utf-32", "ascii", "iso8859", "cp")


def source_encoding(source: Source, config: TableConfig, notes: list[str]) -> str:
    """Return the encoding with which to `decode` a source.

    For "auto", a file is read completely to detect it; for a pipe, `decode` detects it.
    """
    if config.encoding != AUTO_ENCODING or source.stream:
        return config.encoding
    return detect(byte_blocks(source, None, config.max_bytes), source.name, notes)


def decode_source(
    source: Source,
    config: TableConfig,
    notes: list[str],
    advance: Advance | None = None,
    encoding: str = "",
) -> Iterator[str]:
    """Decode a source (see `decode`); `encoding` is the result of `source_encoding`, if known."""
    encoding = encoding or source_encoding(source, config, notes)
    blocks = byte_blocks(source, advance, config.max_bytes)
    return decode(blocks, source.name, encoding, config.errors, notes, config.encoding)


def decode(
    blocks: Iterable[bytes],
    name: str,
    encoding: str,
    errors: str,
    notes: list[str],
    requested_encoding: str | None = None,
) -> Iterator[str]:
    """Decode a stream of bytes; newlines of any convention become ``"\\n"``.

    With the encoding "auto" the whole stream is copied, to disk if it is long. `requested_encoding`
    is the encoding that the user gave, if it differs from `encoding`. Raises `CorpusError`, with
    the offset, for bytes that are not text in this encoding.
    """
    requested_encoding = requested_encoding or encoding
    if encoding == AUTO_ENCODING:
        with tempfile.SpooledTemporaryFile(_MAX_BYTES_IN_MEMORY) as copy:
            found = detect((block for block in blocks if copy.write(block)), name, notes)
            copy.seek(0)
            copied_blocks = iter(lambda: copy.read(BLOCK), b"")
            yield from decode(copied_blocks, name, found, errors, notes, requested_encoding)
        return
    head, blocks = _peek(filter(None, blocks), SAMPLE_BYTES if is_wide(encoding) else 4)
    encoding = _choose_encoding(head, name, encoding, requested_encoding, notes)
    codec = codecs.lookup(encoding).name
    checked = not codec.startswith(_SURROGATE_FREE_CODECS)
    characters, first = 0, True
    for block, offset, found in _decoded_blocks(blocks, name, encoding, errors, requested_encoding):
        text = found.removeprefix("\ufeff") if first else found
        first = first and not found
        if (
            codec == "iso8859-1"
            and _CONTROL.search(text)
            and _CP1252_NOTE.format(name) not in notes
        ):
            notes.append(_CP1252_NOTE.format(name))
        if "\0" in text and errors == "strict" and not is_wide(codec):
            _refuse_wide(block, name)
        if "\0" in text or (checked and not text.isascii()):
            nul = -1 if is_wide(codec) else block.find(b"\0")
            begin = None if nul < 0 else offset + nul  # escapes of a codec have no offset
            done = characters
            text = replace_invalid(
                text,
                errors,
                lambda at: _position_in_words(name, begin, done + at),  # noqa: B023
            )
        characters += len(text)
        if text:
            yield text


def _decoded_blocks(
    blocks: Iterable[bytes], name: str, encoding: str, errors: str, requested_encoding: str
) -> Iterator[tuple[bytes, int, str]]:
    """Yield each block with its offset in the stream, in bytes, and the text decoded from it."""
    inner = codecs.getincrementaldecoder(encoding)(errors)
    decoder = io.IncrementalNewlineDecoder(inner, translate=True)
    offset = 0
    for block in chain(filter(None, blocks), [b""]):  # the empty block flushes the decoder
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            if b"\0" in block and not is_wide(encoding):
                _refuse_wide(block, name)
                raise _binary_error(
                    _position_in_words(name, offset + block.find(b"\0"), 0)
                ) from error
            raise _undecodable_error(
                error, offset + len(block), name, encoding, requested_encoding
            ) from error
        except (UnicodeError, ValueError, OverflowError) as error:
            end = offset + len(block)
            raise CorpusError(
                f"{name} is not {encoding}: {error} (before byte offset {end})"
            ) from error
        yield block, offset, text
        offset += len(block)


def normalize_newlines(text: str) -> str:
    """Convert newlines of any convention to ``"\\n"``."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def replace_invalid(text: str, errors: str, position_in_words: Callable[[int], str]) -> str:
    """Replace NULs and lone surrogates by U+FFFD, or raise `CorpusError` if `errors` is "strict".

    `position_in_words` turns the index of a character into words for the message.
    """
    if errors == "replace":
        return _NOT_TEXT.sub(REPLACEMENT, text)
    match = _NOT_TEXT.search(text)
    if match is None:
        return text
    if match[0] == "\0":
        raise _binary_error(position_in_words(match.start()))
    raise CorpusError(
        f"{position_in_words(match.start())} holds a lone surrogate, U+{ord(match[0]):04X}, which "
        "is not text; --errors replace reads it as U+FFFD"
    )


def _refuse_wide(block: bytes, name: str) -> None:
    """Raise `CorpusError` if a block that contains a NUL is UTF-16 or UTF-32 without a mark.

    Almost any even number of bytes is valid UTF-16, but in text of one alphabet every second byte
    is small.
    """
    head = block[:SAMPLE_BYTES]
    small = sum(head.count(number) for number in range(9))
    if 4 * small >= len(head) >= _MIN_DETECTION_BYTES and (encoding := wide_encoding(head)):
        option = f"--encoding {encoding.replace('_', '-')}"
        raise CorpusError(f"{name} is UTF-16 or UTF-32 without a byte order mark: give {option}")


def _binary_error(position: str) -> CorpusError:
    return CorpusError(
        f"{position} looks binary: it holds a NUL; --errors replace reads it as U+FFFD, and "
        "chargen train --level byte --raw-bytes reads the bytes of any file as they are"
    )


def _position_in_words(name: str, byte: int | None, character: int) -> str:
    where = f"character {character}" if byte is None else f"byte offset {byte}"
    return f"{name}, {where},"


def _peek(blocks: Iterator[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """Return the first `size` bytes (all, if there are fewer) and the blocks of the stream."""
    head = b""
    while len(head) < size and (block := next(blocks, b"")):
        head += block
    return head[:size], chain([head], blocks)


def _choose_encoding(
    head: bytes, name: str, encoding: str, requested_encoding: str, notes: list[str]
) -> str:
    """Return the encoding to read with: a byte order mark takes precedence over UTF-8.

    Raises `CorpusError` if the bytes show that the encoding that was asked for is wrong.
    """
    marked = marked_encoding(head)
    codec = codecs.lookup(encoding).name
    if codec not in ("utf-8", "utf-8-sig"):
        if requested_encoding != AUTO_ENCODING:
            _refuse_contradicted(head, name, encoding, marked)
        return encoding
    if marked is not None and marked != "utf-8":
        notes.append(f"{name} was read as {marked}")
    return marked or "utf-8"


def _refuse_contradicted(head: bytes, name: str, encoding: str, marked: str | None) -> None:
    if marked is not None:
        codec = codecs.lookup(encoding).name
        same_order = codec.startswith(marked) and head.startswith("\ufeff".encode(codec))
        if codec != marked and not same_order:
            raise CorpusError(
                f"{name} begins with a byte order mark of {marked}, so it is not {encoding}: "
                "leave --encoding out"
            )
    elif is_wide(encoding) and len(head) > 3 and 0 not in head and is_text(head, "utf-8"):
        raise CorpusError(
            f"{name} is not {encoding}: it reads as utf-8, without any NUL: leave --encoding out"
        )


def _undecodable_error(
    error: UnicodeDecodeError, bytes_read: int, name: str, encoding: str, requested_encoding: str
) -> CorpusError:
    # The decoder may have kept bytes of earlier blocks, so the offset is counted from the end.
    offset = bytes_read - len(error.object) + error.start
    value = error.object[error.start : error.start + 1]
    byte = f" (0x{value[0]:02x})" if value else ""
    others = [
        f"--encoding {each}"
        for each in (AUTO_ENCODING, "cp1252")
        if each not in (requested_encoding, encoding)
    ]
    return CorpusError(
        f"{name} is not {encoding}: byte offset {offset}{byte}, {error.reason};"
        f" try {', '.join(others)} or --errors replace"
    )


def _is_boundary(character: str) -> bool:
    """Return whether this character cannot combine with the text before it."""
    if character.isascii():
        return True
    code = ord(character)
    # Vowels and final consonants of Hangul and vowel signs of Kirat Rai combine, but are letters.
    if 0x1160 <= code <= 0x11FF or 0x16D63 <= code <= 0x16D6A:
        return False
    return not unicodedata.category(character).startswith("M")


def normalized(pieces: Iterable[str], form: str) -> Iterator[str]:
    """Normalize a stream of text with the same result as for one string (Unicode Annex 15)."""
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
