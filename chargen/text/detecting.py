"""Detect the encoding of a stream of bytes by reading all of it in bounded memory.

This module recognizes Unicode encodings and the languages of western Europe; charset-normalizer
guesses the rest. Between code pages that share most letters its guess is no better than chance.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from chargen.errors import CorpusError
from chargen.text.config import AUTO_ENCODING

SAMPLE_BYTES = 1 << 18  # bytes of lines from which an encoding is guessed
_MAX_LINE_BYTES = 1 << 16  # bytes of a line that are examined
# UTF-32 first, because its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = ("utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be")
_NON_TEXT_CATEGORIES = ("Cc", "Cn", "Co")  # control codes, unassigned and private characters
# Non-ASCII letters of French, German, Spanish, Portuguese, Italian, Dutch, Catalan, the Nordic
# languages, Icelandic and Finnish.
_WESTERN = (
    *("àâæçéèêëîïôœùûüÿ", "äöüßéàè", "áéíñóúü", "áâãàçéêíóôõúü", "àèéìíîòóùú", "éëïöóüèá"),
    *("àçèéíïòóúü", "åäöæøéüèà", "áðéíóúýþæö", "åäöšž"),
)
_SYMBOLS = "€‚ƒ„†‡ˆ‰‹˜™›¡¢£¤¥¦§¨©ª«¬®¯°±²³´µ¶¸¹º»¼½¾¿×÷"
_SYMBOL_IN_WORD = re.compile(rf"(?<=[^\W\d_{_SYMBOLS}])[{_SYMBOLS}](?=[^\W\d_{_SYMBOLS}])")


def is_wide(encoding: str) -> bool:
    """Return whether NUL bytes are a normal part of the encoding."""
    return encoding != AUTO_ENCODING and codecs.lookup(encoding).name.startswith(
        ("utf-16", "utf-32")
    )


def marked_encoding(head: bytes) -> str | None:
    """Return the encoding of the byte order mark with which `head` begins; None without a mark."""
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)


def _is_utf8(head: bytes) -> bool:
    """Return whether `head` is UTF-8; it may end within a character."""
    return _decodes(codecs.getincrementaldecoder("utf-8")("strict"), head)


def is_text(head: bytes, encoding: str) -> bool:
    """Return whether `head` is text in `encoding`: some ASCII, and hardly any control codes."""
    return _text_score(head, encoding) > (0, 0)


def wide_encoding(head: bytes) -> str | None:
    """Return the variant of UTF-16 or UTF-32 in which `head` (with NULs in it) is text, or None.

    The wrong byte order often gives letters too, but no ASCII blanks.
    """
    count, encoding = max((_text_score(head, each), each) for each in _WIDE)
    return encoding if count > (0, 0) else None


def _text_score(head: bytes, encoding: str) -> tuple[int, int]:
    """Count the blanks and the ASCII characters in `head`; return (0, 0) if it is not text."""
    try:
        counts = Counter(codecs.getincrementaldecoder(encoding)("strict").decode(head))
    except UnicodeDecodeError:
        return 0, 0
    odd = [
        c for c in counts if unicodedata.category(c) in _NON_TEXT_CATEGORIES and c not in "\t\n\r\f"
    ]
    if "\0" in odd or sum(counts[c] for c in odd) > 0.01 * counts.total():
        return 0, 0
    return counts[" "] + counts["\n"], sum(n for c, n in counts.items() if c.isascii())


def detect(blocks: Iterable[bytes], name: str, notes: list[str]) -> str:
    """Return the encoding of a whole stream; "utf-8" if `decode` will follow a byte order mark.

    `name` is the name of the source for messages; `notes` gets a sentence if the encoding is not
    UTF-8. Raises `CorpusError` if no encoding fits, or charset-normalizer is needed and missing.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    valid_utf8, has_nul, head, sample = True, False, b"", _LineSample()
    for block in blocks:
        head += block[: SAMPLE_BYTES - len(head)]
        has_nul = has_nul or b"\0" in block
        valid_utf8 = valid_utf8 and _decodes(decoder, block)
        sample.add(block)
    valid_utf8 = valid_utf8 and _decodes(decoder, b"", final=True)
    sample.end()
    if marked_encoding(head):
        return "utf-8"
    lines = b"".join(sample.lines)
    if has_nul:
        encoding = wide_encoding(head)
    elif valid_utf8 or sample.mostly_utf8:  # decoding reports damaged UTF-8
        return "utf-8"
    else:
        encoding = "cp1252" if _is_western(lines) else _guess_encoding(lines, name)
    if encoding is not None:
        notes.append(f"{name} was read as {encoding}")
    elif not valid_utf8:
        raise CorpusError(
            f"{name} looks binary: no encoding fits it; name its encoding, or read its bytes as "
            "they are: chargen train --level byte --raw-bytes"
        )
    return encoding or "utf-8"


class _LineSample:
    """Sample of a stream: its first non-ASCII lines, and later lines that contain new bytes."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._seen_bytes = bytes(range(128))
        self._size = self._utf8_lines = 0
        self._rest = b""

    @property
    def mostly_utf8(self) -> bool:
        return 2 * self._utf8_lines > len(self.lines)

    def add(self, block: bytes) -> None:
        block = self._rest + block
        cut = block.rfind(b"\n") + 1 or (len(block) if len(block) > _MAX_LINE_BYTES else 0)
        self._rest = block[cut:]
        self._add_lines(block[:cut])

    def end(self) -> None:
        self._add_lines(self._rest)

    def _is_informative(self, data: bytes) -> bool:
        room = self._size < SAMPLE_BYTES and not data.isascii()
        return room or bool(data.translate(None, self._seen_bytes))

    def _add_lines(self, block: bytes) -> None:
        if not self._is_informative(block):
            return
        for line in (line[:_MAX_LINE_BYTES] for line in block.splitlines(keepends=True)):
            if not self._is_informative(line):
                continue
            self.lines.append(line)
            self._seen_bytes += bytes(set(line.translate(None, self._seen_bytes)))
            self._size += len(line)
            self._utf8_lines += _is_utf8(line)


def _decodes(decoder: codecs.IncrementalDecoder, data: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(data, final)
    except UnicodeDecodeError:
        return False
    return True


def _is_western(data: bytes) -> bool:
    """Return whether `data` is cp1252: one western European language, or English with symbols."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return False
    non_ascii = Counter(c for c in text.lower() if not c.isascii())
    letters = Counter({c: n for c, n in non_ascii.items() if c.isalpha() and c not in _SYMBOLS})
    known = max(sum(letters[c] for c in alphabet) for alphabet in _WESTERN)
    inside = len(_SYMBOL_IN_WORD.findall(text))
    return known >= 0.95 * letters.total() and inside <= 0.02 * non_ascii.total()


def _guess_encoding(data: bytes, name: str) -> str | None:
    try:
        from charset_normalizer import from_bytes
    except ImportError as error:
        raise CorpusError(
            f"{name}: --encoding auto needs the extra: pip install 'chargen[detect]'"
        ) from error
    best = from_bytes(data).best()
    return None if best is None else str(best.encoding)
