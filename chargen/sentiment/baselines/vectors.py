"""Word vectors from the text files of GloVe and word2vec.

    the 0.418 0.24968 -0.41242 ...        each line a word and its numbers; word2vec has a first
                                          line with how many words and how many numbers there are

Vectors are only given to the words of a vocabulary, which the files exceed by far.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError
from chargen.text.files import byte_blocks, from_path

_LONGEST_LINE = 1 << 20  # bytes; 300 numbers take about 3,000
_LARGEST = 3.4e38  # of float32; infinite numbers are none, and NaN is not below it


@dataclass(frozen=True)
class WordVectors:
    """Vectors of those words of a vocabulary that a file has.

    Attributes
    ----------
    words : tuple of str
        In the order of the file.
    matrix : (len(words), E) float32
    wanted : int
        Words of the vocabulary.
    source : str
        As shown to people.
    """

    words: tuple[str, ...]
    matrix: NDArray[np.float32]
    wanted: int
    source: str

    @property
    def size(self) -> int:
        """E"""
        return int(self.matrix.shape[1])

    def __str__(self) -> str:
        return (
            f"{self.source} has vectors of {self.size} numbers for {len(self.words):,} of the "
            f"{self.wanted:,} words of the vocabulary"
        )


def read_vectors(path: str, words: Collection[str]) -> WordVectors:
    """Read the vectors of some words; the rest of the file passes by.

    Parameters
    ----------
    path : str
        A text file of GloVe or word2vec; may be compressed (.gz, .bz2, .xz, .zst).
    words : collection of str
        Those that are wanted. The first of several lines with the same word counts.

    Raises
    ------
    CorpusError
        For what cannot be read, lines that are broken (other lines' numbers are only counted, not
        read), vectors of different sizes, and a file with none of the words.
    """
    source = from_path(Path(path))
    wanted = set(words)
    found: dict[str, NDArray[np.float32]] = {}
    size = promised = 0
    vectors = 0
    for number, line in _lines(byte_blocks(source), source.name):
        where = f"{source.name}, line {number}"
        if not size:
            size, promised = _first(line, where)
            if promised:
                continue
        word, values = _divide(line, size, where)
        vectors += 1
        if word in wanted and word not in found:
            found[word] = _numbers(values, where)
    if promised and vectors != promised:
        raise CorpusError(
            f"{source.name} holds {vectors:,} vectors, but its first line promises {promised:,}: "
            "it is not whole"
        )
    if not found:
        raise CorpusError(
            f"{source.name} has a vector for none of the {len(wanted):,} words of the training "
            "texts: are they in the same language, and its words in lower case?"
        )
    matrix = np.stack(list(found.values()))
    return WordVectors(tuple(found), matrix, len(wanted), source.name)


def _lines(blocks: Iterator[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, with their numbers, each of bounded length."""
    rest = b""
    number = 0
    for block in blocks:
        *complete, rest = (rest + block).split(b"\n")
        for line in complete:
            number += 1
            if line.strip():
                yield number, line
        if len(rest) > _LONGEST_LINE:
            raise CorpusError(
                f"{name}, line {number + 1} is too long for a word and its vector: "
                "--embeddings takes the text files of GloVe and word2vec"
            )
    if rest.strip():
        yield number + 1, rest


def _first(line: bytes, where: str) -> tuple[int, int]:
    """From a file's first line, how many numbers a vector has, and how many vectors are promised.

    The second is 0 where there is no header: then the line is a vector.
    """
    fields = line.split()
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        promised, size = map(int, fields)
        if not promised or not size:
            raise CorpusError(f"{where} promises {promised} vectors of {size} numbers")
        return size, promised
    if len(fields) < 2:
        raise CorpusError(
            f"{where} is no word with its vector: --embeddings takes the text files of GloVe and "
            "word2vec"
        )
    return len(fields) - 1, 0


def _divide(line: bytes, size: int, where: str) -> tuple[str, list[bytes]]:
    """A line's word and its numbers, as many as there must be."""
    if b"\0" in line:
        raise CorpusError(
            f"{where} is binary: --embeddings takes the text files of GloVe and word2vec; "
            "gensim's save_word2vec_format writes one"
        )
    # From the right: a few words of the largest files, such as ". . .", hold spaces.
    word, *values = line.rsplit(None, size)
    if len(values) < size:
        raise CorpusError(f"{where} has {len(values)} numbers after the word, not {size}")
    more = word.split()
    if len(more) > 1 and _is_number(more[-1]):
        raise CorpusError(f"{where} has more than {size} numbers after the word")
    # Of words that another tool cut in the middle of a character, none is in a vocabulary.
    return word.strip().decode("utf-8", "replace").removeprefix("\ufeff"), values


def _is_number(field: bytes) -> bool:
    try:
        return abs(float(field)) < _LARGEST
    except ValueError:
        return False


def _numbers(fields: list[bytes], where: str) -> NDArray[np.float32]:
    for field in fields:
        if not _is_number(field):
            raise CorpusError(f"{where}: {field.decode('utf-8', 'replace')!r} is not a number")
    return np.array([float(field) for field in fields], dtype=np.float32)
