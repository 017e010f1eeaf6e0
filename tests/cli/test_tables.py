"""Scores and embeddings of documents as tables: `chargen score --table`, `--pairs`, `encode`."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.language_model import LanguageModel, load
from chargen.lm.evaluation import log_probs
from tests.pipes import written_once

from .conftest import SMALL, Command

UNKNOWN = "unknown characters are scored as one symbol, which makes the result a little too good\n"
TEXTS = ["the quick brown fox", "jumps, over\nthe dog.\n", "z"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(TEXTS):
        (tmp_path / "texts" / f"{number}.txt").write_text(text, "utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def names(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that keeps lines apart."""
    import chargen as library

    out = tmp_path_factory.mktemp("names") / "names"
    sizes = {"steps": 20, "hidden_size": 16, "batch_size": 4, "window": 16}
    library.train(corpus, out, documents="lines", precision="float32", **sizes)
    return out


def rows_of(path: Path, delimiter: str = ",") -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def total(rows: list[dict[str, Any]], *names: str) -> float:
    return sum(float(row[name]) for row in rows for name in names)


def test_a_row_a_document_a_word_a_character(chargen: Command, trained: Path, folder: Path) -> None:
    texts, lm = folder / "texts", load(trained)
    result = chargen("score", trained, texts, "--table", folder / "d.csv", "--json")
    assert (result.code, result.err) == (0, UNKNOWN)  # the comma
    documents = rows_of(folder / "d.csv")
    for row, text in zip(documents, TEXTS, strict=True):
        score = lm.score(text)
        assert int(row["characters"]) == len(text)
        assert float(row["bits_per_char"]) == pytest.approx(score.bits_per_char, abs=1e-6)
        assert float(row["nats"]) == pytest.approx(score.nats_per_char * len(text), rel=1e-6)
        assert float(row["perplexity"]) == pytest.approx(score.perplexity, rel=1e-6)
    assert [Path(row["source"]).name for row in documents] == ["0.txt", "1.txt", "2.txt"]
    told = json.loads(result.out)
    assert (told["documents"], told["characters"]) == (3, sum(map(len, TEXTS)))
    assert told["bits"] == total(documents, "bits")
    assert chargen("score", trained, texts, "--table", folder / "w.tsv", "--words").code == 0
    assert chargen("score", trained, texts, "--table", folder / "c.csv", "--characters").code == 0
    words, characters = rows_of(folder / "w.tsv", "\t"), rows_of(folder / "c.csv")
    assert [row["text"] for row in words] == " ".join(TEXTS).split()
    assert [row["text"] for row in characters] == list("".join(TEXTS))
    for row in documents:
        of_it = [w for w in words if w["document"] == row["document"]]
        assert total(of_it, "bits", "end_bits", "space_bits") == float(row["bits"])
        of_it = [c for c in characters if c["document"] == row["document"]]
        assert total(of_it, "bits") == float(row["bits"])


def test_documents_end_where_the_model_keeps_them_apart(
    chargen: Command, names: Path, trained: Path, folder: Path
) -> None:
    (folder / "lines.txt").write_text("the fox\n\nthe dog\n")
    lm = load(names)
    asked = ("score", names, folder / "lines.txt", "--table", folder / "lines.csv", "--json")
    assert chargen(*asked).code == 0
    rows = rows_of(folder / "lines.csv")
    assert [int(row["characters"]) for row in rows] == [len("the fox") + 1, len("the dog") + 1]
    for row, text in zip(rows, ("the fox", "the dog"), strict=True):
        assert float(row["bits_per_char"]) == pytest.approx(lm.score(text).bits_per_char, abs=1e-6)
    asked = ("score", trained, folder / "lines.txt", "--table", folder / "lines.csv", "--force")
    assert chargen(*asked).out.startswith("1 document, 17 characters, ")
    assert chargen(*asked, "--documents", "lines").out.startswith("2 documents, 14 characters, ")
    for command in (asked, ("encode", trained, asked[2], "--output", folder / "out.npy")):
        refused = chargen(*command, "--documents", "line")
        assert (refused.code, refused.out) == (1, "")
        assert "--documents 'line': no line of" in refused.err
    assert not (folder / "out.npy").exists()


