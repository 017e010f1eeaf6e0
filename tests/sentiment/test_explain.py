from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from chargen.errors import ConfigError
from chargen.plotting.painting import (
    STEPS,
    escape_controls,
    pieces_by_step,
    scale_end,
    scale_steps,
    wrapped_lines,
)
from chargen.sentiment import explain as explaining
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.explain import explain, is_quick, leave_out, word_spans
from chargen.sentiment.finetune import finetune
from chargen.sentiment.members import Member, NetworkMember

from .making import BYTES, CHARS, TELLING, count_ngrams, make_lm, make_network, separable

TEXT = "  the river was cold. a lamp fell\ninto the café "


def classifier(
    labels: Sequence[str] = ("bad", "good"),
    clean: str | None = None,
    backward: bool = False,
    voting: bool = False,
) -> Classifier:
    encoders = [make_lm()]
    if backward:
        encoders.append(make_lm(direction="backward", hidden_size=6, seed=1))
    network = make_network(*encoders, num_classes=len(labels))
    members: list[Member] = [NetworkMember(network, [CHARS] * len(encoders))]
    if voting:
        members += count_ngrams(separable(40))
    return Classifier(members, labels, clean)


@pytest.mark.parametrize("voting", [False, True])
@pytest.mark.parametrize("backward", [False, True])
def test_the_trace_ends_in_the_verdict_and_the_moves_add_up(backward: bool, voting: bool) -> None:
    judge = classifier(backward=backward, voting=voting)
    found = explain(judge, TEXT)
    expected = judge.predict_proba([TEXT])[0]
    np.testing.assert_allclose(found.trace[-1], expected, atol=1e-5)
    np.testing.assert_allclose(
        found.trace[0], judge.predict_proba([""], cleaned=True)[0], atol=1e-5
    )
    assert found.verdict == judge.predict([TEXT])[0]
    assert found.probability == pytest.approx(expected.max(), abs=1e-5)
    assert found.trace.shape == (len(TEXT) + 1, 2)
    odds = np.log(found.curve[[0, -1]]) - np.log1p(-found.curve[[0, -1]])
    assert found.moves.sum() == pytest.approx(odds[1] - odds[0], abs=1e-4)
    assert sum(word.move for word in found.words) == pytest.approx(found.moves.sum())


@pytest.mark.parametrize("backward", [False, True])
def test_what_stands_at_a_words_end_is_the_verdict_on_the_text_up_to_there(backward: bool) -> None:
    judge = classifier(backward=backward)
    found = explain(judge, TEXT)
    prefixes = judge.predict_proba([TEXT[:end] for end in found.word_ends], cleaned=True)
    np.testing.assert_allclose(found.trace[found.word_ends], prefixes, atol=1e-5)


def test_bytes_of_one_character_move_together() -> None:
    network = make_network(make_lm(BYTES))
    judge = Classifier([NetworkMember(network, [BYTES])], ("bad", "good"))
    text = "café ☃!"
    found = explain(judge, text)
    prefixes = judge.predict_proba([text[:end] for end in range(len(text) + 1)], cleaned=True)
    np.testing.assert_allclose(found.trace, prefixes, atol=1e-5)


def test_moves_are_about_the_second_of_two_labels_the_verdict_of_more_or_the_one_asked_for() -> (
    None
):
    two = classifier()
    assert (explain(two, TEXT).label, explain(two, TEXT).others) == ("good", "bad")
    other = explain(two, TEXT, "bad")
    assert (other.label, other.others) == ("bad", "good")
    np.testing.assert_allclose(other.moves, -explain(two, TEXT).moves, atol=1e-3)
    three = explain(classifier(("a", "b", "c")), TEXT)
    assert three.label == three.verdict
    assert three.others == f"not {three.verdict}"
    for label in ("nice", 1):
        with pytest.raises(ConfigError, match=f"no label {label!r}.*'bad', 'good'"):
            explain(two, TEXT, label)  # type: ignore[arg-type]
    assert two.explain(TEXT, "bad").label == "bad"


def test_words_cover_the_text() -> None:
    found = explain(classifier(), TEXT)
    assert [word.text for word in found.words[:4]] == ["the", "river", "was", "cold."]
    assert "".join(TEXT[word.start : word.end] for word in found.words) == TEXT
    strongest = found.strongest(3)
    assert len(strongest) == 3
    assert abs(strongest[0].move) == max(abs(word.move) for word in found.words)


@pytest.mark.parametrize(
    "text", ["", " ", "a", " \n a  b ", "好电影!是", "no-break\u00a0space", "ab好c"]
)
def test_spans_cover_any_text(text: str) -> None:
    spans = word_spans(text)
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)


def test_scripts_without_spaces_are_cut_into_characters() -> None:
    for characters in (["好", "电", "影", "。"], ["か\u3099", "葛\U000e0100", "ん"]):
        text = "".join(characters)
        assert [text[a:b] for a, b in word_spans(text)] == characters


