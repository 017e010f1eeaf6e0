from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_packed_sequence

from chargen.sentiment.baselines import words
from chargen.sentiment.baselines.words import (
    PAD,
    SPECIAL,
    UNKNOWN,
    WordVocabulary,
    pack,
    pad,
    tokenise,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't go, Bob!", ["don't", "go", ",", "bob", "!"]),
        ("It\u2019s 10/10...", ["it's", "10", "/", "10", ".", ".", "."]),
        ("'quoted'", ["'", "quoted", "'"]),
        ("cafe\u0301 = café", ["café", "=", "café"]),  # composed or not: one word
        ("Страшный фильм.", ["страшный", "фильм", "."]),
        ("हिन्दी अच्छी है।", ["हिन्दी", "अच्छी", "है", "।"]),  # vowel signs belong to their letters
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("好电影。", ["好", "电", "影", "。"]),
        ("ดีมาก", ["ดี", "ม", "า", "ก"]),
        ("iPhone好", ["iphone", "好"]),
        ("\u2764\ufe0f so", ["\u2764\ufe0f", "so"]),
        ("a\tb\n\u00a0c", ["a", "b", "c"]),
        (" \n", []),
    ],
)
def test_words_and_punctuation_of_any_script(text: str, tokens: list[str]) -> None:
    assert tokenise(text) == tokens


@given(st.text(st.characters(max_codepoint=127)))
def test_the_short_pattern_is_the_long_one_for_ascii(text: str) -> None:
    lowered = text.lower()
    assert tokenise(text) == words._pattern().findall(lowered)


@given(st.text())
def test_no_character_but_space_is_lost(text: str) -> None:
    import unicodedata

    whole = unicodedata.normalize("NFC", text.lower().replace("\u2019", "'"))
    assert "".join(tokenise(text)) == re.sub(r"\s", "", whole)


def test_the_vocabulary_is_ranked_by_count_then_alphabet() -> None:
    texts = [["b", "a", "c"], ["a", "b", "d"], ["a"]]
    assert WordVocabulary.from_texts(texts).words == (*SPECIAL, "a", "b", "c", "d")
    assert WordVocabulary.from_texts(texts, min_count=2).words == (*SPECIAL, "a", "b")
    assert WordVocabulary.from_texts(texts, max_words=1).words == (*SPECIAL, "a")


def test_the_last_words_are_encoded() -> None:
    vocabulary = WordVocabulary(["a", "b"])
    assert len(vocabulary) == 4
    assert vocabulary.encode(["a", "x", "b"]).tolist() == [2, UNKNOWN, 3]
    assert vocabulary.encode(["a", "x", "b"], max_words=2).tolist() == [UNKNOWN, 3]
    assert vocabulary.encode([]).tolist() == [UNKNOWN]


def test_a_batch_is_padded_at_the_end_and_packing_undoes_it() -> None:
    vocabulary = WordVocabulary(["a", "b"])
    texts = [vocabulary.encode(tokens) for tokens in (["a"], ["b", "a", "b"], ["a", "a"])]
    ids, lengths = pad(texts)
    assert ids.tolist() == [[2, 3, 2], [PAD, 2, 2], [PAD, 3, PAD]]
    assert lengths.tolist() == [1, 3, 2]
    packed = pack(ids[..., None].float(), lengths)
    assert len(packed.data) == 6
    assert PAD not in packed.data
    again, again_lengths = pad_packed_sequence(packed)
    assert torch.equal(again[..., 0].long(), ids)
    assert torch.equal(again_lengths, lengths)
