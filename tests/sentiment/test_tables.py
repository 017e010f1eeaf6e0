"""A table in, the same table out."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from chargen.errors import ConfigError, CorpusError
from chargen.sentiment import tables
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import ExamplesConfig, PredictConfig
from chargen.sentiment.tables import Predictor, predict_table
from chargen.storage.whole_files import atomic_write
from chargen.text import files
from chargen.text.table_writer import free_names, output_format
from chargen.text.tables import Table, open_table

from .models import tiny_classifier

FORMS = ("csv", "tsv", "jsonl", "json")
cells = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=12)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return tiny_classifier()


def opened(path: Path, **options: Any) -> Table:
    return open_table(files.from_path(path), ExamplesConfig(**options), [])


def table_of(tmp_path: Path, name: str, text: str, **options: Any) -> Table:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return opened(path, **options)


def as_text(rows: list[list[str]], form: str) -> str:
    if form in ("jsonl", "json"):
        header, *body = rows
        objects = [dict(zip(header, row, strict=True)) for row in body]
        if form == "json":
            return json.dumps(objects, indent=1)
        return "".join(json.dumps(one) + "\n" for one in objects)
    out = io.StringIO()
    csv.writer(out, delimiter="\t" if form == "tsv" else ",").writerows(rows)
    return out.getvalue()


def as_rows(text: str, form: str) -> list[list[Any]]:
    if form in ("jsonl", "json"):
        lines = text.splitlines() if form == "jsonl" else []
        found = [json.loads(line) for line in lines] or json.loads(text)
        return [list(found[0]), *(list(row.values()) for row in found)]
    delimiter = "\t" if form == "tsv" else ","
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))


def predicted(
    classifier: Classifier, table: Table, form: str, **options: Any
) -> tuple[str, Predictor]:
    out = io.BytesIO()
    predictor = Predictor(classifier, PredictConfig(**options))
    predict_table(predictor, table, out, form)
    return out.getvalue().decode(), predictor


class TestEveryRowAndColumnStays:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("target", FORMS)
    @given(rows=st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
    def test_any_text(
        self,
        classifier: Classifier,
        tmp_path: Path,
        form: str,
        target: str,
        rows: list[tuple[str, str, str]],
    ) -> None:
        if form == "tsv":
            assume(not any("\t" in cell and "\n" in cell for row in rows for cell in row))
        whole = [["a b", "text", ' "c'], *map(list, rows)]
        out, tally = predicted(
            classifier, table_of(tmp_path, f"t.{form}", as_text(whole, form)), target
        )
        found = as_rows(out, target)
        assert [row[:3] for row in found] == whole
        assert found[0][3:] == ["predicted", "p_neg", "p_pos"]
        assert tally.rows == len(rows)
        for row in found[1:]:
            label, *chances = row[3:]
            if row[1].strip() and row[1] not in ("nan", "NaN"):
                assert sum(map(float, chances)) == pytest.approx(1, abs=1e-6)
                assert label == ("neg", "pos")[float(chances[1]) > float(chances[0])]
            else:
                assert [label, *chances] in ([""] * 3, [None] * 3)

    def test_each_row_gets_its_own_verdict(
        self, classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tables, "CHUNK_ROWS", 4)
        monkeypatch.setattr(tables, "CHUNK_CHARACTERS", 60)
        monkeypatch.setattr(tables, "ROWS_PER_WRITE", 2)
        texts = ["x" * (1 + 7 * i % 23) for i in range(1, 24)]
        heard: list[tuple[int, float]] = []
        out = io.BytesIO()
        table = table_of(tmp_path, "t.csv", as_text([["text"], *([t] for t in texts)], "csv"))
        predict_table(Predictor(classifier), table, out, "csv", lambda *now: heard.append(now))
        found = as_rows(out.getvalue().decode(), "csv")[1:]
        expected = [classifier.predict_proba([text])[0] for text in texts]
        chances = np.array([row[2:] for row in found], dtype=float)
        assert np.allclose(chances, expected, atol=1e-5)
        assert heard[-1] == (23, 1.0)
        assert len(heard) > 5

    def test_names_that_are_taken(self, classifier: Classifier, tmp_path: Path) -> None:
        names = ["p_neg", "text", "predicted", "predicted_2", "p_neg"]
        text = ",".join(names) + "\n1,a,b,c,d\n"
        out, _ = predicted(classifier, table_of(tmp_path, "t.csv", text), "csv")
        header, row = as_rows(out, "csv")
        assert header == [*names, "predicted_3", "p_neg_2", "p_pos"]
        assert row[:5] == ["1", "a", "b", "c", "d"]
        out, _ = predicted(classifier, table_of(tmp_path, "t.csv", text), "jsonl")
        assert list(json.loads(out))[:5] == ["p_neg", "text", "predicted", "predicted_2", "p_neg_3"]
        late = '{"text": "a"}\n{"text": "b", "predicted": "mine"}\n'
        out, _ = predicted(classifier, table_of(tmp_path, "t.jsonl", late), "jsonl")
        first, second = map(json.loads, out.splitlines())
        assert list(first) == ["text", "predicted_2", "p_neg", "p_pos"]
        assert second["predicted"] == "mine"

    def test_json_values_stay_what_they_are(self, classifier: Classifier, tmp_path: Path) -> None:
        line = '{"id": 1E2, "text":"a\\u00e9", "x": [1.50, null], "big": 12345678901234567890123}'
        table = table_of(tmp_path, "t.jsonl", f"  {line} \n{{}}\n")
        out, _ = predicted(classifier, table, "jsonl")
        assert out.splitlines()[0].startswith(line[:-1] + ', "predicted": ')
        assert out.splitlines()[1] == '{"predicted": null, "p_neg": null, "p_pos": null}'
        out, _ = predicted(classifier, table, "csv")
        assert as_rows(out, "csv")[1][:4] == [
            "100.0",
            "aé",
            "[1.5, null]",
            "12345678901234567890123",
        ]

    def test_rows_of_json_may_differ(self, classifier: Classifier, tmp_path: Path) -> None:
        text = '{"a": 1, "text": "x"}\n{"text": "y", "b": "\\ud800\\r\\n"}\n'
        table = table_of(tmp_path, "t.jsonl", text)
        out, _ = predicted(classifier, table, "csv")
        header, first, second = as_rows(out, "csv")
        assert header[:3] == ["a", "text", "b"]
        assert first[:3] == ["1", "x", ""]
        assert second[:3] == ["", "y", "\\ud800\n"]

    def test_plain_text(self, classifier: Classifier, tmp_path: Path) -> None:
        table = table_of(tmp_path, "t.txt", 'one\n"two", 2\n\nnan')
        out, tally = predicted(classifier, table, "csv")
        found = as_rows(out, "csv")
        assert [row[0] for row in found] == ["text", "one", '"two", 2', "", "nan"]
        assert tally.failures == 1
        assert found[4][1]


class TestRowsThatCannotBeClassified:
    def test_csv(self, classifier: Classifier, tmp_path: Path) -> None:
        text = (
            "id,text,n\n1,good,x\n2,,x\n3,a,b,c\n4,d\n5,nan,x\n"
            '6,"stray "quote",x\n7,"two\nlines",x\n8,"open,x\n9,fine,x\n'
        )
        table = table_of(tmp_path, "t.csv", text)
        out, tally = predicted(classifier, table, "csv")
        rows = as_rows(out, "csv")
        assert [row[:3] for row in rows[1:]] == [
            ["1", "good", "x"],
            ["2", "", "x"],
            ["3", "a", "b,c"],
            ["4", "d", ""],
            ["5", "nan", "x"],
            ["", '6,"stray "quote",x', ""],
            ["7", "two\nlines", "x"],
            ["", '8,"open,x', ""],
            ["9", "fine", "x"],
        ]
        assert [bool(row[3]) for row in rows[1:]] == [1, 0, 0, 0, 0, 0, 1, 0, 1]
        assert (tally.rows, tally.failures) == (9, 6)
        assert [problem.split("t.csv, ")[1] for problem in tally.problems] == [
            "line 3 has no text",
            "line 4 has 4 fields; the header has 3",
            "line 5 has 2 fields; the header has 3",
            "line 6 has no text",
            "line 7 has a quoted field that continues after its closing quote: write a quote "
            'inside a quoted field as "" (--quoting none reads quotes as part of the text)',
            "line 10 has a quote that is never closed (--quoting none reads quotes as part of the "
            "text)",
        ]
        json_out, _ = predicted(classifier, table, "jsonl")
        assert [list(json.loads(line).values())[:3] for line in json_out.splitlines()] == [
            row[:3] for row in rows[1:]
        ]

    def test_json(self, classifier: Classifier, tmp_path: Path) -> None:
        text = (
            '{"text": "good"}\n{"text": 5}\n{"text": \n[1]\n{"n": 1}\n{"text": null}\n'
            '{"text": NaN}\n{"text": "\\ud800"}\n{"text": "fine"}\n'
        )
        table = table_of(tmp_path, "t.jsonl", text)
        out, tally = predicted(classifier, table, "jsonl")
        found = [json.loads(line) for line in out.splitlines()]
        assert [row.get("predicted") is not None for row in found] == [1, 0, 0, 0, 0, 0, 0, 0, 1]
        assert found[2]["text"] == '{"text": '
        assert found[3]["text"] == "[1]"
        assert "text" not in found[4]
        words = ("int", "not JSON", "list", "no text", "no text", "float", "lone surrogate")
        assert tally.failures == len(words)
        for word, problem, line in zip(words, tally.problems, range(2, 9), strict=True):
            assert word in problem
            assert f"t.jsonl, line {line}" in problem
        replaced = table_of(tmp_path, "t.jsonl", text, errors="replace")
        assert predicted(classifier, replaced, "jsonl")[1].failures == len(words) - 1

    def test_only_the_first_are_named(self, classifier: Classifier, tmp_path: Path) -> None:
        table = table_of(tmp_path, "t.csv", "text,n\n" + ",1\n" * 30)
        _, tally = predicted(classifier, table, "csv")
        assert (tally.failures, len(tally.problems)) == (30, 10)

    def test_texts_that_are_only_markup(self, tmp_path: Path) -> None:
        cleaning = tiny_classifier(clean="html")
        out, tally = predicted(
            cleaning, table_of(tmp_path, "t.csv", "text\n<br />\na<br>b\n"), "csv"
        )
        assert as_rows(out, "csv")[2][0] == "a<br>b"
        assert tally.failures == 1

    def test_unknown_characters(self, classifier: Classifier, tmp_path: Path) -> None:
        table = table_of(tmp_path, "t.csv", "text\naBc\nc猫B & <b>\n")
        assert predicted(classifier, table, "csv")[1].unknown == "B猫&<>"


class TestOfADialect:
    def test_fields_are_separated_as_in_the_source(
        self, classifier: Classifier, tmp_path: Path
    ) -> None:
        table = table_of(tmp_path, "t.csv", "id;text\n1;a, b\n2;c;d\n")
        out, predictor = predicted(classifier, table, "csv")
        found = list(csv.reader(io.StringIO(out), delimiter=";"))
        assert [row[:2] for row in found] == [["id", "text"], ["1", "a, b"], ["2", "c;d"]]
        assert predictor.failures == 1
        out, _ = predicted(classifier, table, "tsv")
        assert out.splitlines()[1].startswith("1\ta, b\t")

    def test_columns_without_names_are_numbered(
        self, classifier: Classifier, tmp_path: Path
    ) -> None:
        text = '1\tgood film\n2\t"stray\n'
        table = table_of(tmp_path, "t.tsv", text, header=False, text_column="2")
        out, _ = predicted(classifier, table, "tsv")
        header, first, second = as_rows(out, "tsv")
        assert header == ["1", "2", "predicted", "p_neg", "p_pos"]
        assert [row[:2] for row in (first, second)] == [["1", "good film"], ["2", '"stray']]

    def test_arrays(self, classifier: Classifier, tmp_path: Path) -> None:
        text = '[\n {"text": "a",\n  "x": 1.50},\n 5\n]'
        out, predictor = predicted(classifier, table_of(tmp_path, "t.json", text), "json")
        assert '"x": 1.50, "predicted": ' in out
        first, second = json.loads(out)
        assert first["predicted"] in ("neg", "pos")
        assert second == {"text": "5", "predicted": None, "p_neg": None, "p_pos": None}
        assert "line 4 is not a JSON object" in predictor.problems[0]
        empty = table_of(tmp_path, "e.csv", "text\n")
        assert json.loads(predicted(classifier, empty, "json")[0]) == []


class TestLabelsThatAreNotLikely:
    @pytest.mark.parametrize("form", FORMS)
    def test_the_word_stands_for_them(
        self, classifier: Classifier, tmp_path: Path, form: str
    ) -> None:
        texts = ["a good film", "bad", "x", "two hours i will never get back"]
        best = classifier.predict_proba(texts).max(-1)
        limit = float(f"{np.sort(best)[2]:.7g}")
        table = table_of(tmp_path, "t.csv", "text\n" + "\n".join(texts))
        out, predictor = predicted(classifier, table, form, threshold=limit, otherwise="hm")
        labels = [row[1] for row in as_rows(out, form)[1:]]
        assert labels == [
            "hm" if float(f"{b:.7g}") < limit else label
            for b, label in zip(best, classifier.predict(texts), strict=True)
        ]
        assert (predictor.unlikely, predictor.failures, predictor.rows) == (2, 0, 4)
        sure, _ = predicted(classifier, table, form)
        assert "hm" not in [row[1] for row in as_rows(sure, form)]

    def test_the_word_is_no_label(self, classifier: Classifier) -> None:
        with pytest.raises(ConfigError, match="--otherwise 'pos' is a label"):
            Predictor(classifier, PredictConfig(threshold=0.9, otherwise="pos"))
        with pytest.raises(ConfigError, match="give --threshold"):
            PredictConfig(otherwise="hm")


class TestFiles:
    @pytest.mark.parametrize(
        ("ending", "unpack"),
        [("", bytes), (".gz", gzip.decompress), (".bz2", bz2.decompress), (".xz", lzma.decompress)],
    )
    def test_compressed(
        self,
        classifier: Classifier,
        tmp_path: Path,
        ending: str,
        unpack: Callable[[bytes], bytes],
    ) -> None:
        table = table_of(tmp_path, "t.csv", "text\na\n")
        out = tmp_path / f"out.tsv{ending}"
        predict_table(Predictor(classifier), table, str(out), output_format(str(out)))
        assert unpack(out.read_bytes()).startswith(b"text\tpredicted\tp_neg\tp_pos\na\t")
        again = opened(out)
        assert predicted(classifier, again, "csv")[1].failures == 0
        assert sorted(one.name for one in tmp_path.iterdir()) == sorted(["t.csv", out.name])

    def test_zstandard(self, classifier: Classifier, tmp_path: Path) -> None:
        pytest.importorskip("zstandard")
        out = tmp_path / "out.jsonl.zst"
        predict_table(
            Predictor(classifier), table_of(tmp_path, "t.csv", "text\na\n"), str(out), "jsonl"
        )
        assert opened(out).columns[0] == "text"

    def test_nothing_is_half_written(self, classifier: Classifier, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes(b"text\n" + b"a\n" * 100 + b"\xff\n")
        out = tmp_path / "out.csv"
        out.write_text("before")
        with pytest.raises(CorpusError, match="not utf-8"):
            predict_table(Predictor(classifier), opened(path), str(out), "csv")
        assert out.read_text() == "before"
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_table_may_replace_itself(self, classifier: Classifier, tmp_path: Path) -> None:
        table = table_of(tmp_path, "t.csv", "text\na\n")
        predict_table(Predictor(classifier), table, str(tmp_path / "t.csv"), "csv")
        assert opened(tmp_path / "t.csv").columns[1] == "predicted"

    def test_links_stay(self, tmp_path: Path) -> None:
        (tmp_path / "real.csv").write_text("x")
        (tmp_path / "link.csv").symlink_to("real.csv")
        with atomic_write(str(tmp_path / "link.csv")) as file:
            file.write(b"new")
        assert (tmp_path / "link.csv").is_symlink()
        assert (tmp_path / "real.csv").read_text() == "new"

    @pytest.mark.parametrize(
        ("name", "form"),
        [("a.csv", "csv"), ("a.TSV.gz", "tsv"), ("a.b.ndjson.zst", "jsonl"), ("a.json", "json")],
    )
    def test_forms(self, name: str, form: str) -> None:
        assert output_format(name) == form

    @pytest.mark.parametrize("name", ["a", "a.txt", "a.gz", "a.csv.zip", ".csv", "a.csv.gz.gz"])
    def test_names_that_tell_no_form(self, name: str) -> None:
        with pytest.raises(ConfigError, match="--output must end in .csv, .tsv, .jsonl or .json"):
            output_format(name)


def test_columns(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no text column .* 'a', 'b': .* --text-column"):
        _ = table_of(tmp_path, "t.csv", "a,b\n1,2\n").text_columns
    assert table_of(tmp_path, "t.csv", "a,b\n1,2\n", text_column="b").text_columns == ["b"]
    with pytest.raises(CorpusError, match="is empty"):
        _ = table_of(tmp_path, "t.csv", "").text_columns


def test_free_names() -> None:
    assert free_names(["a", "a", "b"], ["a", "a_2"]) == ["a_3", "a_4", "b"]


def test_memory_does_not_grow_with_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", 1 << 14)
    monkeypatch.setattr(tables, "CHUNK_ROWS", 64)

    class Blind(Classifier):
        def predict_proba(self, texts: Any, *, cleaned: bool) -> Any:
            return np.full((len(list(texts)), 2), 0.5, np.float32)

    tiny = tiny_classifier()
    blind = Blind(tiny.members, tiny.labels)

    def peak(count: int) -> int:
        table = table_of(tmp_path, "t.csv", "n,text\n" + "1,some words about a film\n" * count)
        tracemalloc.start()
        try:
            predict_table(Predictor(blind), table, str(tmp_path / "out.csv"), "csv")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    # 24 bytes a row are less than a list of texts takes; so many rows, because threads that other
    # tests have left take some 100 KB now and then.
    assert peak(16_000) - peak(1_000) < 24 * 15_000
