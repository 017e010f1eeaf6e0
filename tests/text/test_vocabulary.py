"""Text survives ids; what is no vocabulary is refused."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.errors import VocabularyError
from chargen.text.symbols import SEPARATOR
from chargen.text.vocabulary import (
    ByteVocabulary,
    CharVocabulary,
    Vocabulary,
    vocabulary_from_json,
)

texts = st.text(st.characters(exclude_categories=("Cs",)))


@given(texts.filter(bool), st.booleans())
def test_characters_survive(text: str, documents: bool) -> None:
    vocabulary = CharVocabulary.build(Counter(text), documents=documents)
    ids = vocabulary.encode(text)
    assert ids.dtype == vocabulary.dtype
    assert ids.shape == (len(text),)
    assert vocabulary.decode(ids) == text
    assert list(vocabulary.characters) == sorted(set(text))
    assert 0 <= vocabulary.start_id < vocabulary.size
    assert vocabulary.start_id not in vocabulary.never_sampled


@given(texts, st.booleans())
def test_bytes_survive(text: str, documents: bool) -> None:
    vocabulary = ByteVocabulary(documents)
    ids = vocabulary.encode(text)
    assert ids.tolist() == list(text.encode())
    assert vocabulary.decode(ids) == text
    assert vocabulary.count_characters(ids) == max(1, len(text))


@given(st.lists(texts, max_size=5), st.sampled_from(["char", "byte"]))
def test_separators_have_an_id_of_their_own(documents: list[str], level: str) -> None:
    stream = "".join(text + SEPARATOR for text in documents)
    vocabulary: Vocabulary = (
        ByteVocabulary(True) if level == "byte" else CharVocabulary.build({"x": 1}, 1, True)
    )
    ids = vocabulary.encode(stream)
    assert np.count_nonzero(ids == vocabulary.separator_id) == len(documents)
    assert vocabulary.start_id == vocabulary.separator_id
    if level == "byte":
        assert vocabulary.decode(ids) == stream.replace(SEPARATOR, "\n")


@given(texts.filter(bool), st.booleans())
def test_json_gives_the_same_vocabulary(text: str, documents: bool) -> None:
    for vocabulary in (
        CharVocabulary.build(Counter(text), documents=documents),
        ByteVocabulary(documents),
    ):
        again = vocabulary_from_json(json.loads(json.dumps(vocabulary.to_json())))
        assert again == vocabulary
        assert hash(again) == hash(vocabulary)
        assert (again.size, again.start_id) == (vocabulary.size, vocabulary.start_id)


@pytest.mark.parametrize(
    ("characters", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16), (65536, "u4")]
)
def test_the_smallest_type_that_holds_the_ids(characters: int, dtype: Any) -> None:
    counts = np.zeros(0x110000, dtype=np.int64)
    counts[0xE000 : 0xE000 + characters] = 1
    vocabulary = CharVocabulary.build(counts)
    assert vocabulary.dtype == dtype
    last = chr(0xE000 + characters - 1)
    assert vocabulary.decode(vocabulary.encode(last)) == last


def test_rare_characters_are_unknown() -> None:
    vocabulary = CharVocabulary.build(Counter("aaabbc"), min_count=2)
    assert vocabulary.characters == "ab"
    assert vocabulary.decode(vocabulary.encode("abc€")) == "ab\ufffd\ufffd"
    with pytest.raises(VocabularyError, match="--min-count"):
        CharVocabulary.build(Counter("abc"), min_count=2)


def test_where_a_text_starts() -> None:
    assert CharVocabulary("\nab").start_id == 1
    most = CharVocabulary.build(Counter("abb"))
    assert most.decode([most.start_id]) == "b"
    assert ByteVocabulary().start_id == 10


@pytest.mark.parametrize("vocabulary", [CharVocabulary("abc", True), ByteVocabulary(True)])
def test_prompts_with_unknown_characters(vocabulary: Vocabulary) -> None:
    typed = "a\udc80b\ud800\udc80"
    ids, missed = vocabulary.encode_prompt(typed, "replace")
    assert missed == "\udc80\ud800"
    assert vocabulary.separator_id not in ids
    assert vocabulary.decode(ids) == "a\ufffdb\ufffd\ufffd"
    ids, _ = vocabulary.encode_prompt(typed, "skip")
    assert vocabulary.decode(ids) == "ab"
    assert vocabulary.encode_prompt("", "skip")[1] == ""


def test_lone_surrogates_have_no_bytes() -> None:
    with pytest.raises(VocabularyError, match="character 2 .*DC00"):
        ByteVocabulary(True).encode("é" + SEPARATOR + "\udc00")
    with pytest.raises(VocabularyError, match="character 0"):
        ByteVocabulary().encode(SEPARATOR)
    assert CharVocabulary("a").encode("\udc00").tolist() == [0]


def test_invalid_bytes_decode_to_replacements() -> None:
    assert ByteVocabulary().decode([0xFF, 65]) == "\ufffdA"


@pytest.mark.parametrize("ids", [[-1], [256], [[1]], [0.5], ["a"]])
def test_ids_that_are_none(ids: Any) -> None:
    with pytest.raises(VocabularyError):
        ByteVocabulary().decode(ids)


GOOD = {"format": 1, "level": "char", "documents": False, "characters": "ab", "start": "a"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "JSON object"),
        ({}, "'format'"),
        ({**GOOD, "format": "1"}, "'format'"),
        ({**GOOD, "format": True}, "'format'"),
        ({**GOOD, "format": 2}, "newer"),
        ({**GOOD, "level": "word"}, "'level'"),
        ({**GOOD, "level": ["char"]}, "'level'"),
        ({**GOOD, "level": "byte"}, "'characters'"),
        ({**GOOD, "more": 1}, "'more'"),
        ({**GOOD, "documents": 1}, "'documents'"),
        ({**GOOD, "characters": ""}, "'characters'"),
        ({**GOOD, "characters": ["a", "b"]}, "'characters'"),
        ({**GOOD, "characters": "aa"}, "twice"),
        ({**GOOD, "characters": "aba"}, "twice"),
        ({**GOOD, "characters": "ba"}, "out of order"),
        ({**GOOD, "characters": "a\ud800"}, "surrogate"),
        ({**GOOD, "start": "c"}, "'start'"),
        ({**GOOD, "start": "ab"}, "'start'"),
        ({**GOOD, "start": 1}, "'start'"),
    ],
)
def test_what_is_no_vocabulary(data: object, words: str) -> None:
    with pytest.raises(VocabularyError, match=words):
        vocabulary_from_json(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), json_values))
def test_nothing_but_a_vocabulary_error(changes: dict[str, Any]) -> None:
    try:
        vocabulary = vocabulary_from_json({**GOOD, **changes})
    except VocabularyError:
        return
    assert vocabulary.size > 1


def test_counting_characters_takes_no_memory() -> None:
    ids = np.broadcast_to(np.uint8(1), (10**12,))
    assert CharVocabulary("ab").count_characters(ids) == 10**12