def test_a_backward_model_ends_documents_at_their_beginning(
    chargen: Command, corpus: Path, folder: Path
) -> None:
    import chargen as library

    sizes = {"steps": 20, "hidden_size": 16, "batch_size": 4, "window": 16}
    reading = {"documents": "lines", "direction": "backward"}
    library.train(corpus, folder / "names", precision="float32", **reading, **sizes)
    lm, texts = load(folder / "names"), ["the fox", "over the dog"]
    (folder / "lines.txt").write_text("\n".join(texts))
    asked = ("score", folder / "names", folder / "lines.txt", "--table", folder / "lines.csv")
    assert chargen(*asked).code == 0
    for row, text in zip(rows_of(folder / "lines.csv"), texts, strict=True):
        ids = np.append(lm.vocabulary.encode(text)[::-1], lm.vocabulary.separator_id)
        nats = -log_probs(lm.model, ids, lm.vocabulary.start_id).sum()
        assert float(row["nats"]) == pytest.approx(nats, rel=1e-5)


def test_pairs(chargen: Command, trained: Path, folder: Path) -> None:
    pairs = folder / "pairs.tsv"
    pairs.write_text(
        "good\tbad\nthe quick brown fox\tthe qiuck brown fox\nover the dog\tover teh dog\n"
        '"zz ""q"""\tthe quick brown fox jumps over the lazy dog.\n'
    )
    result = chargen("score", trained, "--pairs", pairs, "--table", folder / "out.csv")
    assert result.out == "good is likelier than bad in 2 of 3 pairs (66.7%)\n"
    rows = rows_of(folder / "out.csv")
    assert [row["first_is_likelier"] for row in rows] == ["1", "1", "0"]
    assert rows[2]["first"] == 'zz "q"'
    score = load(trained).score("over teh dog")
    assert float(rows[1]["second_bits"]) == pytest.approx(
        score.nats_per_char * len(score.text) / math.log(2), rel=1e-6
    )
    told = json.loads(chargen("score", trained, "--pairs", pairs, "--json").out)
    assert told == {"columns": ["good", "bad"], "pairs": 3, "accuracy": pytest.approx(2 / 3)}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pairs_from_a_pipe(chargen: Command, trained: Path, folder: Path) -> None:
    pipe = folder / "pairs.tsv"
    with written_once(pipe, "a\tb\nthe dog\tteh dog\n"):
        result = chargen("score", trained, "--pairs", pipe)
    assert result.out.endswith("in 1 of 1 pair (100.0%)\n")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a\tb\tc\n1\t2\t3\n", "pairs.tsv has 'a', 'b', 'c'"),
        ("a\tb\n", "has no pairs"),
        ("a\ta\nx\ty\n", "pairs.tsv has 'a', 'a'"),
        ("a\tb\nx\ty\nx\t\n", "line 3: a text of the pair is empty"),
        ("a\tb\nx\n", "line 2 has 1 field"),
    ],
)
def test_pairs_that_are_none(
    chargen: Command, trained: Path, folder: Path, content: str, told: str
) -> None:
    (folder / "pairs.tsv").write_text(content)
    result = chargen(
        "score", trained, "--pairs", folder / "pairs.tsv", "--table", folder / "out.csv"
    )
    assert result.code in (1, 2)
    assert told in result.err
    assert result.err.count("\n") == 1
    assert not (folder / "out.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "give either FILE or --pairs"),
        ("TEXTS --pairs p.tsv", "give either FILE or --pairs"),
        ("TEXTS --words", "give --table"),
        ("--pairs p.tsv --words --table a.csv", "for the text of FILE: leave --pairs out"),
        ("--pairs p.tsv --text-column a", "both columns as texts: leave --text-column out"),
        ("--pairs p.tsv --clean html", "texts as in training: leave --clean out"),
        ("--pairs p.tsv --normalize NFC", "texts as in training: leave --normalize out"),
        ("--pairs p.tsv --label-column a", "both columns as texts: leave --label-column out"),
        ("TEXTS --text-column a", "--text-column needs .csv"),
        ("TEXTS --table a.csv --quoting none", "--quoting needs .csv"),
        ("TEXTS --documents files", "give --table"),
        ("TEXTS --table a.csv --words --characters", "give one of them"),
        ("TEXTS --table a.csv --html a.html", "leave --table and --pairs out"),
        ("TEXTS --table a.xlsx", "must end in .csv or .tsv"),
        ("--pairs TEXTS/0.txt", "needs a .csv or .tsv file"),
    ],
)
def test_options_that_do_not_go_together(
    chargen: Command,
    trained: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    told: str,
) -> None:
    monkeypatch.chdir(folder)
    result = chargen("score", trained, *arguments.replace("TEXTS", "texts").split())
    assert (result.code, result.out) == (2, "")
    assert told in result.err
    assert [path.name for path in folder.iterdir()] == ["texts"]


