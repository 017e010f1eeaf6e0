"""Texts learnt after their labels, and written, scored and counted with them."""

from __future__ import annotations

import csv
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chargen as package
from chargen.errors import ConfigError, CorpusError, VocabularyError
from chargen.lm.evaluation import log_probs
from chargen.text.config import CorpusConfig
from chargen.text.corpus import load_corpus
from chargen.text.symbols import MOST_LABELS, SEPARATOR
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary, vocabulary_from_json

from .conftest import Command

WORDS = {"ann": "abc", "bob": "xyz é"}
SMALL: dict[str, Any] = {"hidden_size": 24, "batch_size": 8, "window": 16, "precision": "float32"}


def rows(count: int = 200) -> list[tuple[str, str]]:
    """Labels and texts; each label has letters of its own."""
    draw = random.Random(0)
    return [
        (label, "".join(draw.choice(WORDS[label]) for _ in range(12)))
        for _ in range(count // 2)
        for label in WORDS
    ]


def table(path: Path, found: list[tuple[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("author", "body"), *found])
    return path


READING = {"text_column": "body", "label_column": "author"}


@pytest.fixture(scope="module", params=["char", "byte"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> package.Run:
    folder = tmp_path_factory.mktemp("labels")
    found = [*rows(), ("", "mmmmmmmmmmmm")]
    path = table(folder / "table.csv", found)
    # So small a model of so regular a text needs no masks.
    rates = {"dropout": 0.1, "embedding_dropout": 0.0, "weight_dropout": 0.0}
    options = {"steps": 400, "level": request.param, **READING, **SMALL, **rates}
    return package.train(path, folder / "model", **options)


@pytest.fixture(scope="module")
def lm(run: package.Run) -> package.LanguageModel:
    return package.load(run.directory)


def test_vectors_do_not_tell_the_labels_unless_asked(
    chargen: Command, run: package.Run, lm: package.LanguageModel, tmp_path: Path
) -> None:
    texts = [text for _, text in rows(10)]
    path = table(tmp_path / "table.csv", rows(10))
    for asked in ((), ("--label-column", "author")):
        output = tmp_path / f"{len(asked)}.npy"
        columns = ("--text-column", "body")
        assert (
            chargen("encode", run.directory, path, "--output", output, *columns, *asked).code == 0
        )
        assert np.array_equal(np.load(output), lm.encode(texts)) is not bool(asked)


def test_other_documents_than_rows_have_no_labels(
    chargen: Command, run: package.Run, tmp_path: Path
) -> None:
    path = table(tmp_path / "table.csv", rows(4))
    asked = ("score", run.directory, path, "--text-column", "body", "--table", tmp_path / "t.csv")
    for documents, count in (("lines", 4), ("files", 1), ("rows", 4)):
        result = chargen(*asked, "--documents", documents, "--force")
        assert (result.code, result.out.split()[0]) == (0, str(count))


def test_texts_are_written_after_a_label(lm: package.LanguageModel) -> None:
    assert lm.vocabulary.labels == ("ann", "bob")
    for label, letters in WORDS.items():
        samples = lm.sample("", 20, label=label, seed=1)
        text = "".join(sample.text for sample in samples)
        assert sum(letter in letters for letter in text) > 0.9 * len(text) > 100
        assert all(len(sample.log_probs) == len(sample.text) for sample in samples)
        assert "".join(lm.stream(label=label, seed=1)) == samples[0].text
        lm.generate(label=label, seed=1, ignore_end=True, max_chars=300).encode()  # no surrogate


def test_an_unknown_label_is_refused_with_those_there_are(lm: package.LanguageModel) -> None:
    with pytest.raises(ConfigError, match=r"--label: .*'an'; did you mean ann\?.*'ann', 'bob'"):
        lm.generate(label="an")
    with pytest.raises(VocabularyError, match="its labels are 'ann', 'bob'"):
        lm.score("abc", label="carl")


def test_a_score_is_of_the_text_alone(lm: package.LanguageModel) -> None:
    right, wrong, none = (lm.score("xyz é", label=one) for one in ("bob", "ann", None))
    for score in (right, wrong, none):
        assert score.text == "xyz é\n"
        assert score.log_probs.shape == (6,)
    assert right.bits_per_char < wrong.bits_per_char
    assert len({score.bits_per_char for score in (right, wrong, none)}) == 3
    ids = lm.vocabulary.encode(lm.vocabulary.label_symbol("bob") + "xyz é" + SEPARATOR)
    expected = log_probs(lm.model, ids, lm.vocabulary.start_id)[1:]
    assert right.log_probs.sum() == pytest.approx(expected.sum(), abs=1e-4)


def test_labels_do_not_count_in_the_bits_of_a_run(
    run: package.Run, lm: package.LanguageModel
) -> None:
    corpus = json.loads((run.directory / "config.json").read_text())["corpus"]
    text = load_corpus(corpus["arguments"], CorpusConfig(**corpus["config"]))
    assert text.vocabulary == lm.vocabulary
    assert text.characters == sum(len(body) for _, body in rows()) + 12
    assert run.valid_nats is not None
    valid = np.asarray(text.valid)
    scores = log_probs(lm.model, valid, lm.vocabulary.start_id)
    predicted = valid < lm.vocabulary.first_label_id
    characters = lm.vocabulary.count_characters(valid)
    assert characters == len(lm.vocabulary.decode(valid))
    assert 0 < predicted.sum() < len(valid)
    nats = -float(scores[predicted].sum()) / characters
    assert run.valid_nats == pytest.approx(nats, abs=1e-3)
    assert sum(letter in WORDS["ann"] for letter in run.sample) > len(run.sample) / 2


def test_tables_condition_on_their_labels(
    run: package.Run,
    chargen: Command,
    tmp_path: Path,
) -> None:
    found = rows(40)
    right = table(tmp_path / "right.csv", found)
    wrong = table(tmp_path / "wrong.csv", [("bob" if a == "ann" else "ann", b) for a, b in found])
    (tmp_path / "without.csv").write_text("body\n" + "".join(f"{b}\n" for _, b in found))
    (tmp_path / "mixed.jsonl").write_text(
        "".join(
            json.dumps({"body": b} | ({"author": a} if i % 2 else {})) + "\n"
            for i, (a, b) in enumerate(found)
        )
    )
    bits = {}
    for path in (right, wrong, tmp_path / "without.csv", tmp_path / "mixed.jsonl"):
        result = chargen("evaluate", run.directory, path, "--text-column", "body", "--json")
        assert result.code == 0, result.err
        figures = json.loads(result.out)
        assert figures["chars"] == 40 * 13
        bits[path.stem] = figures["bits_per_char"]
        scored = json.loads(
            chargen("score", run.directory, path, "--text-column", "body", "--json").out
        )
        assert scored["text"] == "".join(f"{b}\n" for _, b in found)
    assert bits["right"] < bits["wrong"]
    assert len(set(bits.values())) == 4
    other = table(tmp_path / "other.csv", [("ann", "abc"), ("carl", "abc")])
    refused = chargen("evaluate", run.directory, other, "--text-column", "body")
    assert refused.code == 1
    assert "other.csv, line 3: the model has no label 'carl'" in refused.err
    assert "'ann', 'bob'" in refused.err
    (tmp_path / "plain.txt").write_text("abc")
    assert chargen("evaluate", run.directory, tmp_path / "plain.txt").code == 0
    refused = chargen("evaluate", run.directory, tmp_path / "plain.txt", "--label-column", "x")
    assert refused.code == 2
    assert "--label-column needs" in refused.err


@pytest.mark.parametrize("header", [True, False])
def test_tables_of_any_dialect_have_labels(chargen: Command, tmp_path: Path, header: bool) -> None:
    lines = ["who|body|no"] * header + [f" {label} |{body}|1" for label, body in rows(100)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines), "utf-8")
    columns = ("body", "who") if header else ("2", "1")
    named = ("--text-column", columns[0], "--label-column", columns[1], "--delimiter", "|")
    reading = (*named, *([] if header else ["--no-header"]))
    sizes = ("--steps", 2, "--hidden-size", 8, "--batch-size", 4, "--window", 16, "-q")
    sizes += ("--precision", "float32")
    result = chargen("train", path, "--out", tmp_path / "m", *reading, *sizes)
    assert result.code == 0, result.err
    assert package.load(tmp_path / "m").vocabulary.labels == ("ann", "bob")
    scored = json.loads(chargen("score", tmp_path / "m", path, *reading, "--json").out)
    assert scored["text"] == "".join(f"{body}\n" for _, body in rows(100))
    wrong = list(reading)
    wrong[3] = "which"
    refused = chargen("evaluate", tmp_path / "m", path, *wrong)
    assert refused.code == 1
    assert "choose one with --label-column" in refused.err
    proposed = json.loads(chargen("corpus", "info", path, *reading, "--json").out)
    told = proposed["suggested_command"]
    assert all(part in told for part in ("--label-column", "--delimiter '|'"))
    assert ("--no-header" in told) is not header


def test_documents_are_scored_one_by_one_after_their_labels(
    run: package.Run, lm: package.LanguageModel, chargen: Command, tmp_path: Path
) -> None:
    path = table(tmp_path / "table.csv", rows(4))
    reading = ("--text-column", "body")
    done = chargen("score", run.directory, path, *reading, "--table", tmp_path / "scores.csv")
    assert done.code == 0, done.err
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as file:
        found = [float(row["bits"]) for row in csv.DictReader(file)]
    expected = [lm.score(body, label=label) for label, body in rows(4)]
    bits = [-float(score.log_probs.sum()) / math.log(2) for score in expected]
    assert found == pytest.approx(bits, abs=1e-2)


@pytest.mark.parametrize(("documents", "count"), [("files", 1), ("lines", 4), ("rows", 4)])
def test_rows_that_are_no_documents_have_no_labels(
    run: package.Run, chargen: Command, tmp_path: Path, documents: str, count: int
) -> None:
    path = table(tmp_path / "table.csv", rows(4))
    reading = ("--text-column", "body", "--documents", documents)
    scores, vectors = tmp_path / "scores.csv", tmp_path / "vectors.npy"
    done = chargen("score", run.directory, path, *reading, "--table", scores, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["documents"] == count
    assert chargen("encode", run.directory, path, *reading, "--output", vectors).code == 0
    assert len(np.load(vectors)) == count


def test_labels_are_what_a_classifier_reads_as_labels(tmp_path: Path) -> None:
    values = ["e\u0301", " \u00e9 ", 1, 1.5, True, None, "", "nan"]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"text": "abcd", "who": v}) + "\n" for v in values))
    found = load_corpus([str(path)], CorpusConfig(label_column="who"), min_characters=1)
    assert found.vocabulary.labels == ("1", "1.5", "true", "\u00e9")
    path.write_text(json.dumps({"text": "abcd", "who": ["ann"]}))
    with pytest.raises(CorpusError, match="line 1: 'who' is not a label, but list"):
        load_corpus([str(path)], CorpusConfig(label_column="who"), min_characters=1)


