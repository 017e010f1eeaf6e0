"""Texts from Python: what is none is refused with its position, and a newline is a newline."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import chargen
from chargen.cli.main import main
from chargen.sampling.steering import fit_steering
from chargen.sentiment.explain import explain
from chargen.storage import checkpoint
from chargen.text.config import CorpusConfig
from chargen.text.corpus import load_corpus
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary, RawVocabulary

from .sentiment.making import CHARS, QUICK, make_lm, save_lm, separable
from .sentiment.models import save_classifier, tiny_classifier

LM = chargen.LanguageModel(make_lm(), CHARS)
JUDGE = tiny_classifier()
CLEANING = tiny_classifier(clean="html")


class Frame:
    """Stands in for a data frame: columns by their names."""

    columns = ("text", "label")

    def __getitem__(self, name: str) -> list[str]:
        return ["a great film"] * 2


SEVERAL: dict[str, Callable[[Any], Any]] = {
    "encode": LM.encode,
    "predict": JUDGE.predict,
    "predict_proba": JUDGE.predict_proba,
    "predict_batches": lambda texts: list(JUDGE.predict_batches(texts)),
    "score": lambda texts: JUDGE.score(texts, ["pos", "neg"]),
    "Examples.of": lambda texts: chargen.Examples.of(texts, ["pos", "neg"]),
    "Examples": lambda texts: chargen.Examples(texts, ("pos", "neg"), (0, 1), "mine"),
    "train": lambda texts: chargen.train(texts=texts),
}
ONE: dict[str, Callable[[Any], Any]] = {
    "generate": LM.generate,
    "sample": LM.sample,
    "stream": LM.stream,
    "watch": LM.watch,
    "score": LM.score,
    "cleaned": JUDGE.cleaned,
    "trace": JUDGE.trace,
    "explain": JUDGE.explain,
    "unknown_characters": CLEANING.unknown_characters,
}


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize(
    "texts", ["great", b"great", 5, None, np.array("a"), {"text": []}, Frame(), {"a great film"}]
)
def test_several_texts_are_asked_for(name: str, texts: Any) -> None:
    if name == "train" and texts is None:
        pytest.skip("that is a call without texts")
    with pytest.raises(chargen.CorpusError, match="^texts must be a list, got "):
        SEVERAL[name](texts)


@pytest.mark.parametrize("corpus", [{"a.txt", "b.txt"}, 5])
def test_several_corpora_are_a_list(corpus: Any) -> None:
    with pytest.raises(chargen.CorpusError, match="^corpus must be a list, got "):
        chargen.train(corpus)


def test_the_first_batch_need_not_be_asked_for() -> None:
    with pytest.raises(chargen.CorpusError, match="texts must be a list"):
        JUDGE.predict_batches("great")


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("strange", [None, float("nan"), 7, b"dull", ["dull"]])
def test_what_is_no_text_is_named_with_its_position(name: str, strange: Any) -> None:
    with pytest.raises(chargen.CorpusError, match=r"^texts\[1\] must be a text \(str\), got "):
        SEVERAL[name](["a great film", strange])


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("strange", [None, float("nan"), 7, b"dull", ["dull"]])
def test_one_text_is_asked_for(name: str, strange: Any) -> None:
    with pytest.raises(chargen.CorpusError, match=r"^(text|prompt) must be a text \(str\), got "):
        ONE[name](strange)


@pytest.mark.parametrize("strange", [b"fox", 5, 0, {"fox": []}, Frame(), ["fox", None], [b"fox"]])
def test_what_names_no_corpus_is_refused(strange: Any, tmp_path: Path) -> None:
    with pytest.raises(chargen.CorpusError, match="^corpus must be a "):
        chargen.train(strange, tmp_path / "out")


@pytest.mark.parametrize("several", [list, tuple, iter, np.array])
def test_names_of_corpora_may_be_in_any_list(several: Any, tmp_path: Path) -> None:
    names = [str(tmp_path / "fox.txt"), str(tmp_path / "dog.txt")]
    (tmp_path / "fox.txt").write_text("the quick brown fox. " * 20)
    with pytest.raises(chargen.CorpusError, match="dog.txt does not exist"):
        chargen.train(several(names), tmp_path / "out")


def test_labels_go_with_the_texts() -> None:
    with pytest.raises(chargen.CorpusError, match=r"labels must be texts \(str\), got 1"):
        chargen.Examples(("a", "b"), ("0", 1), (0, 1), "mine")  # type: ignore[arg-type]
    with pytest.raises(chargen.CorpusError, match="^labels must be a list"):
        chargen.Examples(("a", "b"), "pn", (0, 1), "mine")  # type: ignore[arg-type]
    for labels, words in (
        ("pn", "^labels must be a list"),
        (["pos"], "2 texts and 1 labels"),
        (["pos", None], "the label is missing in position 1"),
        (["pos", float("nan")], "the label is missing in position 1"),
        (["pos", object()], r"labels\[1\] is not a label, but object"),
        (np.eye(2), r"labels\[0\] is not a label, but ndarray"),
        (torch.eye(2), r"labels\[0\] is not a label, but Tensor"),
        ({"pos", "neg"}, "^labels must be a list, got a set"),
        (
            ["pos", "bad"],
            "unknown label 'bad' in position 1; the labels of training are 'neg', 'po",
        ),
    ):
        with pytest.raises(chargen.CorpusError, match=words):
            JUDGE.score(["a", "b"], labels)


def test_examples_keep_what_they_were_given() -> None:
    texts, labels, rows = ["a", "b", "c"], ["p", "n", "p"], [4, 5, 6]
    expected = chargen.Examples(tuple(texts), tuple(labels), tuple(rows), "mine")
    for convert in (list, iter, np.array):
        given: list[Any] = [convert(values) for values in (texts, labels, rows)]
        examples = chargen.Examples(*given, "mine")
        assert examples == expected
    examples = chargen.Examples(texts, labels, rows, "mine")  # type: ignore[arg-type]
    labels[0] = "changed"
    assert examples == expected
    for indices in ([2, 0], (2, 0), iter([2, 0]), np.array([2, 0])):
        assert examples.select(indices).rows == (6, 4)
    for mask in ([True, False, True], np.array([True, False, True])):
        with pytest.raises(chargen.CorpusError, match="must be whole numbers, got a mask"):
            examples.select(mask)


# ---------------------------------------------------------------- empty texts


@pytest.mark.parametrize("empty", ["", " \n", "\r\n", "\u00a0"])
def test_an_empty_text_gets_no_verdict_in_either_face(
    empty: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for ask in (JUDGE.predict, JUDGE.predict_proba, lambda texts: JUDGE.score(texts, ["pos"] * 2)):
        with pytest.raises(chargen.CorpusError, match=r"texts\[1\] is empty"):
            ask(["a great film", empty])
    directory = save_classifier(JUDGE, tmp_path / "judge")
    with pytest.raises(SystemExit) as ended:
        main(["sentiment", "predict", str(directory), "a great film", empty, "--json"])
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert [json.loads(row)["label"] is None for row in captured.out.splitlines()] == [False, True]
    assert "text 2 has no text" in captured.err


@pytest.mark.parametrize("vocabulary", [CHARS, ByteVocabulary(True), RawVocabulary(True)])
def test_an_empty_text_has_no_score(vocabulary: Any) -> None:
    lm = chargen.LanguageModel(make_lm(vocabulary), vocabulary)
    for as_is in (False, True):
        with pytest.raises(chargen.CorpusError, match="there is no text to score"):
            lm.score("", as_is=as_is)


def test_a_text_of_tags_alone_is_empty_where_they_are_cleaned() -> None:
    assert len(JUDGE.predict(["<br />"])) == 1
    with pytest.raises(chargen.CorpusError, match=r"texts\[2\] is empty"):
        CLEANING.predict(["a", "b", "<br />"])


def test_a_label_may_be_given_as_a_table_may_spell_it() -> None:
    labels, typed = ("caf\u00e9", "tea"), " cafe\u0301 "
    vocabulary = CharVocabulary("\n abc", True, labels=labels)
    lm = chargen.LanguageModel(make_lm(vocabulary), vocabulary)
    assert lm.generate(label=typed, seed=1) == lm.generate(label=labels[0], seed=1)
    assert (
        lm.score("abc", label=typed).nats_per_char == lm.score("abc", label=labels[0]).nats_per_char
    )
    assert tiny_classifier(labels).explain("a film", typed).label == labels[0]
    texts = ["great", "great film", "dull", "dull plot"]
    steering = fit_steering(LM, texts, [labels[0]] * 2 + [labels[1]] * 2, "mine")
    written = [LM.steered(steering, label).generate(seed=1) for label in (typed, labels[0])]
    assert written[0] == written[1]


# ---------------------------------------------------------------- newlines

TEXT = "a great film.\nso they say:\n\ndull\n"


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_newlines_of_any_convention_are_read_alike(newline: str) -> None:
    other = TEXT.replace("\n", newline)
    found = LM.score(other)
    assert found.text == TEXT
    np.testing.assert_array_equal(found.log_probs, LM.score(TEXT).log_probs)
    np.testing.assert_array_equal(LM.encode([other]), LM.encode([TEXT]))
    assert LM.generate(other, seed=1) == LM.generate(TEXT, seed=1)
    assert "".join(LM.stream(other, seed=1)) == LM.generate(TEXT, seed=1)
    for judge in (JUDGE, CLEANING):
        np.testing.assert_array_equal(judge.predict_proba([other]), judge.predict_proba([TEXT]))
        np.testing.assert_array_equal(judge.trace(other), judge.trace(TEXT))
        assert explain(judge, other).text == judge.cleaned(TEXT)
        assert judge.unknown_characters(other) == ""
    assert chargen.Examples.of([other, "b"], [1, 2]).texts == (TEXT, "b")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_predict_agrees_with_the_command_line(
    newline: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = save_classifier(JUDGE, tmp_path / "judge")
    text = TEXT.replace("\n", newline)
    row = json.dumps({"text": text}) + "\n"
    (tmp_path / "rows.jsonl").write_bytes(row.encode())
    for source in (["--input", str(tmp_path / "rows.jsonl")], [text]):
        with pytest.raises(SystemExit):
            main(["sentiment", "predict", str(directory), *source, "--json"])
        found = json.loads(capsys.readouterr().out)["probabilities"]
        expected = JUDGE.predict_proba([text])[0]
        assert list(found.values()) == pytest.approx(expected.tolist(), abs=1e-6)


# ---------------------------------------------------------------- score and evaluate

DIRTY = (
    "First &amp; <b>foremost</b>\r\n\r\n\nit was\u2603 a day<br>for  all.\rNo newline e\u0301 "
    "\ufffd at its end"
)


@pytest.mark.parametrize("documents", [None, "lines", "files", "rows"])
@pytest.mark.parametrize("clean", [None, "html"])
@pytest.mark.parametrize("level", ["char", "byte"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_score_and_encode_agree_with_the_command_line(
    documents: str | None,
    clean: str | None,
    level: str,
    direction: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    apart = documents is not None
    vocabulary = (
        CharVocabulary(CHARS.characters, apart) if level == "char" else ByteVocabulary(apart)
    )
    directory = save_lm(tmp_path / "lm", vocabulary, direction=direction)
    stored = checkpoint.load(directory)
    reading = {"documents": documents, "clean": clean, "normalize": clean and "NFC"}
    stored.documents["config"]["corpus"] = {"arguments": ["x"], "config": reading, "key": "y"}
    checkpoint.save(directory, stored)
    lm = chargen.load(directory)
    for text in (DIRTY, DIRTY + "\n", "one line"):
        (tmp_path / "text.txt").write_bytes(text.encode())
        with pytest.raises(SystemExit):
            main(["evaluate", str(directory), str(tmp_path / "text.txt"), "--json"])
        figures = json.loads(capsys.readouterr().out)
        score = lm.score(text)
        assert score.bits_per_char == pytest.approx(figures["bits_per_char"], rel=1e-6)
        assert score.unknown_chars == figures["unknown_chars"]
        assert len(score.text) == len(score.log_probs) == figures["chars"]
        assert "\r" not in score.text
        with pytest.raises(SystemExit):
            main(["score", str(directory), str(tmp_path / "text.txt"), "--json"])
        row = json.loads(capsys.readouterr().out)
        assert row["text"] == score.text
        np.testing.assert_allclose(row["log_probs"], score.log_probs, rtol=1e-5)
        assert ("\u00e9" in score.text) == (clean == "html" and text != "one line")
        output = tmp_path / "text.npy"
        with pytest.raises(SystemExit):
            main(["encode", str(directory), str(tmp_path / "text.txt"), f"--output={output}", "-q"])
        found, one = np.load(output), lm.encode([text])
        if documents != "lines":
            np.testing.assert_array_equal(found, one)
        np.testing.assert_array_equal(lm.encode([text.replace("\ufffd", "\ud801")]), one)
        output.unlink()
        if lm.can_write:
            composed = unicodedata.normalize("NFC", text) if clean else text
            assert lm.generate(text, seed=1) == lm.generate(composed, seed=1)


def test_a_text_can_be_scored_as_it_is(tmp_path: Path) -> None:
    directory = save_lm(tmp_path / "lm", CharVocabulary("\n abc", True))
    stored = checkpoint.load(directory)
    stored.documents["config"]["corpus"] = {"config": {"documents": "lines", "clean": None}}
    checkpoint.save(directory, stored)
    lm = chargen.load(directory)
    whole, part = lm.score("abc"), lm.score("abc", as_is=True)
    assert (whole.text, part.text) == ("abc\n", "abc")
    np.testing.assert_allclose(whole.log_probs[:3], part.log_probs, rtol=1e-5)
    assert lm.score("a\nb").unknown_chars == 0
    with pytest.raises(chargen.CorpusError, match="no text to score"):
        lm.score("\n\n")


@pytest.mark.parametrize("labels", [(), ("one", "two")])
def test_every_character_has_its_log_probability(labels: tuple[str, ...]) -> None:
    vocabulary = CharVocabulary("\n abc", True, labels=labels)
    lm = chargen.LanguageModel(make_lm(vocabulary), vocabulary)
    for number in range(0xD800, 0xE000, 97):  # lone surrogates, some of them symbols of the model
        score = lm.score(f"ab{chr(number)}c{chr(number + 1)}", as_is=True)
        assert len(score.text) == len(score.log_probs)
        assert "".join(c for c in score.text if c in "abc") == "abc"
    for text in [""] + [chr(0xD801 + i) for i in range(len(labels))]:
        with pytest.raises(chargen.CorpusError, match="no text to score"):
            lm.score(text, as_is=True)


# ---------------------------------------------------------------- texts to learn from

SIZES: dict[str, Any] = {"hidden_size": 8, "batch_size": 2, "window": 8, "precision": "float32"}
BOOK = "It was a dark and stormy night; the rain fell in torrents.\n" * 20


@pytest.mark.parametrize(
    "text",
    [
        BOOK,
        "It was a dark and stormy night.",
        "one\ntwo",
        "x" * 5000,
        "I like U.S. films best",
    ],
)
def test_a_text_in_the_place_of_a_name_is_recognized(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder = save_lm(tmp_path / "lm")
    for ask in (
        lambda: chargen.train(text),
        lambda: chargen.train(text, "out"),
        lambda: chargen.train([text, text]),
        lambda: chargen.finetune(text, encoder, "out"),
        lambda: load_corpus([text], chargen.CorpusConfig()),
    ):
        with pytest.raises(chargen.CorpusError, match=r"looks like a text.*texts=\[") as caught:
            ask()
        assert len(str(caught.value)) < 220


def test_a_mistyped_name_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "the book of all my tales.txt").write_text(BOOK)
    with pytest.raises(chargen.CorpusError, match="did you mean the book of all my tales.txt"):
        chargen.train("the book of all my talse.txt")
    (tmp_path / "a folder of four words").mkdir()
    with pytest.raises(chargen.CorpusError, match="holds no files"):
        chargen.train("a folder of four words")


def learnt(directory: Path) -> bytes:
    return (directory / "model.safetensors").read_bytes()


def test_training_on_texts_is_training_on_the_rows_of_a_table(tmp_path: Path) -> None:
    texts = [f"text number {i}:\r\n it was a <b>dark</b> night" for i in range(40)]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "rows.jsonl").write_text(rows)
    options = {"steps": 5, "clean": "html", **SIZES}
    chargen.train(tmp_path / "rows.jsonl", tmp_path / "rows", documents="rows", **options)
    chargen.train(texts=iter(texts), out=tmp_path / "texts", **options)
    assert learnt(tmp_path / "texts") == learnt(tmp_path / "rows")
    assert chargen.load(tmp_path / "texts").vocabulary.separator_id is not None


def test_training_on_one_text_is_training_on_a_file_of_it(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(BOOK)
    chargen.train(tmp_path / "book.txt", tmp_path / "file", steps=5, **SIZES)
    chargen.train(texts=[BOOK], out=tmp_path / "text", steps=5, **SIZES)
    assert learnt(tmp_path / "text") == learnt(tmp_path / "file")


def test_texts_are_validated_on_a_file_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("it was\na dark night\n")
    config = CorpusConfig(documents="rows", valid=str(tmp_path / "held.txt"))
    corpus = load_corpus([], config, texts=["it was a dark night\n" * 9] * 3)
    separator = corpus.vocabulary.separator_id
    assert [(ids == separator).sum() for ids in (corpus.train, corpus.valid)] == [3, 1]


def test_texts_that_cannot_be_learnt_from(tmp_path: Path) -> None:
    for texts, words in (
        ([], "the given text is empty"),
        (["", ""], "the given text is empty"),
        (["short"], "has 5 characters; at least"),
        (["fine " * 20, "a\0b " * 20], r"texts\[1\], character 1, looks binary"),
    ):
        with pytest.raises(chargen.CorpusError, match=words):
            chargen.train(texts=texts, out=tmp_path / "m", **SIZES)
    for call in ({}, {"corpus": "prose", "texts": ["a"]}):
        with pytest.raises(chargen.ConfigError, match="either a corpus"):
            chargen.train(**call)
    assert not (tmp_path / "m").exists()


def test_a_run_on_texts_goes_on_from_the_cache_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"text number {i}: it was a dark night" for i in range(40)]
    chargen.train(texts=texts, out=tmp_path / "m", steps=5, **SIZES)
    assert chargen.resume(tmp_path / "m", steps=8).steps == 8
    monkeypatch.setenv("CHARGEN_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(chargen.CorpusError, match="came from Python and is no longer in the cache"):
        chargen.resume(tmp_path / "m", steps=9)


# ---------------------------------------------------------------- labelled texts to learn from


def test_fine_tuning_takes_lists_and_tables(tmp_path: Path) -> None:
    encoder = save_lm(tmp_path / "lm")
    examples = separable(40)
    options = QUICK | {"ngrams": False}
    run = chargen.finetune(examples, encoder, tmp_path / "a", **options)
    texts, labels = list(examples.texts), list(examples.labels)
    columns = {"id": range(40), "review": texts, "sentiment": labels}
    other = {"x": texts, "y y": labels}
    chosen = {"text_column": "x", "label_column": "y y"}
    for number, (data, more) in enumerate(
        (((texts, labels), {}), ((np.array(texts), labels), {}), (columns, {}), (other, chosen))
    ):
        out = tmp_path / str(number)
        assert chargen.finetune(data, encoder, out, **options, **more).valid == run.valid
        assert learnt(out) == learnt(tmp_path / "a")
    alone = chargen.finetune((texts, labels), encoder, **options)
    assert alone.directory is None
    assert alone.classifier.predict(texts) == run.classifier.predict(texts)


def test_fine_tuning_takes_data_frames(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    encoder = save_lm(tmp_path / "lm")
    examples = separable(40, ("0", "1"))
    frame = pandas.DataFrame({"text": examples.texts, "stars": map(int, examples.labels)})
    frame = frame.sort_values("stars", kind="stable")  # an index that is no range
    options = QUICK | {"ngrams": False}
    runs = [
        chargen.finetune(data, encoder, **options)
        for data in (frame, (frame["text"], frame["stars"]), (frame.text.to_list(), frame.stars))
    ]
    assert {run.classifier.labels for run in runs} == {("0", "1")}
    first, *others = (run.classifier.predict_proba(frame["text"]) for run in runs)
    for other in others:
        np.testing.assert_array_equal(other, first)
    assert runs[0].classifier.score(frame["text"], frame["stars"]) == np.mean(
        [int(label) for label in runs[0].classifier.predict(frame["text"])] == frame["stars"]
    )
    frame.loc[3, "text"] = None
    with pytest.raises(chargen.CorpusError, match=r"texts\[\d+\] must be a text"):
        chargen.finetune(frame, encoder, **options)


def test_labelled_data_that_is_none(tmp_path: Path) -> None:
    encoder = save_lm(tmp_path / "lm")
    pairs = [("good", "pos"), ("bad", "neg")]
    for data, words in (
        (pairs, r"a pair \(texts, labels\), or a table"),
        (None, "labelled texts must be"),
        ({"text": ["a"]}, "has no label column with a usual name; its columns are 'text'"),
        ({"text": "ab", "label": [1, 2]}, "texts must be a list"),
        (((["a", "b"]), ["x", "x"]), "the only label is 'x'"),
        ((["", " "], ["x", "y"]), "holds no text"),
    ):
        with pytest.raises(chargen.CorpusError, match=words):
            chargen.finetune(data, encoder, tmp_path / "out", **QUICK)
    twice = {1: ["a", "b"], "1": ["c", "d"], "label": ["x", "y"]}
    with pytest.raises(chargen.CorpusError, match="the given table has several columns '1'"):
        chargen.finetune(twice, encoder, tmp_path / "out", text_column="1", **QUICK)
    assert not (tmp_path / "out").exists()


def test_fine_tuning_on_lists_goes_on_with_the_same_lists(tmp_path: Path) -> None:
    encoder = save_lm(tmp_path / "lm")
    examples = separable(40)
    options = QUICK | {"ngrams": False}
    chargen.finetune((examples.texts, examples.labels), encoder, tmp_path / "a", **options)
    with pytest.raises(chargen.CorpusError, match=r"came from Python.*data=\.\.\."):
        chargen.resume_finetune(tmp_path / "a", epochs=3)
    with pytest.raises(chargen.CorpusError, match="have changed"):
        chargen.resume_finetune(tmp_path / "a", data=separable(41), epochs=3)
    data = {"text": list(examples.texts), "label": list(examples.labels)}
    run = chargen.resume_finetune(tmp_path / "a", data=data, epochs=3)
    assert run.finished
    assert run.steps > 2
