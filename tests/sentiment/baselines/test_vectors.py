from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest

from chargen.errors import CorpusError
from chargen.sentiment.baselines.vectors import read_vectors

from .reviews import reviews

LINES = "the 0.5 -1 2e-1\nfilm 1 2 3\n, 0 0 1\nthe 9 9 9\nнебо 4 5 6\n"
WORDS = ("film", "the", "небо", "absent")


def written(path: Path, text: str | bytes) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


@pytest.mark.parametrize("header", ["", "5 3\n"])
@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])  # the C tool leaves a space at the end
def test_files_of_both_kinds(tmp_path: Path, header: str, end: str) -> None:
    text = (header + LINES).replace("\n", end)
    vectors = read_vectors(written(tmp_path / "v.txt", text), WORDS)
    assert vectors.words == ("the", "film", "небо")
    assert vectors.size == 3
    np.testing.assert_allclose(vectors.matrix, [[0.5, -1, 0.2], [1, 2, 3], [4, 5, 6]])
    assert vectors.matrix.dtype == np.float32
    assert "3 of the 4 words" in str(vectors)


def test_compressed_files(tmp_path: Path) -> None:
    data = LINES.encode()
    for name, packed in (("v.gz", gzip.compress(data)), ("v.txt.xz", lzma.compress(data))):
        assert read_vectors(written(tmp_path / name, packed), WORDS).size == 3


def test_a_word_with_spaces_and_a_last_line_without_its_end(tmp_path: Path) -> None:
    text = "the 1 2\n. . . 3 4\n\nfilm 5 6"  # such words are in GloVe's largest file
    vectors = read_vectors(written(tmp_path / "v.txt", text), WORDS)
    np.testing.assert_allclose(vectors.matrix, [[1, 2], [5, 6]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the 1 2\nfilm 1\n", "line 2 has 1 numbers after the word, not 2"),
        ("the 1 2\nfilm 1 2 3\n", "line 2 has more than 2 numbers"),
        ("the 1 2\nodd 1 2 3\n", "line 2 has more than 2 numbers"),  # also where nobody wants it
        ("the 1 2\nfilm 1 x\n", "line 2: 'x' is not a number"),
        ("the 1 2\nfilm 1 nan\n", "line 2: 'nan' is not a number"),
        ("the 1 2\nfilm 1 1e300\n", "line 2: '1e300' is not a number"),
        ("2 2\nthe 1 2\n", "holds 1 vectors, but its first line promises 2"),
        ("0 2\n", "line 1 promises 0 vectors"),
        ("2 2\nthe 1 2\nfilm \0\1\2 3\n", "line 3 is binary"),
        ("word\nthe 1 2\n", "line 1 is no word with its vector"),
        ("sky 1 2\n", "none of the 4 words"),
        ("", "none of the 4 words"),
        ("x" * (1 << 21), "line 1 is too long"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CorpusError, match=said) as failed:
        read_vectors(written(tmp_path / "v.txt", text), WORDS)
    assert "v.txt" in str(failed.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="does not exist"):
        read_vectors(str(tmp_path / "none.txt"), WORDS)


def test_vectors_that_gensim_trains(tmp_path: Path) -> None:
    gensim_models = pytest.importorskip("gensim.models")
    from chargen.sentiment.baselines.words import WordVocabulary, tokenise

    tokens = [tokenise(text) for text in reviews(60).texts]
    model = gensim_models.Word2Vec(
        tokens, vector_size=7, min_count=1, workers=1, epochs=1, seed=1
    ).wv
    path = tmp_path / "trained.txt"
    model.save_word2vec_format(str(path))
    words = WordVocabulary.from_texts(tokens).words
    vectors = read_vectors(str(path), words)
    assert set(vectors.words) == set(words[2:])
    for word, vector in zip(vectors.words, vectors.matrix, strict=True):
        np.testing.assert_allclose(vector, model[word], atol=1e-6)
