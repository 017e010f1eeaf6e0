"""Vocabularies of characters or bytes, which convert text to ids by table look-up in whole arrays.

No files are involved: a vocabulary converts to a dictionary that can be saved as JSON, and back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chargen.errors import VocabularyError, brief
from chargen.text.symbols import FORMAT, SEPARATOR, Ids, Vocabulary

__all__ = [
    "CODE_POINTS",
    "ByteVocabulary",
    "CharVocabulary",
    "Ids",
    "RawVocabulary",
    "Vocabulary",
    "code_points",
    "replace_surrogates",
    "vocabulary_from_json",
]

CODE_POINTS = 0x110000
_SURROGATES = slice(0xD800, 0xE000)
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates by U+FFFD: they cannot be encoded, or stand for other symbols."""
    return text if text.isascii() else _SURROGATE.sub(_REPLACEMENT, text)


def code_points(text: str) -> npt.NDArray[Any]:
    """Return the code points of `text`, shape (len(text),): uint8 for ASCII, otherwise uint32."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


class CharVocabulary(Vocabulary):
    """Vocabulary of Unicode characters in the order of their code points.

    Id 0 is the unknown character; then come the separator (if documents are kept apart), the
    characters, and the labels.

    Parameters
    ----------
    characters : str
        Distinct characters in the order of their code points, without surrogates.
    documents : bool
        Whether documents are kept apart by a separator.
    start : str, optional
        Start symbol if there is neither a separator nor a newline; by default the first character.
    labels : sequence of str
        Names of kinds of documents, which require `documents`.
    """

    def __init__(
        self,
        characters: str,
        documents: bool = False,
        start: str | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        if not isinstance(characters, str) or not characters:
            raise VocabularyError("vocabulary: 'characters' must be text with at least one")
        if surrogate := _SURROGATE.search(characters):
            raise VocabularyError(
                f"vocabulary: 'characters' holds a lone surrogate, U+{ord(surrogate[0]):04X}"
            )
        codes = code_points(characters).astype(np.int64)
        steps = np.diff(codes)
        if (steps <= 0).any():
            index = int(np.argmax(steps <= 0)) + 1
            fault = "twice" if np.unique(codes).size < codes.size else "out of order"
            raise VocabularyError(f"vocabulary: 'characters' has one {fault}, near index {index}")
        if start is not None and (
            not isinstance(start, str) or len(start) != 1 or start not in characters
        ):
            raise VocabularyError("vocabulary: 'start' must be null or one of the characters")
        self.level = "char"
        self.characters = characters
        self.unknown_id = 0
        self.separator_id = 1 if documents else None
        first_id = 2 if documents else 1
        self._set_labels(labels, documents)
        self.size = first_id + len(characters) + len(self.labels)
        self._start = start
        self._to_id = np.zeros(CODE_POINTS, dtype=self.dtype)  # code point -> id
        self._to_id[codes] = np.arange(first_id, self.first_label_id)
        for label_id, label in enumerate(self.labels, self.first_label_id):
            self._to_id[ord(self.label_symbol(label))] = label_id
        self._ascii = self._to_id[:256].tobytes() if self.dtype == np.uint8 else None
        special = [ord(_REPLACEMENT), ord("\n")][:first_id]
        self._to_code = np.concatenate([special, codes]).astype("<u4")  # id -> code point
        if documents:
            self._to_id[ord(SEPARATOR)] = 1
            self.start_id = 1
        else:
            preferred = "\n" if "\n" in characters else (start or characters[0])
            self.start_id = int(self._to_id[ord(preferred)])

    @classmethod
    def build(
        cls,
        counts: Mapping[str, int] | npt.ArrayLike,
        min_count: int = 1,
        documents: bool = False,
        labels: Sequence[str] = (),
    ) -> CharVocabulary:
        """Build a vocabulary from character counts: a mapping, or an array indexed by code point.

        Raises `VocabularyError` if no character occurs `min_count` times.
        """
        totals = np.zeros(CODE_POINTS, dtype=np.int64)
        if isinstance(counts, Mapping):
            for character, count in counts.items():
                totals[ord(character)] = count
        else:
            array = np.asarray(counts, dtype=np.int64)
            totals[: array.size] = array
        totals[_SURROGATES] = 0
        kept = np.flatnonzero(totals >= max(min_count, 1))
        if not kept.size:
            raise VocabularyError(
                f"no character occurs {min_count} times or more; lower --min-count"
            )
        characters = kept.astype("<u4").tobytes().decode("utf-32-le")
        return cls(characters, documents, chr(int(totals.argmax())), labels)

    def encode(self, text: str) -> Ids:
        if self._ascii is not None and text.isascii():
            data = text.encode("ascii").translate(self._ascii)
            return np.frombuffer(data, dtype=np.uint8)
        ids: Ids = self._to_id[code_points(text)]
        return ids

    def decode(self, ids: npt.ArrayLike) -> str:
        codes: bytes = self._to_code[self._text_ids(ids)].tobytes()
        return codes.decode("utf-32-le")

    def encode_prompt(self, text: str, unknown: str = "replace") -> tuple[Ids, str]:
        text_ids = self.encode(_SURROGATE.sub("\udfff", text))  # U+DFFF is always unknown
        known = text_ids != self.unknown_id
        missed = "".join(dict.fromkeys(text[i] for i in np.flatnonzero(~known)))
        return (text_ids[known] if unknown == "skip" else text_ids), missed

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "level": "char",
            "documents": self.separator_id is not None,
            "characters": self.characters,
            "start": self._start,
            **({"labels": list(self.labels)} if self.labels else {}),
        }


class ByteVocabulary(Vocabulary):
    """Vocabulary of UTF-8 bytes, 0 to 255; 256 is the separator if `documents`; then labels."""

    def __init__(self, documents: bool = False, labels: Sequence[str] = ()) -> None:
        self.level = "byte"
        self.unknown_id = None
        self.separator_id = 256 if documents else None
        self._set_labels(labels, documents)
        self.size = (257 if documents else 256) + len(self.labels)
        self.start_id = 256 if documents else ord("\n")

    def encode(self, text: str) -> Ids:
        try:
            return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(
                self.dtype, copy=False
            )
        except UnicodeEncodeError:
            pass
        for match in _SURROGATE.finditer(text):
            if ord(match[0]) - ord(SEPARATOR) >= self.size - 256:
                raise VocabularyError(
                    f"character {match.start()} is a lone surrogate, U+{ord(match[0]):04X},"
                    " which has no UTF-8"
                )
        data = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
        ids = data.astype(np.uint16)
        # The separator is encoded as ED A0 80, and labels by the codes after it. In the UTF-8 of a
        # character, no byte of A0 or more follows ED.
        starts = np.flatnonzero((data[:-2] == 0xED) & (data[1:-1] >= 0xA0))
        ids[starts] = 256 + (ids[starts + 1] - 0xA0) * 64 + ids[starts + 2] - 0x80
        kept = np.ones(ids.size, dtype=bool)
        kept[starts + 1] = kept[starts + 2] = False
        return ids[kept]

    def decode(self, ids: npt.ArrayLike) -> str:
        checked = self._text_ids(ids)
        if self.separator_id is not None:
            checked = np.where(checked == self.separator_id, ord("\n"), checked)
        return checked.astype(np.uint8).tobytes().decode("utf-8", "replace")

    def character_starts(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        begins = _begins_character(np.asarray(ids))
        begins[:1] = True
        return np.flatnonzero(begins)

    def count_characters(self, ids: npt.ArrayLike) -> int:
        array, step = np.asarray(ids), 1 << 20
        pieces = (array[first : first + step] for first in range(0, len(array), step))
        begun = sum(int(_begins_character(piece).sum()) for piece in pieces)
        return max(1, begun - (len(array) - self.count_predicted(array)))

    def encode_prompt(self, text: str, unknown: str = "replace") -> tuple[Ids, str]:
        missed = "".join(dict.fromkeys(_SURROGATE.findall(text)))
        return self.encode(_SURROGATE.sub("" if unknown == "skip" else _REPLACEMENT, text)), missed

    def to_json(self) -> dict[str, Any]:
        labels = {"labels": list(self.labels)} if self.labels else {}
        documents = self.separator_id is not None
        return {"format": FORMAT, "level": "byte", "documents": documents, **labels}


class RawVocabulary(Vocabulary):
    """Vocabulary of arbitrary bytes, 0 to 255; 256 is the separator if `documents`.

    In text, each byte is the character with the same number: ``data.decode("latin-1")``.
    """

    def __init__(self, documents: bool = False) -> None:
        self.level = "raw"
        self.unknown_id = None
        self.separator_id = 256 if documents else None
        self.size = 257 if documents else 256
        self.start_id = 256 if documents else 0

    def encode(self, text: str) -> Ids:
        codes = code_points(text)
        separators = codes == ord(SEPARATOR) if self.separator_id is not None else codes < 0
        wrong = np.flatnonzero((codes > 255) & ~separators)
        if wrong.size:
            raise VocabularyError(
                f"character {wrong[0]}, {text[wrong[0]]!a}, is not a byte: the model reads raw "
                'bytes, given as data.decode("latin-1")'
            )
        return np.where(separators, 256, codes).astype(self.dtype)

    def decode(self, ids: npt.ArrayLike) -> str:
        checked = self._checked(ids)
        text = np.where(checked == 256, ord("\n"), checked).astype(np.uint8)
        return text.tobytes().decode("latin-1")

    def encode_prompt(self, text: str, unknown: str = "replace") -> tuple[Ids, str]:
        missed = "".join(dict.fromkeys(c for c in text if ord(c) > 255))
        filler = "" if unknown == "skip" else "?"
        return self.encode("".join(c if ord(c) < 256 else filler for c in text)), missed

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "level": "raw", "documents": self.separator_id is not None}


def vocabulary_from_json(data: object) -> Vocabulary:
    """Return the vocabulary that `to_json` described; `VocabularyError` names a wrong field."""
    if not isinstance(data, dict):
        raise VocabularyError(f"a vocabulary is a JSON object, not {type(data).__name__}")
    version = data.get("format")
    if type(version) is not int or version < 1:
        raise VocabularyError(f"vocabulary: 'format' must be {FORMAT}, got {brief(version)}")
    if version > FORMAT:
        raise VocabularyError(
            f"vocabulary: format {brief(version)} is newer than this chargen reads ({FORMAT});"
            " update chargen"
        )
    level = data.get("level")
    if level not in ("char", "byte", "raw"):
        raise VocabularyError(
            f"vocabulary: 'level' must be 'char', 'byte' or 'raw', got {brief(level)}"
        )
    fields = {"format", "level", "documents"}
    if level == "char":
        fields |= {"characters", "start"}
    optional = set() if level == "raw" else {"labels"}
    if set(data) - optional != fields:
        wrong = [brief(name) for name in sorted(set(data) - optional ^ fields)[:5]]
        raise VocabularyError(f"vocabulary: fields missing or not known: {', '.join(wrong)}")
    if not isinstance(data["documents"], bool):
        raise VocabularyError("vocabulary: 'documents' must be true or false")
    if level == "raw":
        return RawVocabulary(data["documents"])
    labels = data.get("labels", ())
    if level == "byte":
        return ByteVocabulary(data["documents"], labels)
    return CharVocabulary(data["characters"], data["documents"], data["start"], labels)


def _begins_character(ids: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    # 10xxxxxx continues a character; in wider ids, higher bits mark the separator and labels.
    mask = 0xC0 if ids.dtype == np.uint8 else 0xFFC0
    begins: npt.NDArray[np.bool_] = (ids & mask) != 0x80
    return begins