@pytest.mark.parametrize("voting", [False, True])
def test_leaving_out_a_word_is_the_text_without_it(voting: bool) -> None:
    judge = classifier(voting=voting)
    found = leave_out(judge, explain(judge, TEXT))
    word = found.words[1]
    whole, without = judge.predict_proba([TEXT, TEXT.replace("river ", "")])[:, 1].astype(float)
    expected = np.log(whole / (1 - whole)) - np.log(without / (1 - without))
    assert word.left_out == pytest.approx(expected, abs=1e-4)
    assert abs(found.strongest(1)[0].left_out or 0) == max(
        abs(word.left_out or 0) for word in found.words
    )


def test_markup_is_cleaned_once() -> None:
    judge = classifier(clean="html")
    found = leave_out(judge, explain(judge, "a <b>lamp</b> &amp;lt; river"))
    assert found.text == "a lamp &lt; river"
    expected = classifier().predict_proba([found.text])[0]
    np.testing.assert_allclose(found.trace[-1], expected, atol=1e-5)


def test_nothing_can_be_explained_too() -> None:
    found = explain(classifier(), "")
    assert found.trace.shape == (1, 2)
    assert found.moves.shape == (0,)
    assert found.words == ()
    assert leave_out(classifier(), found).words == ()
    assert found.to_dict()["curve"] == [pytest.approx(found.probabilities["good"], abs=1e-6)]


def test_what_would_take_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "MAX_CHARACTERS", 30)
    monkeypatch.setattr(explaining, "MAX_CHARACTERS_BACKWARD", 20)
    monkeypatch.setattr(explaining, "MOST_WORDS", 2)
    with pytest.raises(ConfigError, match="40 characters; at most 30"):
        explain(classifier(), "x" * 40)
    with pytest.raises(ConfigError, match="25 characters; at most 20"):
        explain(classifier(backward=True), "x" * 25)
    judge = classifier()
    with pytest.raises(ConfigError, match="3 words; at most 2"):
        leave_out(judge, explain(judge, "a b c"))


def test_quick_is_a_matter_of_words_times_characters() -> None:
    judge = classifier()
    assert is_quick(explain(judge, TEXT))
    assert not is_quick(explain(judge, "ab " * 500))


# ---------------------------------------------------------------- painting


def test_steps_are_symmetric_about_the_middle() -> None:
    assert scale_steps(np.array([-2.0, -1.0, 0.0, 0.5, 9.0]), 0.0, -1.0, 1.0) == [-5, -5, 0, 2, 5]
    assert scale_steps(np.array([0.0, 0.25, 1.0]), 0.25, 0.0, 1.0) == [-STEPS, 0, STEPS]
    assert scale_steps(np.array([0.0, 0.0]), 0.0, 0.0, 0.0) == [0, 0]
    assert scale_end([]) == 0
    assert scale_end([1.0] * 99 + [1000.0]) == 1


def test_runs_join_equal_steps_and_keep_letters_whole() -> None:
    assert list(pieces_by_step("abcd", [1, 1, 2, 2])) == [("ab", 1), ("cd", 2)]
    assert list(pieces_by_step("e\u0301x", [1, 2, 3])) == [("e\u0301", 1), ("x", 3)]
    family = "\U0001f469\u200d\U0001f467"
    assert list(pieces_by_step(family + "!", [1, 2, 3, 4])) == [(family, 1), ("!", 4)]
    assert list(pieces_by_step("", [])) == []


def test_nothing_that_acts_is_left() -> None:
    assert (
        escape_controls("a\x1b[31m\u202eb\u2028c\ud800\n\t")
        == "a\\x1b[31m\\u202eb\\u2028c\\ud800\n\t"
    )
    assert escape_controls("\n", "") == "\\n"
    assert escape_controls("नमस्ते 好 é\u200d") == "नमस्ते 好 é\u200d"


@pytest.mark.parametrize(
    "text", ["", "a", "a b\n\nc ", "word " * 60, "x" * 200, "好" * 100, "\n", "a\n" + "y " * 90]
)
def test_lines_hold_every_letter_and_are_not_too_wide(text: str) -> None:
    lines = [text[start:end] for start, end in wrapped_lines(text, 40)]
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(len(line) * (2 if "好" in line else 1) <= 40 for line in lines)
    assert len(lines) >= text.count("\n")


def test_leaving_out_the_word_that_tells_moves_the_verdict_most(tiny_lm: Path) -> None:
    judge = finetune(separable(120), tiny_lm, precision="float32", device="cpu").classifier
    telling = {word for pair in TELLING for word in pair}
    unseen = separable(10, seed=3)
    found = [leave_out(judge, explain(judge, text)).strongest(1)[0] for text in unseen.texts]
    assert sum(word.text in telling for word in found) >= 9
    toward = {"good": 1, "bad": -1}
    signs = [
        word.weight * toward[label] > 0
        for word, label in zip(found, unseen.labels, strict=True)
        if word.text in telling
    ]
    assert all(signs)
