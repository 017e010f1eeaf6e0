"""Labelled texts: where they come from, what is refused, how they are split."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.errors import ConfigError, CorpusError
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import Examples, read_examples, read_texts
from chargen.sentiment.splitting import shared_texts_warning, split, subset

PLAIN = ExamplesConfig()


def made(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


def examples_of(labels: list[str], texts: list[str] | None = None) -> Examples:
    texts = [f"text {i}" for i in range(len(labels))] if texts is None else texts
    return Examples(tuple(texts), tuple(labels), tuple(range(2, len(labels) + 2)), "data.csv")


class TestTables:
    @pytest.mark.parametrize("name", ["t.csv", "t.tsv.gz", "t.csv.gz"])
    def test_columns_with_usual_names(self, tmp_path: Path, name: str) -> None:
        between = "\t" if "tsv" in name else ","
        rows = [["id", "Sentiment", "Review"], ["1", "pos", '"two\nlines"'], ["2", "neg", "dull"]]
        path = made(tmp_path, name, "\n".join(between.join(row) for row in rows) + "\n")
        found = read_examples(path, PLAIN)
        assert found.texts == ("two\nlines", "dull")
        assert found.labels == ("pos", "neg")
        assert found.rows == (2, 4)  # lines of the file
        assert found.classes == ("neg", "pos")
        assert found.source == path
        assert found.notes == ()
        assert len(found) == 2

    def test_the_likeliest_name_wins(self, tmp_path: Path) -> None:
        path = made(tmp_path, "t.csv", "rating,label,comment,text\n9,a,no,x\n1,b,no,y\n")
        found = read_examples(path, PLAIN)
        assert (found.texts, found.labels) == (("x", "y"), ("a", "b"))

    def test_columns_that_are_asked_for(self, tmp_path: Path) -> None:
        path = made(tmp_path, "t.csv", "rating,label,comment,text\n9,a,no,x\n1,b,yes,y\n")
        config = ExamplesConfig(text_column="comment", label_column="rating")
        found = read_examples(path, config)
        assert (found.texts, found.labels) == (("no", "yes"), ("9", "1"))
        assert found.classes == ("1", "9")

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            (PLAIN, "no text column .* 'a', 'b': choose one with --text-column"),
            (ExamplesConfig(text_column="a"), "no label column .* 'a', 'b': .* --label-column"),
            (ExamplesConfig(text_column="c"), "no column 'c'; its columns are 'a', 'b'"),
            (ExamplesConfig(text_column="a", label_column="a"), "both be read from 'a'"),
        ],
    )
    @pytest.mark.parametrize(
        ("name", "text"), [("t.csv", "a,b\n1,2\n"), ("t.jsonl", '{"a": "1"}\n{"a": "2", "b": "x"}')]
    )
    def test_columns_that_are_not_there(
        self, tmp_path: Path, name: str, text: str, config: ExamplesConfig, words: str
    ) -> None:
        with pytest.raises(CorpusError, match=words):
            read_examples(made(tmp_path, name, text), config)

    def test_json_labels_are_as_json_writes_them(self, tmp_path: Path) -> None:
        rows = [{"text": "a", "y": y} for y in (10, 2, -1)]
        path = made(tmp_path, "t.jsonl", "\n\n".join(map(json.dumps, rows)))
        found = read_examples(path, PLAIN)
        assert found.labels == ("10", "2", "-1")
        assert found.classes == ("-1", "2", "10")
        assert found.rows == (1, 3, 5)
        rows = [{"text": "a", "y": y} for y in (True, False, 0.5)]
        path = made(tmp_path, "t.jsonl", "\n".join(map(json.dumps, rows)))
        assert read_examples(path, PLAIN).labels == ("true", "false", "0.5")

    def test_a_dialect_of_its_own(self, tmp_path: Path) -> None:
        path = made(tmp_path, "t.csv", "sep=;\r\ntext;label\r\na, b;pos\r\nc;neg\r\n")
        found = read_examples(path, PLAIN)
        assert (found.texts, found.labels) == (("a, b", "c"), ("pos", "neg"))
        assert found.rows == (3, 4)
        path = made(tmp_path, "t.txt", "pos|a\nneg|b\n")
        options = {"header": False, "text_column": "2", "label_column": "1"}
        found = read_examples(path, ExamplesConfig(delimiter="|", **options))
        assert (found.texts, found.labels) == (("a", "b"), ("pos", "neg"))

    def test_following_the_advice_reads_every_row(self, tmp_path: Path) -> None:
        rows = "".join(
            f"film {i}, long{', and so on' * (i % 3)};{'np'[i % 2]}\n" for i in range(120)
        )
        path = made(tmp_path, "t.csv", "what was said;verdict\n" + rows)
        with pytest.raises(CorpusError, match="'what was said', 'verdict': .* --text-column"):
            read_examples(path, PLAIN)
        asked = {"text_column": "what was said", "label_column": "verdict"}
        assert len(read_examples(path, ExamplesConfig(**asked))) == 120

    def test_texts_of_several_columns(self, tmp_path: Path) -> None:
        path = made(tmp_path, "t.csv", "title,body,label\nA,b,1\n,c,0\n,,1\n")
        config = ExamplesConfig(text_column=("title", "body"))
        assert read_examples(path, config).texts == ("A\nb", "c")
        with pytest.raises(CorpusError, match="both be read from 'body'"):
            read_examples(path, ExamplesConfig(text_column=("title", "body"), label_column="body"))
        given = {"title": ["A", ""], "body": ["b", "c"], "label": [1, 0]}
        assert read_examples(given, config).texts == ("A\nb", "c")
        with pytest.raises(CorpusError, match="have different lengths"):
            read_examples(given | {"body": ["b"]}, config)

    def test_html(self, tmp_path: Path) -> None:
        path = made(tmp_path, "t.csv", "label,text\n1,a<br />b &amp; c\n0,<p>d</p>\n1,<br>\n")
        found = read_examples(path, ExamplesConfig(clean="html"))
        assert found.texts == ("a\nb & c", "d")
        assert "line 4" in found.notes[0]

    def test_encodings(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes("label,text\n1,été\n0,x\n".encode("latin-1"))
        assert read_examples(str(path), ExamplesConfig(encoding="latin-1")).texts[0] == "été"
        assert (
            read_examples(str(path), ExamplesConfig(errors="replace")).texts[0] == "\ufffdt\ufffd"
        )
        with pytest.raises(CorpusError, match="t.csv is not utf-8"):
            read_examples(str(path), PLAIN)
        path.write_text("label,text\n1,été\n0,x\n", encoding="utf-16")
        assert "utf-16" in read_examples(str(path), PLAIN).notes[0]


class TestBadRows:
    def test_empty_texts_are_left_out_and_named(self, tmp_path: Path) -> None:
        rows = ["label,text", "1,good", "0,bad", "1,", '0,"  \n "', "1,nan", *["0,"] * 20]
        found = read_examples(made(tmp_path, "t.csv", "\n".join(rows)), PLAIN)
        assert found.texts == ("good", "bad")
        assert "lines 4, 5, 7, 8, 9, 10, 11, 12, 13, 14 and 13 more" in found.notes[0]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("t.csv", "label,text\na,x\n,y\nb,z\n  ,z\nNaN,z\n"),
            (
                "t.jsonl",
                '{"label": "a", "text": "x"}\n{"text": "y"}\n\n'
                '\n{"text": "y", "label": null}\n{"text": "y", "label": NaN}',
            ),
        ],
    )
    def test_missing_labels_are_named(self, tmp_path: Path, name: str, text: str) -> None:
        lines = {"t.csv": "lines 3, 5 and 6", "t.jsonl": "lines 2, 5 and 6"}[name]
        with pytest.raises(CorpusError, match=f"label is missing in {lines}: "):
            read_examples(made(tmp_path, name, text), PLAIN)

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("t.csv", 'label,text\na,x\nb,"y\n', "line 3 has a quote that is never"),
            ("t.csv", 'label,text\na,x\nb,"y\nz\n\n', "line 3 has a quote that is never"),
            ("t.csv", "label,text\na,x\nb,y,z\n", "line 3 has 3 fields; the header has 2"),
            ("t.csv", 'label,"text\n', "line 1 has a quote that is never"),
            ("t.jsonl", '{"label": 1, "text": "a"}\n{"label"', "line 2 is not JSON"),
            ("t.jsonl", '{"label": 1, "text": 5}', "line 1: 'text' is not text, but int"),
            ("t.jsonl", '{"label": [1], "text": "a"}', "line 1: 'label' is not a label, but list"),
            (
                "t.jsonl",
                '{"label": "\\ud800", "text": "a"}',
                "line 1: 'label' holds a lone surrogate",
            ),
            ("t.csv", "label,text\na,x\na,y\n", "the only label is 'a'"),
            ("t.csv", "label,text\na,\n", "holds no text"),
            ("t.csv", "label,text\n", "holds no text"),
            ("t.csv", "", "is empty"),
            ("t.jsonl", "\n", "is empty"),
            ("t.json", "", "is empty"),
            ("t.json", '{"text": "a",\n"label": "b"}', "line 1 is not JSON: .* a .json file holds"),
            ("t.csv", "label;text\na;x\nb;y;z\n", "line 3 has 3 fields; the header has 2"),
            ("t.tsv", 'n\tlabel\ttext\n1\ta\t"x\ny\tz"\n2\tb\tw\n', "line 2 has a quoted field"),
            ("t.txt", "good\n", "has no labels: .* .csv, .tsv, .jsonl or .json"),
        ],
    )
    def test_what_cannot_be_learnt_from(
        self, tmp_path: Path, name: str, text: str, words: str
    ) -> None:
        with pytest.raises(CorpusError, match=words):
            read_examples(made(tmp_path, name, text), PLAIN)

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(CorpusError, match="does not exist"):
            read_examples(str(tmp_path / "none.csv"), PLAIN)
        with pytest.raises(ConfigError, match="a file or a folder, not -"):
            read_examples("-", PLAIN)
        with pytest.raises(CorpusError):
            read_examples("a\0b", PLAIN)

    def test_labels_that_training_did_not_have(self, tmp_path: Path) -> None:
        path = made(tmp_path, "t.csv", "label,text\na,x\nc,y\nb,z\nc,z\n")
        with pytest.raises(CorpusError, match="label 'c' in lines 3 and 5; .* 'a', 'b'"):
            read_examples(path, PLAIN, ("a", "b"))
        one = made(tmp_path, "one.csv", "label,text\na,x\n")
        assert read_examples(one, PLAIN, ("a", "b")).labels == ("a",)

    def test_labels_that_look_the_same_are_the_same(self, tmp_path: Path) -> None:
        labels = ["caf\u00e9", " cafe\u0301 ", "tea", "Tea", "green tea", "Green  Tea"]
        table = "\n".join(f"{label},text {i}" for i, label in enumerate(labels))
        path = made(tmp_path, "t.csv", f"label,text\n{table}\n")
        for found in (
            read_examples(path, PLAIN),
            Examples.of([f"text {i}" for i in range(6)], labels),
        ):
            assert found.labels[:2] == ("caf\u00e9",) * 2
            (note,) = found.notes
            assert "'Green  Tea' and 'green tea'; 'Tea' and 'tea' (--label-map" in note

    def test_labels_get_other_names(self, tmp_path: Path) -> None:
        path = made(tmp_path, "t.csv", "label,text\n0,a\n1,b\n2,c\n1,d\n2,e\n")
        found = read_examples(path, ExamplesConfig(label_map="0=neg, 1 =pos,2=skip"))
        assert (found.labels, found.texts) == (("neg", "pos", "pos"), ("a", "b", "d"))
        assert found.rows == (2, 3, 5)
        assert "--label-map leaves out 2 rows" in found.notes[0]
        with pytest.raises(CorpusError, match="no name for label '2' in lines 4 and 6: add 2=NAME"):
            read_examples(path, ExamplesConfig(label_map="0=neg,1=pos"))
        missing = made(tmp_path, "m.csv", "label,text\n0,a\n,b\n")
        with pytest.raises(CorpusError, match="label is missing in line 3"):
            read_examples(missing, ExamplesConfig(label_map="0=neg"))
        with pytest.raises(CorpusError, match="the only label is 'x'"):
            read_examples(path, ExamplesConfig(label_map="0=x,1=x,2=x"))
        with pytest.raises(CorpusError, match="holds no text"):
            read_examples(path, ExamplesConfig(label_map="0=skip,1=skip,2=skip"))

    @pytest.mark.parametrize("given_map", ["0", "=neg", "0=", "0=a,,1=b", "0=a,0=b"])
    def test_maps_that_are_none(self, given_map: str) -> None:
        with pytest.raises(ConfigError, match="--label-map must"):
            ExamplesConfig(label_map=given_map)

    def test_one_text_with_two_labels_is_said(self, tmp_path: Path) -> None:
        path = made(tmp_path, "t.csv", "label,text\na,x\nb,x\nb,z\nb,z\n")
        (note,) = read_examples(path, PLAIN).notes
        assert "different labels in lines 2 and 3" in note

    def test_labels_that_all_differ_may_be_none(self, tmp_path: Path) -> None:
        path = made(tmp_path, "t.csv", "label,text\n7,a\n8,b\n9,c\n")
        (note,) = read_examples(path, PLAIN).notes
        assert note.endswith("t.csv: each of the 3 labels occurs once: are they labels?")


class TestFolders:
    def test_options_of_tables_have_no_effect(self, tmp_path: Path) -> None:
        made(tmp_path, "a/1.txt", "x")
        made(tmp_path, "b/1.txt", "y")
        (note,) = read_examples(
            str(tmp_path), ExamplesConfig(label_column="n", quoting="csv")
        ).notes
        assert note == f"--quoting, --label-column is for tables; {tmp_path} is a folder"

    def test_one_folder_per_class(self, tmp_path: Path) -> None:
        for name, text in {
            "pos/1.TXT": "good\n",
            "pos/deep/0.txt": "fine",
            "neg/0.txt": "bad",
            "unsup/0.txt": "never read",
            "neg/readme.md": "no",
            ".hidden/0.txt": "no",
            "urls.txt": "no",
        }.items():
            made(tmp_path, name, text)
        found = read_examples(str(tmp_path), PLAIN)
        assert sorted(found.texts) == ["bad", "fine", "good"]
        assert found.labels == ("neg", "pos", "pos")
        assert found.rows == (1, 2, 3)
        others, unlabelled = found.notes
        assert others.endswith("not read as texts of a class: files neg/readme.md and urls.txt")
        assert unlabelled.endswith("unsup holds texts without a label, which are left out: 1")

    @pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux alone")
    def test_names_of_classes_that_are_no_text(self, tmp_path: Path) -> None:
        for folder in (b"caf\xe9", b"tea"):
            made(tmp_path, f"{os.fsdecode(folder)}/1.txt", "x")
        with pytest.raises(CorpusError, match=r"lone surrogate, U\+DCE9.*--errors replace"):
            read_examples(str(tmp_path), PLAIN)
        found = read_examples(str(tmp_path), ExamplesConfig(errors="replace"))
        assert found.labels == ("caf\ufffd", "tea")

    def test_a_class_may_be_a_link(self, tmp_path: Path) -> None:
        made(tmp_path, "elsewhere/1.txt", "x")
        made(tmp_path, "d/b/1.txt", "y")
        (tmp_path / "d" / "a").symlink_to(tmp_path / "elsewhere")
        assert read_examples(str(tmp_path / "d"), PLAIN).labels == ("a", "b")

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
    @pytest.mark.parametrize("name", ["d", "d/b", "d/b/more"])
    def test_unreadable_folders_are_errors(self, tmp_path: Path, name: str) -> None:
        for text in ("a/1.txt", "b/1.txt", "c/1.txt", "b/more/2.txt"):
            made(tmp_path / "d", text, text)
        (tmp_path / name).chmod(0)
        for read in (read_examples, read_texts):
            with pytest.raises(CorpusError, match=f"{name} cannot be read: Permission denied"):
                read(str(tmp_path / "d"), PLAIN)
        (tmp_path / name).chmod(0o700)

    def test_empty_files_are_named(self, tmp_path: Path) -> None:
        for name, text in {"a/1.txt": "x", "a/2.txt": "", "b/1.txt": "y"}.items():
            made(tmp_path, name, text)
        assert "file a/2.txt" in read_examples(str(tmp_path), PLAIN).notes[0]

    def test_folders_of_another_kind(self, tmp_path: Path) -> None:
        made(tmp_path, "1.txt", "x")
        with pytest.raises(CorpusError, match="one folder per class"):
            read_examples(str(tmp_path), PLAIN)
        for part in ("train/pos", "train/neg", "test/pos", "test/neg"):
            made(tmp_path, f"{part}/1.txt", part)
        made(tmp_path, "train/urls.txt", "x")
        with pytest.raises(CorpusError, match="both hold a folder neg: name the folder .*test$"):
            read_examples(str(tmp_path), PLAIN)
        shutil.rmtree(tmp_path / "test")
        with pytest.raises(CorpusError, match="the only label is 'train'"):
            read_examples(str(tmp_path), PLAIN)


class TestTexts:
    def test_plain_and_tables(self, tmp_path: Path) -> None:
        html = ExamplesConfig(clean="html")
        assert read_texts(made(tmp_path, "t.txt.gz", "a<br>b\n\nc\n"), html) == ["a\nb", "c"]
        assert read_texts(made(tmp_path, "t.csv", "n,review\n1,x\n2,\n3,nan\n"), PLAIN) == ["x"]
        assert read_texts(made(tmp_path, "t.jsonl", '{"text": "x"}\n{"n": 1}'), PLAIN) == ["x"]

    def test_plain_text_has_no_columns(self, tmp_path: Path) -> None:
        asked = ExamplesConfig(text_column="2", delimiter=";", header=False)
        assert read_texts(made(tmp_path, "t.txt", "a; b\nc\n"), asked) == ["a; b", "c"]
        assert read_texts(made(tmp_path, "t.csv", "1;a\n2;b\n"), asked) == ["a", "b"]
        asked = ExamplesConfig(delimiter=";", header=False, quoting="csv")
        assert read_texts(made(tmp_path, "t.json", '[{"text": "a"}]'), asked) == ["a"]
        notes: list[str] = []
        read_texts(made(tmp_path, "t.tsv", 'text\tn\n"a\tb\n'), PLAIN, notes)
        assert [note.rpartition("t.tsv: ")[2] for note in notes] == [
            "quotes are read as part of the text"
        ]

    def test_folders(self, tmp_path: Path) -> None:
        made(tmp_path, "d/b.TXT", "two\nlines\n")
        made(tmp_path, "d/a.txt", "one")
        assert read_texts(str(tmp_path / "d"), PLAIN) == ["one", "two\nlines"]

    def test_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(CorpusError, match="holds no text"):
            read_texts(made(tmp_path, "t.txt", "\n \n"), PLAIN)
        with pytest.raises(ConfigError, match="a file or a folder, not -"):
            read_texts("-", PLAIN)


labelled = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["1", "2", "x"])), max_size=40
)


class TestSplit:
    @given(labelled, st.floats(0.05, 0.95), st.integers(0, 9))
    def test_parts(self, pairs: list[tuple[str, str]], fraction: float, seed: int) -> None:
        whole = examples_of([label for _, label in pairs], [text for text, _ in pairs])
        first = dict(reversed(pairs))
        counts = [sum(label == each for label in first.values()) for each in whole.classes]
        if min(counts, default=2) < 2:
            with pytest.raises(CorpusError, match="only one distinct text"):
                split(whole, fraction, seed)
            return
        train, valid = split(whole, fraction, seed)
        assert sorted(train.rows + valid.rows) == list(whole.rows)
        assert not set(train.texts) & set(valid.texts)
        assert train.classes == valid.classes == whole.classes
        assert split(whole, fraction, seed) == (train, valid)
        assert (shared_texts_warning(train, valid)) is None

    def test_proportions(self) -> None:
        whole = examples_of(["a"] * 200 + ["b"] * 50)
        train, valid = split(whole, 0.1, 0)
        assert (valid.labels.count("a"), valid.labels.count("b")) == (20, 5)
        assert list(train.rows) == sorted(train.rows)
        assert split(whole, 0.1, 1)[1].rows != valid.rows

    def test_duplicates_stay_together(self) -> None:
        whole = examples_of(["a", "b"] * 20, [f"text {i % 14}" for i in range(40)])
        train, valid = split(whole, 0.3, 0)
        assert not set(train.texts) & set(valid.texts)
        assert "26 of 40 texts repeat" in train.notes[0]

    def test_too_few(self) -> None:
        with pytest.raises(CorpusError, match=r"label 'b' .*row 4.*--valid FILE"):
            split(examples_of(["a", "a", "b"]), 0.5, 0)
        with pytest.raises(ConfigError, match="--valid-fraction"):
            split(examples_of(["a", "b"]), 0.0, 0)


class TestSubset:
    @given(st.lists(st.sampled_from("abc"), min_size=3, max_size=60), st.integers(0, 5), st.data())
    def test_nested_and_stratified(self, labels: list[str], seed: int, data: st.DataObject) -> None:
        whole = examples_of(labels)
        fewest = len(whole.classes)
        small = data.draw(st.integers(fewest, len(labels)))
        large = data.draw(st.integers(small, len(labels)))
        first, second = subset(whole, small, seed), subset(whole, large, seed)
        assert len(first) == small
        assert set(first.rows) <= set(second.rows)
        assert first.classes == whole.classes
        assert list(first.rows) == sorted(first.rows)
        for label in whole.classes:
            share = labels.count(label) * small / len(labels)
            assert abs(first.labels.count(label) - share) <= fewest

    def test_balanced(self) -> None:
        whole = examples_of(["a", "b"] * 500)
        for count in (2, 100, 500):
            assert subset(whole, count, 3).labels.count("a") == count // 2
        assert subset(whole, 100, 3) != subset(whole, 100, 4)

    def test_counts_that_cannot_be(self) -> None:
        whole = examples_of(["a", "b", "c"])
        with pytest.raises(ConfigError, match="--labels 4 is too many.* 3"):
            subset(whole, 4, 0)
        with pytest.raises(ConfigError, match="--labels 2 is too few: .* 3 classes"):
            subset(whole, 2, 0)


def test_texts_on_both_sides_are_said() -> None:
    train = examples_of(["a"] * 3, ["x", "y", "z"])
    other = examples_of(["a"] * 3, ["q", "y", "x"])
    sentence = shared_texts_warning(train, other)
    assert sentence is not None
    assert "2 of 3 texts" in sentence
    assert "rows 3 and 4" in sentence
    assert shared_texts_warning(train, other.select([0])) is None
