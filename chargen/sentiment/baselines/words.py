"""The word pipeline: tokenise, count, encode, pad, pack.

    "Don't go!"  ->  don't | go | !  ->  ids (T,)  ->  a batch (T, B) and lengths (B,)  ->  packed

Knows nothing of classes or networks.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

PAD, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unk>")
"""The first words of every vocabulary; the tokeniser yields neither."""

# Scripts that put no space between words: Thai and Lao, Burmese, Khmer, kana, Han. There a letter
# with its marks stands for a word.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_JOINERS = "\u200c\u200d"  # inside words of Persian, Hindi and others, and between emoji

_ASCII = re.compile(r"\w+(?:'\w+)*|[^\w\s]")


def tokenise(text: str) -> list[str]:
    """Words and marks of punctuation, in lower case.

    An apostrophe between letters belongs to the word ("don't"), however it is drawn. Vowel signs
    and accents belong to their letters, composed or not. Where a script has no spaces, each of its
    letters is a word.
    """
    text = text.lower().replace("\u2019", "'")
    if text.isascii():
        return _ASCII.findall(text)
    return _pattern().findall(unicodedata.normalize("NFC", text))


@functools.cache
def _pattern() -> re.Pattern[str]:
    r"""`_ASCII` for every script; made when first needed, since the marks have to be collected.

    Python's ``\w`` holds letters and digits but not the marks that combine with them.
    """
    marks = _marks() + _JOINERS
    letters = rf"[^\W{_SPACELESS}]"
    # Written so that there is one way only to match: time stays linear.
    word = rf"{letters}+(?:[{marks}]+{letters}*)*"
    return re.compile(rf"[{_SPACELESS}][{marks}]*|{word}(?:'{word})*|[^\w\s][{marks}]*")


def _marks() -> str:
    """All combining marks, as ranges of a character class."""
    ranges: list[list[int]] = []
    for code in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


class WordVocabulary:
    """Words and their ids.

    Parameters
    ----------
    words : sequence of str
        All different; they get the ids from 2 on, after those of `SPECIAL`.

    Attributes
    ----------
    words : tuple of str
        By id.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = (*SPECIAL, *words)
        self._ids = {word: index for index, word in enumerate(self.words)}

    @classmethod
    def from_texts(
        cls, texts: Iterable[Sequence[str]], min_count: int = 1, max_words: int | None = None
    ) -> WordVocabulary:
        """The words of some texts, frequent ones first and equally frequent ones by alphabet.

        Parameters
        ----------
        texts : iterable of sequences of str
            Tokenised.
        min_count : int
            Rarer words are left out.
        max_words : int, optional
            Only this many, the most frequent ones.
        """
        counts: Counter[str] = Counter()
        for tokens in texts:
            counts.update(tokens)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls([word for word, count in ranked if count >= min_count][:max_words])

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, tokens: Sequence[str], max_words: int | None = None) -> NDArray[np.int32]:
        """Ids (T,) int32 of the last `max_words` tokens; of a text without any, `UNKNOWN`."""
        if max_words is not None:
            tokens = tokens[-max_words:]
        ids = [self._ids.get(token, UNKNOWN) for token in tokens]
        return np.array(ids or [UNKNOWN], dtype=np.int32)


def pad(texts: Sequence[NDArray[np.int32]]) -> tuple[Tensor, Tensor]:
    """A batch: ids (T, B) int64, `PAD` after the end of each text, and lengths (B,) int64."""
    lengths = [len(ids) for ids in texts]
    block = np.full((max(lengths), len(texts)), PAD, dtype=np.int64)  # (T, B)
    for column, ids in enumerate(texts):
        block[: len(ids), column] = ids
    return torch.from_numpy(block), torch.tensor(lengths, dtype=torch.int64)


def pack(values: Tensor, lengths: Tensor) -> PackedSequence:
    """Without the padding: what a recurrent layer reads so that its last state is a text's own.

    Parameters
    ----------
    values : (T, B, E)
    lengths : (B,) int64
        At least 1 each.
    """
    # Batches keep the order of their texts; torch sorts them inside, and undoes it. Lengths steer
    # the loop over time, so they are on the CPU.
    return pack_padded_sequence(values, lengths.cpu(), enforce_sorted=False)
