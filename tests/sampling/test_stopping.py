"""Stop texts: found wherever the pieces are cut, and never shown in part."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chargen.language_model import LanguageModel
from chargen.lm.storage import KIND
from chargen.sampling.detokenizer import StopMatcher
from chargen.storage.checkpoint import Checkpoint
from chargen.text.vocabulary import CharVocabulary

from .models import small_model

letters = st.text(alphabet="ab", max_size=40)
stops_of = st.lists(st.text(alphabet="ab", min_size=1, max_size=5), max_size=3)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=letters, stops=stops_of)
@example(text="aab", stops=["ab"])
@example(text="aaab", stops=["aaac", "ab"])
def test_character_by_character(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    given_out, expected, stopped = "", text, False
    for end in range(1, len(text) + 1):  # the first moment at which a stop text is complete
        starts = [at for at in (text[:end].find(stop) for stop in stops) if at >= 0]
        if starts:
            expected, stopped = text[: min(starts)], True
            break
    for character in text:
        given_out += matcher.feed(character)
        assert expected.startswith(given_out)
        if matcher.stopped:
            break
    given_out += matcher.flush()
    assert (given_out, matcher.stopped) == (expected, stopped)


def test_harmless_text_is_not_held_longer_than_needed() -> None:
    matcher = StopMatcher(["END"])
    assert [matcher.feed(c) for c in "an EN."] == ["a", "n", " ", "", "", "EN."]


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_text_stops_before_a_stop_text_in_the_direction_of_writing(direction: str) -> None:
    vocabulary = CharVocabulary("abc")
    lm = LanguageModel(small_model(vocabulary.size, direction=direction), vocabulary)
    whole = lm.generate(max_chars=200, seed=2)
    for stop in ("ab", "cba", "ca"):
        sample = lm.sample(max_chars=200, seed=2, stop=stop)[0]
        parts = whole.rpartition(stop)[2] if lm.backward else whole.partition(stop)[0]
        assert (sample.text, sample.ended) == (parts, "stop")
        assert "".join(lm.stream(max_chars=200, seed=2, stop=stop)) == parts
        assert [*lm.watch(max_chars=200, seed=2, stop=stop)][-1] == sample


@pytest.mark.parametrize("stop", ["e\u0301", "\r\n", "\r", "ab\r\n"])
def test_a_stop_text_is_read_like_a_prompt(stop: str) -> None:
    vocabulary = CharVocabulary("\nabé")
    stored = Checkpoint(KIND, {"config": {"corpus": {"config": {"normalize": "NFC"}}}}, {})
    lm = LanguageModel(small_model(vocabulary.size), vocabulary, stored)
    read = stop.replace("\r\n", "\n").replace("\r", "\n").replace("e\u0301", "é")
    sample = lm.sample(max_chars=300, seed=2, stop=stop)[0]
    assert sample.ended == "stop"
    assert sample.text == lm.generate(max_chars=300, seed=2).partition(read)[0]
    assert "".join(lm.stream(max_chars=300, seed=2, stop=stop)) == sample.text
