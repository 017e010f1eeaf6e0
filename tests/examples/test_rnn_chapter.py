"""The scripts of the chapter on recurrent networks, run as a reader runs them."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from chargen.errors import CorpusError
from chargen.text.config import CorpusConfig
from chargen.text.sources import read_all

from .running import EXAMPLES, run

UNROLLED = "rnn_chapter/unrolled_rnn.py"
GRADIENTS = "rnn_chapter/gradients.py"
CELLS = "rnn_chapter/cells.py"
PACKING = "rnn_chapter/padding_packing.py"
TRUNCATED = "rnn_chapter/truncated_bptt.py"
TEXT_RNN = "rnn_chapter/text_rnn.py"
TEXT_GRU = "rnn_chapter/text_gru.py"
REVIEWS = "rnn_chapter/review_lstm.py"
POSTS = "rnn_chapter/post_bilstm.py"
VECTORS = "rnn_chapter/word_vectors.py"


@pytest.mark.parametrize(("steps", "seed"), [(1, 0), (12, 0), (40, 3)])
def test_three_computations_of_one_network_agree(steps: int, seed: int) -> None:
    done = run(UNROLLED, "--steps", str(steps), "--seed", str(seed))
    differences = [float(found) for found in re.findall(r"  (\d\.\de[+-]\d\d)$", done.stdout, re.M)]
    assert len(differences) == 5  # torch, chargen; W, U, b
    assert max(differences) < 1e-6


def test_gradients_vanish_with_small_recurrent_weights(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra chargen[plot]")
    picture = tmp_path / "norms.svg"
    done = run(GRADIENTS, "--steps", "20", "--trials", "2", "--plot", str(picture))
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert len(rows) == 9  # three cells, three scales
    assert all(abs(float(row[2]) - 1) < 0.01 for row in rows)  # at distance 0 it is g itself
    small = {row[0]: float(row[6]) for row in rows if row[1] == "0.5"}
    assert small["rnn"] < 1e-3
    assert all(float(row[8]) <= 1.0 for row in rows)
    drawn = picture.read_text("utf-8")
    assert all(name in drawn for name in ("RNN", "LSTM", "GRU", "scale 0.5", "scale 2"))


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        (GRADIENTS, ["--steps", "1"], "must be a whole number of at least 2, got 1"),
        (GRADIENTS, ["--clip", "nan"], "must be a number above 0, got nan"),
        (GRADIENTS, ["--plot", "norms.gif"], "name a .png, .svg or .pdf file"),
        (CELLS, ["essays", "--steps", "1"], "must be a whole number of at least 2, got 1"),
        (UNROLLED, ["--hidden", "x"], "must be a whole number of at least 1, got x"),
    ],
)
def test_mistakes_end_in_a_sentence(script: str, arguments: list[str], sentence: str) -> None:
    assert run(script, *arguments, code=2).stderr.rstrip().endswith(sentence)


@pytest.mark.parametrize("script", [CELLS, PACKING, TRUNCATED])
def test_texts_that_are_not_there_are_named(script: str) -> None:
    said = run(script, "no-such-file", code=1).stderr
    assert said == f"{Path(script).name}: no-such-file does not exist\n"


def test_a_picture_without_matplotlib_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run(GRADIENTS, "--plot", tmp_path / "norms.png", code=1)
    assert done.stderr.endswith("--plot needs the extra: pip install 'chargen[plot]'\n")
    assert done.stderr.count("\n") == 1


def test_a_reader_who_has_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        assert run(GRADIENTS, "--steps", "2", "--trials", "1", stdout=stream).stderr == ""


def test_cells_are_compared_at_equal_size() -> None:
    budget = ("--steps", "12", "--hidden", "16", "--learning-rates", "0.001", "0.03")
    rows = [line.split() for line in run(CELLS, "essays", *budget).stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == ["lstm", "gru", "rnn"]
    sizes = [int(row[2].replace(",", "")) for row in rows]
    assert max(sizes) < 1.03 * min(sizes)
    assert all(1 < float(row[3]) < 6 for row in rows)  # six bits: all characters alike
    assert {row[4] for row in rows} == {"0.03"}  # twelve steps at 0.001 learn next to nothing
    assert rows[0][5] == "1.00"
    assert all(float(row[5]) > 0 for row in rows)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_padding_sorting_and_packing_agree_and_a_missing_mask_does_not(cell: str) -> None:
    budget = ("--limit", "10", "--batch", "3", "--hidden", "8", "--repeats", "1", "--cell", cell)
    ways, masks = run(PACKING, "opinions", *budget).stdout.split("\n\n")
    rows = [re.split(r"\s\s+", line) for line in ways.splitlines()[1:]]
    waste = [float(row[1].rstrip("%")) for row in rows]
    assert waste[0] > waste[1] > waste[2] == 0
    assert all(float(row[column]) < 1e-5 for row in rows for column in (2, 3))
    assert rows[0][4] == "1.00"
    changes = [re.split(r"\s\s+", line) for line in masks.splitlines()[1:]]
    assert all(float(row[1]) < 1e-5 and row[2] == "0.0%" for row in changes[:2])
    assert all(float(row[1]) > 0.01 for row in changes[2:])


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_truncated_gradients_come_near_the_full_one(cell: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(read_all(["essays"], CorpusConfig())[:12_000], "utf-8")
    budget = ("--steps", "30", "--hidden", "16", "--length", "24", "--cell", cell)
    gradients, texts = run(TRUNCATED, tmp_path / "text.txt", *budget).stdout.split("\n\n")
    rows = [line.split() for line in gradients.splitlines()[2:]]
    assert [row[0] for row in rows] == ["T=1", "T=2", "T=4", "T=8", "T=16", "T=24"]
    for column in (1, 3):  # before and after training
        cosines = [float(row[column]) for row in rows]
        assert 0 < cosines[0] < cosines[2] < cosines[-1] == 1
        assert float(rows[-1][column + 1]) == 1
    bits = [[float(value) for value in line.split()[1:]] for line in texts.splitlines()[2:]]
    assert {carried for carried, _ in bits} == {bits[0][0]}  # however it is cut, it is one text
    assert all(zero > carried for carried, zero in bits[:3])


# ---------------------------------------------------------------- classifiers over words


def epochs(printed: str) -> list[list[float]]:
    """The numbers of the rows that begin with an epoch."""
    rows = [line.split() for line in printed.splitlines() if re.match(r" +\d+ +\d\.\d{3} ", line)]
    assert [row[0] for row in rows] == [str(epoch) for epoch in range(1, len(rows) + 1)]
    return [[float(value) for value in row[1:]] for row in rows]


@pytest.mark.parametrize("script", [TEXT_RNN, TEXT_GRU])
def test_a_network_over_words_learns_the_opinions(script: str) -> None:
    rows = epochs(run(script, "--epochs", "8").stdout)
    assert len(rows) == 8
    assert rows[-1][0] < rows[0][0] - 0.1  # loss
    assert rows[-1][1] > 0.75  # accuracy on training texts
    assert all(0 < row[2] < 1 for row in rows)


def test_the_best_epoch_of_the_lstm_judges_texts() -> None:
    asked = "What a wonderful evening!"
    done = run(REVIEWS, "--epochs", "4", "--hidden", "16", "--labels", "200", "--ask", asked)
    rows = epochs(done.stdout)
    assert len(rows) == 4
    assert rows[-1][0] < rows[0][0]
    *_, test, verdict = done.stdout.splitlines()
    assert re.fullmatch(r"test: loss \d\.\d{3}, accuracy 0\.\d{3}", test)
    found = re.fullmatch(r"(neg|pos) (\d\.\d\d)  (.*)", verdict)
    assert found is not None
    assert 0.5 <= float(found[2]) <= 1
    assert found[3] == asked


def test_word_vectors_by_counting_are_read_for_the_opinions(tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    done = run(VECTORS, "opinions", str(vectors), "--size", "10", "--min-count", "2")
    assert done.stderr == ""
    assert re.match(r"\d+ words of 240 texts -> ", done.stdout)
    rows = epochs(run(POSTS, "--vectors", str(vectors), "--epochs", "3", "--hidden", "8").stdout)
    assert len(rows) == 3
    assert all(0 < value < 1 for row in rows for value in row[1:])


@pytest.fixture
def chapter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a script of the chapter."""
    monkeypatch.syspath_prepend(EXAMPLES / "rnn_chapter")
    yield importlib.import_module
    for name in ("words", "text_rnn", "post_bilstm"):
        sys.modules.pop(name, None)


