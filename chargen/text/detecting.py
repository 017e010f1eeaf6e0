"""In which encoding a stream of bytes is, found by reading all of it in bounded memory.

What this knows by itself is Unicode and the languages of western Europe; the rest it asks
charset-normalizer, whose guess between code pages that share most letters is as good as a coin.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from chargen.errors import CorpusError
from chargen.text.config import AUTO_ENCODING

SAMPLE = 1 << 18  # bytes of lines from which an encoding is guessed
_LONGEST = 1 << 16  # bytes of a line that are looked at
# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = ("utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be")
_ODD = ("Cc", "Cn", "Co")  # control codes, and what is not assigned
# Letters beyond ASCII of French, German, Spanish, Portuguese, Italian, Dutch, Catalan, the Nordic
# languages, Icelandic and Finnish.
_WESTERN = (
    *("àâæçéèêëîïôœùûüÿ", "äöüßéàè", "áéíñóúü", "áâãàçéêíóôõúü", "àèéìíîòóùú", "éëïöóüèá"),
    *("àçèéíïòóúü", "åäöæøéüèà", "áðéíóúýþæö", "åäöšž"),
)
_SYMBOLS = "€‚ƒ„†‡ˆ‰‹˜™›¡¢£¤¥¦§¨©ª«¬®¯°±²³´µ¶¸¹º»¼½¾¿×÷"
_INSIDE = re.compile(rf"(?<=[^\W\d_{_SYMBOLS}])[{_SYMBOLS}](?=[^\W\d_{_SYMBOLS}])")


def is_wide(encoding: str) -> bool:
    """Whether NUL bytes are a normal part of the encoding."""
    return encoding != AUTO_ENCODING and codecs.lookup(encoding).name.startswith(
        ("utf-16", "utf-32")
    )


def marked_encoding(head: bytes) -> str | None:
    """The encoding that a byte order mark at the beginning of `head` tells, if there is one."""
    return next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)


def _is_utf8(head: bytes) -> bool:
    """Whether these bytes, which may end within a character, are UTF-8."""
    return _decodes(codecs.getincrementaldecoder("utf-8")("strict"), head)


def is_text(head: bytes, encoding: str) -> bool:
    """Whether these bytes are text in it: characters of ASCII too, and hardly any controls."""
    return _counted_as_text(head, encoding) > (0, 0)


def wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, where these bytes are text in it; they hold some NUL.

    The wrong order of bytes often gives letters too, but not the blanks of ASCII.
    """
    count, found = max((_counted_as_text(head, one), one) for one in _WIDE)
    return found if count > (0, 0) else None


def _counted_as_text(head: bytes, encoding: str) -> tuple[int, int]:
    """How many blanks and characters of ASCII are in it; none where it is no text."""
    try:
        counts = Counter(codecs.getincrementaldecoder(encoding)("strict").decode(head))
    except UnicodeDecodeError:
        return 0, 0
    odd = [c for c in counts if unicodedata.category(c) in _ODD and c not in "\t\n\r\f"]
    if "\0" in odd or sum(counts[c] for c in odd) > 0.01 * counts.total():
        return 0, 0
    return counts[" "] + counts["\n"], sum(n for c, n in counts.items() if c.isascii())


def detect(blocks: Iterable[bytes], name: str, notes: list[str]) -> str:
    """The encoding of all of a stream; "utf-8" too where a mark tells another.

    `name` is that of the source, as shown to people; `notes` gets a sentence where it is not UTF-8.
    Raises `CorpusError` where no encoding fits, or charset-normalizer is needed and missing.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    sound, wide, head, sample = True, False, b"", _Lines()
    for block in blocks:
        head += block[: SAMPLE - len(head)]
        wide = wide or b"\0" in block
        sound = sound and _decodes(decoder, block)
        sample.add(block)
    sound = sound and _decodes(decoder, b"", final=True)
    sample.end()
    if marked_encoding(head):
        return "utf-8"
    lines = b"".join(sample.lines)
    if wide:
        found = wide_encoding(head)
    elif sound or sample.mostly_utf8:  # damaged UTF-8 is told where it is read
        return "utf-8"
    else:
        found = "cp1252" if _is_western(lines) else _guessed(lines, name)
    if found is not None:
        notes.append(f"{name} was read as {found}")
    elif not sound:
        raise CorpusError(
            f"{name} looks binary: no encoding fits it; name its encoding, or read its bytes as "
            "they are: chargen train --level byte --raw-bytes"
        )
    return found or "utf-8"


class _Lines:
    """The first lines that are not ASCII, and later ones with bytes that none of them has."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._known = bytes(range(128))
        self._size = self._utf8 = 0
        self._rest = b""

    @property
    def mostly_utf8(self) -> bool:
        return 2 * self._utf8 > len(self.lines)

    def add(self, block: bytes) -> None:
        block = self._rest + block
        cut = block.rfind(b"\n") + 1 or (len(block) if len(block) > _LONGEST else 0)
        self._rest = block[cut:]
        self._take(block[:cut])

    def end(self) -> None:
        self._take(self._rest)

    def _wanted(self, data: bytes) -> bool:
        room = self._size < SAMPLE and not data.isascii()
        return room or bool(data.translate(None, self._known))

    def _take(self, block: bytes) -> None:
        if not self._wanted(block):
            return
        for line in (line[:_LONGEST] for line in block.splitlines(keepends=True)):
            if not self._wanted(line):
                continue
            self.lines.append(line)
            self._known += bytes(set(line.translate(None, self._known)))
            self._size += len(line)
            self._utf8 += _is_utf8(line)


def _decodes(decoder: codecs.IncrementalDecoder, data: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(data, final)
    except UnicodeDecodeError:
        return False
    return True


def _is_western(data: bytes) -> bool:
    """Whether it reads as one western European language in cp1252, or as English with its signs."""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return False
    beyond = Counter(c for c in text.lower() if not c.isascii())
    letters = Counter({c: n for c, n in beyond.items() if c.isalpha() and c not in _SYMBOLS})
    known = max(sum(letters[c] for c in alphabet) for alphabet in _WESTERN)
    inside = len(_INSIDE.findall(text))
    return known >= 0.95 * letters.total() and inside <= 0.02 * beyond.total()


def _guessed(data: bytes, name: str) -> str | None:
    try:
        from charset_normalizer import from_bytes
    except ImportError as error:
        raise CorpusError(
            f"{name}: --encoding auto needs the extra: pip install 'chargen[detect]'"
        ) from error
    best = from_bytes(data).best()
    return None if best is None else str(best.encoding)
