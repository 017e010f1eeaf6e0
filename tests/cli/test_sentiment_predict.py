"""`chargen sentiment predict`, and the group of commands."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..sentiment.models import save_classifier, tiny_classifier
from .conftest import Command

PREDICT = ("sentiment", "predict")


@pytest.fixture(scope="module")
def mood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that nobody trained."""
    return save_classifier(tiny_classifier(), tmp_path_factory.mktemp("mood") / "mood")


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text('id,review\n1,"a good, long film"\n2,bad\n')
    return path


class TestTexts:
    def test_a_line_for_each(self, chargen: Command, mood: Path) -> None:
        result = chargen(*PREDICT, mood, "a quiet,\nwonderful film.", "bad", "word " * 400)
        assert result.code == 0
        first, second, third = result.out.splitlines()
        assert first.split("  ")[2] == "a quiet, wonderful film."
        assert first[:3] in ("neg", "pos")
        assert 0.5 <= float(second.split("  ")[1]) <= 1
        assert third.endswith("…")
        assert len(third) <= 80
        assert result.err == ""

    def test_objects(self, chargen: Command, mood: Path) -> None:
        result = chargen(*PREDICT, mood, "a quiet film", "so\nso", "--json")
        found = [json.loads(line) for line in result.out.splitlines()]
        assert [one["text"] for one in found] == ["a quiet film", "so\nso"]
        expected = tiny_classifier().predict_proba(["a quiet film", "so\nso"])
        for one, row in zip(found, expected, strict=True):
            assert one.keys() == {"text", "label", "probabilities"}
            assert list(one["probabilities"]) == ["neg", "pos"]
            assert list(one["probabilities"].values()) == pytest.approx(row, abs=1e-5)
            assert sum(one["probabilities"].values()) == pytest.approx(1)
            assert one["label"] == max(one["probabilities"], key=one["probabilities"].get)

    def test_empty_texts_are_named_and_the_rest_predicted(
        self, chargen: Command, mood: Path
    ) -> None:
        result = chargen(*PREDICT, mood, "good", "  ", "bad", "--json")
        assert result.code == 1
        found = [json.loads(line) for line in result.out.splitlines()]
        assert [one["label"] is None for one in found] == [False, True, False]
        assert "no prediction for 1 of 3 texts" in result.err
        assert "text 2 has no text" in result.err

    def test_nothing_drives_the_terminal(self, chargen: Command, mood: Path) -> None:
        result = chargen(*PREDICT, mood, "a \x1b]0;owned\x07 film \x9b31m")
        assert "\x1b" not in result.out + result.err
        assert "\x07" not in result.out + result.err
        assert "\\x1b" in result.out
        assert "\\x1b" in result.err

    def test_unknown_characters_cost_a_note(self, chargen: Command, mood: Path) -> None:
        result = chargen(*PREDICT, mood, "film 猫 and 猫 犬", "good")
        assert result.code == 0
        assert result.err.strip().endswith(": 猫 犬")
        assert chargen(*PREDICT, mood, "film 猫", "--quiet").err == ""
        many = chargen(*PREDICT, mood, "".join(map(chr, range(0x4E00, 0x4F00))))
        assert many.err.strip().endswith("...")
        assert len(many.err) < 200

    def test_a_very_long_text(self, chargen: Command, mood: Path, tmp_path: Path) -> None:
        path = tmp_path / "t.txt"
        path.write_text("word " * 20_000 + "\nshort\n")
        found = list(csv.reader(io.StringIO(chargen(*PREDICT, mood, "--input", path).out)))
        assert len(found[1][0]) == 100_000
        assert found[1][1]


class TestTextsThatLookLikeSomethingElse:
    @pytest.mark.parametrize("text", ["-bad film", "- a list of faults", "-5", "--too long a dash"])
    def test_an_option(self, chargen: Command, mood: Path, text: str) -> None:
        result = chargen(*PREDICT, mood, "good", text)
        assert result.code == 2
        assert f"begins with -: chargen sentiment predict DIR -- {text!r}" in result.err
        result = chargen(*PREDICT, mood, "--", "good", text)
        assert result.code == 0
        assert result.out.splitlines()[1].endswith(text)

    def test_an_option_that_is_misspelt(self, chargen: Command, mood: Path) -> None:
        result = chargen(*PREDICT, mood, "good", "--jsn")
        assert result.code == 2
        assert "begins with -" not in result.err

    def test_long_texts_are_no_names(self, chargen: Command, mood: Path) -> None:
        assert chargen(*PREDICT, mood, "long/" * 2000).code == 0