def test_vectors_tell_what_words_mean_that_no_training_text_has(
    chapter: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kinds = {"good": ("fine", "grand", "lovely", "sweet"), "bad": ("dull", "grim", "poor", "vile")}
    for name, words in (("train", slice(2)), ("test", slice(2, 4))):
        rows = [f"it was {word},{label}" for label, own in kinds.items() for word in own[words]]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows * 20]))
    vectors = tmp_path / "vectors.txt"
    numbers = {"good": "1 0 0", "bad": "0 1 0"}
    lines = [f"{word} {numbers[label]}" for label, own in kinds.items() for word in own]
    vectors.write_text("\n".join(["it 0 0 1", "was 0 0 1", *lines]))
    tables = (str(tmp_path / "train.csv"), "--test", str(tmp_path / "test.csv"))
    options = ("--vectors", str(vectors), "--epochs", "12", "--hidden", "8")
    monkeypatch.setattr(sys, "argv", [POSTS, *tables, *options])
    chapter("post_bilstm").main()
    printed = capsys.readouterr().out
    assert "has 10 of 10 words" in printed
    assert epochs(printed)[-1][1:] == [1, 1]


@pytest.mark.parametrize("header", ["", "4 2\n"])
def test_files_of_glove_and_word2vec(chapter: Any, tmp_path: Path, header: str) -> None:
    path = tmp_path / "v.txt"
    path.write_text(header + "the 3 4\n. . . 5 6\nfilm 0 -5 \nfilm 9 9\n")
    vocabulary, vectors = chapter("post_bilstm").read_vectors(str(path), {"film", "the", "absent"})
    assert vocabulary.encode("the film, absent") == [2, 3, 1, 1]
    expected = torch.tensor([[0.0, 0], [0, 0], [3, 4], [0, -5]])
    torch.testing.assert_close(vectors, expected / vectors.new_tensor(12.5).sqrt())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "none of the 1 words"),
        ("the 1 2\n", "none of the 1 words"),
        ("film\n", "line 1: this is no word with its numbers"),
        ("1 0\nfilm 1\n", "line 1: this is no word with its numbers"),
        ("the 1 2\nfilm 1\n", "line 2: this is no word with its numbers"),
        ("the 1 2\nfilm 1 x\n", "line 2: 'x' is not a number"),
        ("the 1 2\nfilm nan 1\n", "line 2: 'nan' is not a number"),
        ("the 1 2\nfilm 1 inf\n", "line 2: 'inf' is not a number"),
    ],
)
def test_vectors_that_are_broken_are_named(
    chapter: Any, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "v.txt"
    path.write_text(text)
    with pytest.raises(CorpusError, match=f"v.txt.*{said}"):
        chapter("post_bilstm").read_vectors(str(path), {"film"})


def test_words_are_cut_numbered_and_padded(chapter: Any) -> None:
    words = chapter("words")
    assert words.tokenise("Don\u2019t go, Bob!") == ["don't", "go", ",", "bob", "!"]
    vocabulary = words.Vocabulary.from_texts(["b a", "a b a", "rare"])
    assert vocabulary.numbers == {"a": 2, "b": 3}
    assert vocabulary.encode("A rare b", max_words=2) == [words.UNKNOWN, 3]
    assert vocabulary.encode("") == [words.UNKNOWN]
    ids, lengths = words.pad([[2], [3, 2, 3]])
    assert ids.tolist() == [[2, 3], [words.PAD, 2], [words.PAD, 3]]
    assert lengths.tolist() == [1, 3]


@pytest.mark.parametrize("count", [1, 2, 3, 33])
def test_batches_have_each_text_once_and_enough_of_them(chapter: Any, count: int) -> None:
    texts = [[2 + i] for i in range(count)]
    encoded = chapter("words").Encoded(texts, torch.arange(count))
    batches = list(encoded.batches(2, shuffled=True))
    assert all(len(targets) >= min(2, count) for _, _, targets in batches)
    assert sorted(int(i) for _, _, targets in batches for i in targets) == list(range(count))
    assert all((ids[0] == targets + 2).all() for ids, _, targets in batches)


@pytest.mark.parametrize("name", ["text_rnn.RNNClassifier", "post_bilstm.BiLSTMClassifier"])
@torch.no_grad()
def test_a_verdict_does_not_depend_on_the_batch(chapter: Any, name: str) -> None:
    script, network = name.split(".")
    torch.manual_seed(0)
    sizes = (torch.randn(9, 4), False, 5, 3) if script == "post_bilstm" else (9, 4, 5, 3)
    model = getattr(chapter(script), network)(*sizes).eval()
    texts = [[2, 3, 4, 5], [6], [7, 8, 2]]
    pad = chapter("words").pad
    alone = torch.cat([model(*pad([text])) for text in texts])
    torch.testing.assert_close(model(*pad(texts)), alone)