def test_the_command_line_writes_and_tells_labels(
    run: package.Run,
    lm: package.LanguageModel,
    chargen: Command,
) -> None:
    written = chargen("sample", run.directory, "--label", "bob", "--seed", 1)
    assert written.out == lm.generate(label="bob", seed=1) + "\n"
    assert written.err == ""
    without = chargen("sample", run.directory, "--seed", 1, "--length", 2)
    assert "the model has learnt texts by labels ann and bob: give --label" in without.err
    refused = chargen("sample", run.directory, "--label", "carl")
    assert refused.code == 2
    assert "'ann', 'bob'" in refused.err
    assert json.loads(chargen("info", run.directory, "--json").out)["vocabulary"]["labels"] == [
        "ann",
        "bob",
    ]


def test_a_run_goes_on(run: package.Run) -> None:
    assert package.resume(run.directory, steps=402).steps == 402


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("text,who\na b c,x\n", {"label_column": "author"}, "no column 'author'.*'text', 'who'"),
        ("text,who\na b c,\n", {"label_column": "who"}, "no row has a label"),
        ("text,who\na b c,x\n", {"label_column": "text"}, "text and label would both be read"),
        ('{"who": "x", "text": "a b c"}', {"label_column": "text"}, "would both be read from 'te"),
        (
            "text,who\n" + "".join(f"a,{n}\n" for n in range(MOST_LABELS + 1)),
            {"label_column": "who"},
            "more than 1,000 different labels",
        ),
    ],
)
@pytest.mark.parametrize("level", ["char", "byte"])
def test_columns_that_hold_no_labels(
    tmp_path: Path, text: str, options: dict[str, str], told: str, level: str
) -> None:
    path = tmp_path / ("t.jsonl" if text.startswith("{") else "t.csv")
    path.write_text(text)
    with pytest.raises((CorpusError, VocabularyError), match=told):
        load_corpus([str(path)], CorpusConfig(level=level, **options), min_characters=1)