class TestLabelsThatAreNotLikely:
    def test_lines_and_objects(self, chargen: Command, mood: Path) -> None:
        texts = ("a good film", "bad")
        common = (*PREDICT, mood, *texts, "--threshold", 1)
        result = chargen(*common)
        assert [line.split()[0] for line in result.out.splitlines()] == ["unsure"] * 2
        assert result.code == 0
        assert "2 of 2 texts are 'unsure': no label reaches 1" in result.err
        found = chargen(*common, "--otherwise", "hm", "--json").out.splitlines()
        assert [json.loads(line)["label"] for line in found] == ["hm"] * 2
        sure = chargen(*PREDICT, mood, *texts, "--threshold", 0.01)
        assert "0 of 2 texts" in sure.err
        plain = chargen(*PREDICT, mood, *texts).out
        assert sure.out.split() == plain.split()
        # The column of labels has room for the word.
        assert sure.out.index("0.") == len("unsure  ")

    def test_tables(self, chargen: Command, mood: Path, reviews: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.csv"
        asked = ("--input", reviews, "--output", out, "--threshold", 1, "--otherwise", "hm")
        result = chargen(*PREDICT, mood, *asked)
        assert "2 of 2 rows are 'hm'" in result.err
        found = list(csv.DictReader(out.open()))
        assert [row["predicted"] for row in found] == ["hm", "hm"]
        assert all(0 < float(row["p_pos"]) < 1 for row in found)


class TestLines:
    def test_stdin(self, chargen: Command, mood: Path) -> None:
        result = chargen(*PREDICT, mood, "--json", stdin=b"one\r\n\ntwo\nthree")
        assert result.code == 1
        found = [json.loads(line) for line in result.out.splitlines()]
        assert [one["text"] for one in found] == ["one", "", "two", "three"]
        assert "text 2 has no text" in result.err

    def test_bytes_that_are_not_text(self, chargen: Command, mood: Path) -> None:
        result = chargen(*PREDICT, mood, "-", stdin=b"caf\xe9\n")
        assert result.code == 1
        assert "standard input is not utf-8" in result.err
        result = chargen(*PREDICT, mood, "--encoding", "latin-1", stdin=b"caf\xe9\n")
        assert result.out.strip().endswith("café")
        arguments = (*PREDICT, mood, "--encoding", "latin-1")
        assert "probably cp1252" in chargen(*arguments, stdin=b"\x93good\x94\n").err
        assert chargen(*arguments, "--quiet", stdin=b"\x93good\x94\n").err == ""

    def test_no_lines(self, chargen: Command, mood: Path) -> None:
        result = chargen(*PREDICT, mood)
        assert (result.code, result.out, result.err) == (0, "", "")

    def test_answers_come_while_more_may_follow_and_nobody_need_wait_for_all(
        self, mood: Path
    ) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "chargen", *PREDICT, str(mood)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdin.write("a good film\nba")
            process.stdin.flush()
            assert process.stdout.readline().endswith("a good film\n")
            process.stdin.write("d\n")
            process.stdin.flush()
            assert process.stdout.readline().endswith("  bad\n")
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write("a good film\n" * 20_000)
                process.stdin.close()
            assert process.stderr.read() == ""
        assert process.returncode == 0


class TestTables:
    def test_to_a_file(self, chargen: Command, mood: Path, reviews: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.jsonl.gz"
        command = (*PREDICT, mood, "--input", reviews, "--output", out)
        result = chargen(*command)
        assert (result.code, result.out, result.err) == (0, "", "")
        found = [json.loads(line) for line in gzip.decompress(out.read_bytes()).splitlines()]
        assert found[0].keys() == {"id", "review", "predicted", "p_neg", "p_pos"}
        assert found[0]["review"] == "a good, long film"
        again = chargen(*command)
        assert again.code == 2
        assert "exists: choose another --output, or give --force" in again.err
        assert chargen(*command, "--force").code == 0

    def test_to_stdout_in_the_format_of_the_input(
        self, chargen: Command, mood: Path, reviews: Path, tmp_path: Path
    ) -> None:
        out = chargen(*PREDICT, mood, "--input", reviews).out
        assert out.startswith('id,review,predicted,p_neg,p_pos\n1,"a good, long film",')
        assert chargen(*PREDICT, mood, "--input", reviews, "--output", "-").out == out
        lines = tmp_path / "lines.txt"
        lines.write_text("good\nbad\n")
        assert chargen(*PREDICT, mood, "--input", lines).out.startswith("text,predicted,")

    def test_of_any_dialect(self, chargen: Command, mood: Path, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes("id;text\r\n1;good, or so\r\n".encode("utf-8-sig"))
        result = chargen(*PREDICT, mood, "--input", path)
        assert result.out.startswith("id;text;predicted;p_neg;p_pos\n1;good, or so;")
        assert "separated by ';'" in result.err
        path = tmp_path / "t.json"
        path.write_text('[{"text": "good"},\n{"text": "bad"}]')
        found = json.loads(chargen(*PREDICT, mood, "--input", path).out)
        assert [row["text"] for row in found] == ["good", "bad"]
        out = tmp_path / "out.json"
        assert chargen(*PREDICT, mood, "--input", path, "--output", out).code == 0
        assert json.loads(out.read_text()) == found
        path.write_text("plain\ntext\n")
        result = chargen(*PREDICT, mood, "--input", path)
        assert (result.code, result.out) == (1, "")
        assert "t.json, line 1 is not JSON" in result.err

    def test_objects(self, chargen: Command, mood: Path, reviews: Path) -> None:
        out = chargen(*PREDICT, mood, "--input", reviews, "--json").out
        assert [json.loads(line)["text"] for line in out.splitlines()] == [
            "a good, long film",
            "bad",
        ]

    def test_rows_without_prediction(self, chargen: Command, mood: Path, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text("text,n\ngood,1\n" + ",2\n" * 12 + "bad,3\n")
        result = chargen(*PREDICT, mood, "--input", path)
        assert result.code == 1
        assert len(result.out.splitlines()) == 15
        head, *named, more = result.err.splitlines()
        assert head == "chargen: no prediction for 12 of 14 rows:"
        assert len(named) == 10
        assert named[0].endswith("t.csv, line 3 has no text")
        assert more == "  and 2 more"

    def test_encodings(self, chargen: Command, mood: Path, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text("text\nété\n", encoding="utf-16")
        result = chargen(*PREDICT, mood, "--input", path)
        assert "\nété," in result.out
        assert "was read as utf-16" in result.err

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["text", "--input", "IN"], 2, "texts and --input exclude each other"),
            (["--output", "x.csv"], 2, "--output is for the table of --input"),
            (["--text-column", "a"], 2, "--text-column is for the table of --input"),
            (["--input", "IN", "--json", "--output", "x.csv"], 2, "--json prints to stdout"),
            (["--input", "-"], 2, "--input must be a file"),
            (["--input", "."], 2, "--input must be a file, . is a folder"),
            (["--input", "IN", "--output", "x.txt"], 2, "--output must end in"),
            (["--input", "IN", "--output", "no/x.csv"], 2, "no folder"),
            (["--input", "IN", "--text-column", "b"], 1, "'id', 'review'"),
            (["--input", "nowhere.csv"], 1, "nowhere.csv does not exist"),
            (["--input", "IN", "--encoding", "x"], 2, "--encoding must"),
            (["a", "--device", "x"], 2, "--device"),
            (["good", "IN"], 2, "is a file, not a text: read it with --input"),
            (["revews.csv"], 2, "revews.csv looks like the name of a file, but there is no such"),
            (["no/notes.TXT"], 2, "looks like the name of a file, but there is no such file"),
            (["good", "--quoting", "none"], 2, "--quoting is for the table of --input"),
            (["--delimiter", ";"], 2, "--delimiter is for the table of --input"),
            (["--no-header"], 2, "--no-header is for the table of --input"),
            (["--input", "IN", "--no-header"], 1, "its columns are '1', '2'"),
            (["a", "--otherwise", "hm"], 2, "give --threshold P"),
            (["a", "--threshold", "0.9", "--otherwise", "pos"], 2, "'pos' is a label"),
            (["a", "--threshold", "1.5"], 2, "--threshold"),
        ],
    )
    def test_mistakes_are_one_sentence(
        self,
        chargen: Command,
        mood: Path,
        reviews: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
        code: int,
        words: str,
    ) -> None:
        monkeypatch.chdir(reviews.parent)
        given = [str(reviews) if one == "IN" else one for one in arguments]
        result = chargen(*PREDICT, mood, *given)
        assert result.code == code
        assert words in result.err
        assert result.err.count("\n") == 1
        assert result.out == ""


def test_models_of_another_kind(chargen: Command, trained: Path, tmp_path: Path) -> None:
    result = chargen(*PREDICT, trained, "good")
    assert result.code == 1
    assert "a classifier one is needed" in result.err
    assert chargen(*PREDICT, tmp_path / "none", "good").code == 1


def test_help_is_quick() -> None:
    code = (
        "import sys\nfrom chargen.cli.main import main\n"
        "try: main(['sentiment', 'predict', '--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'numpy', 'sklearn', 'matplotlib', 'tqdm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_near_misses_are_suggested(chargen: Command) -> None:
    result = chargen("sentiment", "predikt")
    assert result.code == 2
    assert "predict" in result.err
    assert result.err.lower().count("did you mean") == 1
    shown = chargen("sentiment", "--help").out.split("Commands:")[1]
    assert shown.index("train") < shown.index("predict") < shown.index("evaluate")