def test_encode(chargen: Command, trained: Path, folder: Path) -> None:
    asked = ("encode", trained, folder / "texts", "--output")
    result = chargen(*asked, folder / "a.npy", "--json")
    assert json.loads(result.out)["numbers"] == 3 * int(SMALL[1])
    found = np.load(folder / "a.npy", allow_pickle=False)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, load(trained).encode(TEXTS))
    result = chargen(*asked, folder / "a.csv")
    said = "note: unknown characters are read as one symbol\n3 documents of 96 numbers each\n"
    assert result.err == said
    rows = rows_of(folder / "a.csv")
    table = [[float(v) for k, v in row.items() if k not in ("document", "source")] for row in rows]
    np.testing.assert_array_equal(np.array(table, np.float32), found)
    assert list(rows[0])[2:4] == ["last_0", "last_1"]
    refused = chargen(*asked, folder / "a.npy")
    assert refused.code == 2
    assert "--force" in refused.err
    assert "must end in .npy, .csv or .tsv" in chargen(*asked, folder / "a.txt").err


def test_a_marker_that_never_occurs(chargen: Command, trained: Path, folder: Path) -> None:
    for asked in (("score", "--table"), ("encode", "--output")):
        command, option = asked
        output = folder / "out.csv"
        files = (folder / "texts", option, output)
        result = chargen(command, trained, *files, "--documents", "line")
        assert (result.code, result.out) == (1, "")
        assert "--documents 'line': no line of " in result.err
        assert "did you mean lines?" in result.err
        assert not output.exists()
        # One of several files is enough.
        assert chargen(command, trained, *files, "--documents", "z").code == 0
        output.unlink()


def test_the_precision_of_vectors(chargen: Command, trained: Path, folder: Path) -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        out = folder / f"{precision}.npy"
        asked = ("encode", trained, folder / "texts", "--output", out, "--precision", precision)
        assert chargen(*asked).code == 0
        found.append(np.load(out))
    assert found[1].dtype == np.float32
    assert 0 < np.abs(found[0] - found[1]).max() < 0.1


def test_how_a_table_was_read_is_noted(chargen: Command, trained: Path, folder: Path) -> None:
    table, out = folder / "t.csv", folder / "out.csv"
    table.write_text("text;label\nthe fox;a\nthe dog;b\n")
    separated = f"note: {table}: its fields are separated by ';'\n"
    for asked in (("evaluate",), ("score", "--table", out), ("encode", "--output", out, "--force")):
        command, *options = asked
        result = chargen(command, trained, table, *options)
        assert (result.code, separated in result.err) == (0, True)
        one = (
            f"note: {table} is read as one document (--documents rows makes each row a document)\n"
        )
        assert (one in result.err) == (command != "evaluate")
    result = chargen("score", trained, table, "--table", out, "--force", "--documents", "rows")
    assert result.out.startswith("2 documents, ")
    assert result.err == separated
    (folder / "pairs.tsv").write_text('a\tb\n"the fox\tthe dog\n')
    result = chargen("score", trained, "--pairs", folder / "pairs.tsv")
    quotes = f"note: {folder / 'pairs.tsv'}: quotes are read as part of the text\n"
    assert result.err == quotes + UNKNOWN
    (folder / "comma.txt").write_text("the fox, the dog")
    assert chargen("score", trained, folder / "comma.txt").err == UNKNOWN
    (folder / "stray.csv").write_text('text,label\n"the fox,a\nthe dog",b\n')
    for command in (("evaluate",), ("score",), ("corpus", "info"), ("memorization",)):
        model = () if command[0] == "corpus" else (trained,)
        result = chargen(*command, *model, folder / "stray.csv")
        assert (result.code, result.err.count("\n")) == (1, 1)
        assert "line 2 has a quoted field that ends in line 3" in result.err
    result = chargen("corpus", "info", folder / "stray.csv", "--quoting", "none")
    assert "chargen train" not in result.out  # too short
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_command_leaves_no_half_of_a_table(
    name: str, chargen: Command, trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip("this system has no such signal")
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("the signal is ignored, as it is in the background of a script")
    table, score, seen = folder / "d.csv", LanguageModel.score, []
    table.write_text("older")

    def interrupted(lm: LanguageModel, *arguments: Any, **options: Any) -> Any:
        seen.append([path.name for path in folder.iterdir() if path.name.startswith(".d.csv")])
        if len(seen) == 3:
            signal.raise_signal(number)
        return score(lm, *arguments, **options)

    monkeypatch.setattr(LanguageModel, "score", interrupted)
    before = signal.getsignal(number)
    result = chargen("score", trained, folder / "texts", "--table", table, "--force")
    assert (result.code, result.out) == (128 + number, "")
    assert seen[-1]  # a part had been written
    assert sorted(path.name for path in folder.iterdir()) == ["d.csv", "texts"]
    assert table.read_text() == "older"
    assert signal.getsignal(number) == before