@pytest.mark.parametrize("level", ["char", "byte"])
def test_labels_that_may_be_none_are_noted(tmp_path: Path, level: str) -> None:
    path = tmp_path / "t.csv"

    def notes(labels: str) -> str:
        path.write_text("text,who\n" + "".join(f"a b c,{label}\n" for label in labels.split()))
        config = CorpusConfig(label_column="who", level=level)
        return "; ".join(load_corpus([str(path)], config, min_characters=1).notes)

    assert "t.csv: labels that differ only in case or blanks: 'Ann' and 'ann'" in notes("ann Ann x")
    assert "t.csv: each of the 4 labels occurs once: are they labels?" in notes("1 2 3 4")
    assert notes("1 2 3 3") == notes("ann bob") == ""


def test_memorization_counts_no_label(chargen: Command, run: Any, tmp_path: Path) -> None:
    lines = [f"{label},{body}" for label, body in rows(6)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["author,body", *lines, ""]), "utf-8")
    asked = ("memorization", run.directory, path, "--text-column", "body")
    sizes = ("--context", 5, "--length", 4, "--show", 3)
    found = json.loads(chargen(*asked, *sizes, "--json").out)
    bodies = [body for _, body in rows(6)]
    for one in found["longest"]:
        text = one["text"].strip("\ufffd")  # bytes may begin and end within a character
        assert any(text in body for body in bodies)
        assert one["characters"] >= len(text)
    refused = chargen(*asked, "--length", 20, "--context", 1)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "give a smaller --length or --context" in refused.err


def test_what_labels_do_not_go_with(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--documents must be 'rows'"):
        CorpusConfig(label_column="author", documents="lines")
    path = table(tmp_path / "t.csv", rows())
    with pytest.raises(ConfigError, match="--label-column: .* backward"):
        package.train(path, tmp_path / "out", steps=1, direction="backward", **READING, **SMALL)
    with pytest.raises(ConfigError, match="--label-column needs"):
        package.train(texts=["a" * 99], out=tmp_path / "out", steps=1, label_column="a", **SMALL)
    with pytest.raises(ConfigError, match="vocabulary was made without labels"):
        load_corpus([str(path)], CorpusConfig(**READING), vocabulary=CharVocabulary("a", True))
    with pytest.raises(VocabularyError, match="trained without labels"):
        CharVocabulary("a", True).label_symbol("ann")


LABELS = [f"label {number}" for number in range(MOST_LABELS)]


@pytest.mark.parametrize(
    "vocabulary",
    [CharVocabulary("a\u00e9\u732b", True, labels=LABELS), ByteVocabulary(True, LABELS)],
    ids=["char", "byte"],
)
def test_every_label_is_a_symbol_that_is_no_text(vocabulary: Any) -> None:
    again = vocabulary_from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert again == vocabulary
    stream = "".join(vocabulary.label_symbol(one) + "a\u00e9\u732b" + SEPARATOR for one in LABELS)
    ids = again.encode(stream)
    assert again.decode(ids) == "a\u00e9\u732b\n" * len(LABELS)
    assert again.count_characters(ids) == 4 * len(LABELS)
    assert ids[ids >= again.first_label_id].tolist() == list(
        range(again.first_label_id, again.size)
    )
    assert set(again.never_sampled) >= set(range(again.first_label_id, again.size))
    prompt, _ = again.encode_prompt(stream[:4])
    assert (prompt < again.first_label_id).all()
    assert math.isfinite(prompt.sum())


@pytest.mark.parametrize("labels", ["ann", [""], ["a", "a"], [1], None, [*LABELS, "more"]])
@pytest.mark.parametrize("level", ["char", "byte"])
def test_what_are_no_labels(labels: Any, level: str) -> None:
    whole = CharVocabulary("a", True) if level == "char" else ByteVocabulary(True)
    with pytest.raises(VocabularyError, match="'labels'"):
        vocabulary_from_json({**whole.to_json(), "labels": labels})
    with pytest.raises(VocabularyError, match="kept apart"):
        ByteVocabulary(False, ["ann"])
