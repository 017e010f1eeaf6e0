"""Tables as they come: what separates fields, quotes, headers, JSON, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import threading
from pathlib import Path
from textwrap import wrap
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from chargen.errors import ConfigError, CorpusError
from chargen.text.config import CorpusConfig, TableConfig
from chargen.text.files import from_path
from chargen.text.sources import read_all
from chargen.text.tables import Table, open_table

cells = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=12)
rows = st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6)
DELIMITERS = (",", ";", "\t", "|")


def table_of(text: str, form: str, notes: list[str] | None = None, **options: Any) -> Table:
    return Table("t", form, TableConfig(**options), lambda _: [text], notes=notes)


def values(table: Table) -> list[list[Any]]:
    assert not any(row.problem for row in table.rows())
    return [list(row.values) for row in table.rows()]


def separated(table: list[tuple[str, ...]], delimiter: str, end: str = "\n", **more: Any) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end, **more).writerows(table)
    return out.getvalue()


class TestRoundTrips:
    @given(rows, st.sampled_from(DELIMITERS), st.sampled_from(["csv", "tsv"]), st.booleans())
    def test_any_delimiter(
        self, body: list[tuple[str, ...]], delimiter: str, form: str, everything: bool
    ) -> None:
        quoting = {"quoting": csv.QUOTE_ALL} if everything else {}
        text = separated([("id", "label", "text"), *body], delimiter, **quoting)
        table = table_of(text, form, quoting="csv")
        assert table.columns == ["id", "label", "text"]
        assert values(table) == [list(row) for row in body]
        table = table_of(text, form)
        try:
            found = list(table.rows())
        except CorpusError:  # quoted fields with tabs and line breaks
            assert delimiter == "\t"
            return
        same = [list(row.values) for row in found] == [list(row) for row in body]
        assert same != any(row.problem for row in found)

    @given(rows, st.sampled_from(DELIMITERS), st.booleans())
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
    def test_as_excel_writes(
        self,
        tmp_path: Path,
        encoding: str,
        body: list[tuple[str, ...]],
        delimiter: str,
        separator_line: bool,
    ) -> None:
        text = separated([("id", "label", "text"), *body], delimiter, "\r\n")
        path = tmp_path / "t.csv"
        path.write_bytes((f"sep={delimiter}\r\n" * separator_line + text).encode(encoding))
        table = open_table(from_path(path), TableConfig(quoting="csv"), [])
        assert table.columns == ["id", "label", "text"]
        assert values(table) == [list(row) for row in body]

    @given(rows, st.sampled_from(DELIMITERS))
    def test_without_a_header(self, body: list[tuple[str, ...]], delimiter: str) -> None:
        assume(any(any(cell for cell in row) for row in body))
        named = "tab" if delimiter == "\t" else delimiter
        options = {"delimiter": named, "header": False, "quoting": "csv"}
        table = table_of(separated(body, delimiter), "csv", **options)
        assert table.columns == ["1", "2", "3"]
        assert values(table) == [list(row) for row in body]

    @given(rows, st.sampled_from([None, 1]), st.booleans(), st.sampled_from(["json", "jsonl"]))
    def test_json(
        self, body: list[tuple[str, ...]], indent: int | None, ascii_only: bool, form: str
    ) -> None:
        objects = [dict(zip(("id", "label", "text"), row, strict=True)) for row in body]
        whole = json.dumps(objects, indent=indent, ensure_ascii=ascii_only)
        lines = "\n".join(json.dumps(one, ensure_ascii=ascii_only) for one in objects)
        for text in (whole, f"\n {whole}\n", lines):
            table = table_of(text, form)
            assert table.columns == ["id", "label", "text"]
            assert values(table) == [list(row) for row in body]
        lined = [row.line for row in table_of(whole, form).rows()]
        step = 0 if indent is None else 5
        assert lined == [(1 if indent is None else 2) + step * i for i in range(len(body))]


class TestDelimiters:
    def test_one_that_is_found_is_said(self) -> None:
        notes: list[str] = []
        text = "text;label\n" + "good, and, so on;pos\nbad;neg\n" * 60
        assert values(table_of(text, "csv", notes))[0] == ["good, and, so on", "pos"]
        assert notes == ["t: its fields are separated by ';'"]
        notes.clear()
        assert table_of("text,label\na;b,c\n", "csv", notes).columns == ["text", "label"]
        assert not notes

    def test_one_that_is_given_wins(self) -> None:
        text = "text;label,x\na;b,c\n"
        assert table_of(text, "csv", delimiter=";").columns == ["text", "label,x"]
        assert table_of(text, "plain", delimiter=",").columns == ["text;label", "x"]
        assert table_of("a~b\n1~2\n", "tsv", delimiter="~").columns == ["a", "b"]

    @pytest.mark.parametrize("given_one", ["", "ab", '"', "\n", "tabs"])
    def test_what_separates_nothing(self, given_one: str) -> None:
        with pytest.raises(ConfigError, match="--delimiter must"):
            TableConfig(delimiter=given_one)

    def test_without_a_header_two_may_do(self) -> None:
        text = "good, really;pos\nbad, really;neg\n"
        with pytest.raises(CorpusError, match="separated by ',' or ';': choose with --delimiter"):
            _ = table_of(text, "csv", header=False).columns
        found = table_of(text, "csv", header=False, delimiter=";")
        assert values(found) == [["good, really", "pos"], ["bad, really", "neg"]]

    def test_rows_that_do_not_fit(self) -> None:
        text = "text;label\na;b\nc, d\ne, f, g;h;i\n"
        found = list(table_of(text, "csv").rows())
        assert [row.problem for row in found] == [
            "",
            "has 1 field; the header has 2",
            "has 3 fields; the header has 2",
        ]
        (first, second) = table_of("a;b\nc\n", "csv", header=False).rows()
        assert not first.problem
        assert second.problem == "has 1 field; the first row has 2"

    def test_a_line_that_names_the_separator_counts(self) -> None:
        (row,) = table_of("sep=|\ntext|label\na,b\n", "csv").rows()
        assert (row.line, row.problem) == (3, "has 1 field; the header has 2")


class TestQuotesBetweenTabs:
    @given(
        st.lists(
            st.tuples(*[st.text(st.sampled_from('ab" '), max_size=5)] * 2), min_size=1, max_size=12
        ),
        st.integers(0, 12),
    )
    def test_no_row_is_lost(self, body: list[tuple[str, str]], place: int) -> None:
        body.insert(place % (len(body) + 1), ('"never closed', "x"))
        text = "text\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in body)
        notes: list[str] = []
        assert values(table_of(text, "tsv", notes)) == [list(row) for row in body]
        assert notes == ["t: quotes are read as part of the text"]

    def test_two_stray_quotes_make_no_row_of_several(self) -> None:
        lines = ['"good\tpos', "fine\tpos", 'bad"\tneg', "dull\tneg"]
        found = table_of("text\tlabel\n" + "\n".join(lines), "tsv")
        assert values(found) == [line.split("\t") for line in lines]

    def test_quotes_around_whole_fields_are_taken_off(self) -> None:
        text = 'text\tlabel\n"a ""b"" c"\tpos\n"two\nlines"\tneg\n"tab\tbed"\tneg\n'
        assert values(table_of(text, "tsv")) == [
            ['a "b" c', "pos"],
            ["two\nlines", "neg"],
            ["tab\tbed", "neg"],
        ]

    def test_a_field_with_tab_and_newline_is_refused(self) -> None:
        text = separated(
            [("id", "text", "label"), ("1", "x", "pos"), ("2", "a\tb\nc", "neg")], "\t"
        )
        with pytest.raises(CorpusError, match=r"^t, line 3 has a quoted field with tabs and line"):
            list(table_of(text, "tsv").rows())


plain = st.text(st.sampled_from("ab."), min_size=1, max_size=5)


class TestStrayQuotes:
    """In CSV, where quotes may hold line breaks, delimiters or both."""

    @given(
        st.lists(st.tuples(plain, st.sampled_from(["pos", "neg"])), min_size=2, max_size=9),
        st.dictionaries(st.integers(0, 8), st.booleans(), max_size=4),
        st.sampled_from(DELIMITERS),
        st.booleans(),
    )
    def test_lines_that_are_rows_are_never_one_row(
        self,
        body: list[tuple[str, str]],
        quotes: dict[int, bool],
        delimiter: str,
        label_first: bool,
    ) -> None:
        cells = []
        for place, (text, label) in enumerate(body):
            stray = {True: f'"{text}', False: f'{text}"', None: text}[quotes.get(place)]
            cells.append([label, stray] if label_first else [stray, label])
        names = ["label", "text"] if label_first else ["text", "label"]
        lined = [delimiter.join(row) for row in cells]
        whole = "\n".join([delimiter.join(names), *lined, ""])
        found = list(table_of(whole, "csv").rows())
        assert [row.raw for row in found] == lined
        assert all(len(row.values) == 2 for row in found if not row.problem)
        table = table_of(whole, "csv", quoting="none")
        assert table.columns == names
        assert values(table) == cells

    @pytest.mark.parametrize("delimiter", [",", ";", "|"])
    @pytest.mark.parametrize(
        "lined",
        [
            ["id,text,label", '1,"good film,pos', "2,fine,pos", '3,bad film",neg', "4,dull,neg"],
            ["text,label", '"good film,pos', 'bad film",neg', "dull,neg"],
            ["id,text", '1,"good film', "2,fine", "", "3,dull", '4,"bad""', "5,so so"],
            ["id,text,label", '"1","good film,pos', '"2",""fine""', '3,bad film",neg'],
            ["text, label", '"good film, pos', 'bad film", neg'],
            ["text,label,", '"good film,pos,', 'bad film",neg,'],
        ],
    )
    def test_it_is_told(self, lined: list[str], delimiter: str) -> None:
        text = "\n".join(lined).replace(",", delimiter) + "\n"
        first, *_ = table_of(text, "csv", delimiter=delimiter).rows()
        assert first.line == 2
        assert first.problem.startswith("has a quote")
        assert "--quoting none reads quotes as part of the text" in first.problem

    def test_in_the_first_row(self) -> None:
        text = '1,"good film,pos\n2,fine,pos\n3,bad film",neg\n'
        with pytest.raises(
            CorpusError, match="line 1 has a quoted field that ends in line 3, but these lines are"
        ):
            _ = table_of(text, "csv", header=False).columns
        table = table_of(text, "csv", header=False, quoting="none")
        assert [row[1] for row in values(table)] == ['"good film', "fine", 'bad film"']

    def test_not_after_ten_fields_that_hold_lines_as_csv_has_them(self) -> None:
        prose, odd = "one\ntwo\n\nthree", "good film\nbad film,neg"
        rows = [("n", "text"), *[("1", prose)] * 10, ("2", odd), ("3", prose)]
        found = values(table_of(separated(rows, ","), "csv"))
        assert [text for _, text in found] == [*[prose] * 10, odd, prose]
        one_fewer = table_of(separated([rows[0], *rows[2:]], ","), "csv").rows()
        assert any("lines are rows by themselves" in row.problem for row in one_fewer)

    @pytest.mark.parametrize(
        "text",
        [
            "Dear all,\nmany thanks, and so on.",
            '"I see," he said,\n"and so does she."',
            "Roses are red,\nviolets are blue,\n\nsugar is sweet.",
            "one\ntwo\nthree",
        ],
    )
    @pytest.mark.parametrize("names", [("id", "text"), ("text", "id"), ("id", "text", "n")])
    def test_prose_of_several_lines_is_one_field(self, text: str, names: tuple[str, ...]) -> None:
        row = tuple(text if name == "text" else "7" for name in names)
        for form in ("csv", "tsv"):
            for delimiter in (",", ";"):
                table = table_of(separated([names, row, row], delimiter), form)
                assert values(table) == [list(row)] * 2

    @pytest.mark.parametrize("width", [30, 60])
    @pytest.mark.parametrize("names", [("id", "text"), ("text", "id"), ("id", "text", "n")])
    def test_no_prose_that_ships_is_taken_for_rows(
        self, names: tuple[str, ...], width: int
    ) -> None:
        whole = read_all(["prose"], CorpusConfig())
        body = [
            tuple("\n".join(wrap(paragraph, width)) if name == "text" else "7" for name in names)
            for paragraph in re.split(r"\n\s*\n", whole)
            if len(paragraph) > width
        ]
        assert len(body) > 1000
        assert values(table_of(separated([names, *body], ","), "csv")) == list(map(list, body))

    def test_what_was_asked_for(self) -> None:
        notes: list[str] = []
        table = table_of('text,label\n"a,b\nc",d\n', "csv", notes, quoting="csv")
        assert values(table) == [["a,b\nc", "d"]]
        table = table_of('text\tlabel\n"a\tb\nc"\td\n', "tsv", notes, quoting="csv")
        assert values(table) == [["a\tb\nc", "d"]]
        table = table_of('text;label\n"a";b, c, d\n', "csv", quoting="none")
        assert values(table) == [['"a"', "b, c, d"]]
        assert notes == []


class TestPlainText:
    @pytest.mark.parametrize(
        "text",
        [
            "id\ttext\tlabel\n1\tgood\tpos\n2\tbad, really\tneg\n",
            "Review;stars\ngood;5\nbad;1\n",
            '"label","text"\n"1","good, bad"\n',
        ],
    )
    def test_a_table_by_another_name(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "t.txt"
        path.write_text(text, "utf-16")
        with pytest.raises(CorpusError, match="looks like a table with the columns .*--delimiter"):
            _ = open_table(from_path(path), TableConfig(), []).columns
        named = "tab" if "\t" in text else ";" if ";" in text else ","
        assert len(list(open_table(from_path(path), TableConfig(delimiter=named), []).texts())) < 3

    @pytest.mark.parametrize(
        "text",
        [
            "text\ngood\nbad\n",
            "This text, which I read, is good.\nBad\nGood, bad\nSo, so\nno\nyes\n",
            "good;bad\nso;so\n",
            "id,text\n",
            "",
        ],
    )
    def test_lines_are_lines(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "t.txt"
        path.write_text(text)
        table = open_table(from_path(path), TableConfig(), [])
        assert [row.raw for row in table.rows()] == text.splitlines()


class TestJson:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("plain text\nof some lines", "line 1 is not JSON"),
            ("[1, 2]", "line 1 is not a JSON object, but int"),
            ('["a"]', "line 1 is not a JSON object, but str"),
        ],
    )
    @pytest.mark.parametrize("form", ["json", "jsonl"])
    def test_what_is_neither(self, text: str, words: str, form: str) -> None:
        with pytest.raises(CorpusError, match=words):
            _ = table_of(text, form).columns

    def test_objects_in_an_object(self) -> None:
        text = '{"data": [\n{"text": "a"}\n]}'
        with pytest.raises(
            CorpusError, match="line 1 is not JSON: .*; a .json file holds an array"
        ):
            list(table_of(text, "json").rows())
        assert [bool(row.problem) for row in table_of(text, "jsonl").rows()] == [1, 0, 1]

    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ('[{"text": "a"},\n{"text": }]', 2, "is not JSON: Expecting value at column 10"),
            ('[{"text": "a"},\n{"n":\n oops}]', 2, "at column 2 of line 3"),
            ('[{"text": "a"}\n{"text": "b"}]', 1, "no , or ] follows"),
            ('[{"text": "a"},\n', 2, "the ] of the array is missing"),
            ('[{"text": "a"}]\n[{"text": "b"}]', 2, "something follows the ]"),
            ('[{"text": "a"},\n\n[]]', 3, "is not a JSON object, but list"),
            ("[" * 100_000, 1, "is not JSON"),
        ],
    )
    def test_arrays_that_are_broken(self, text: str, line: int, words: str) -> None:
        *_, last = table_of(text, "json").rows()
        assert words in last.problem
        assert last.line == line

    def test_an_empty_array_is_empty(self) -> None:
        assert values(table_of(" [ ]\n", "json")) == []
        with pytest.raises(CorpusError, match="is empty"):
            _ = table_of("[]", "json").text_columns

    @pytest.mark.parametrize(
        "options", [{"delimiter": ";"}, {"quoting": "none"}, {"header": False}]
    )
    @pytest.mark.parametrize("text", ['[{"text": "a"}]', '{"text": "a"}'])
    def test_it_has_no_fields_to_separate(self, text: str, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="is for .csv and .tsv tables; t holds JSON"):
            list(table_of(text, "json", **options).rows())


class TestColumns:
    def test_two_of_one_name(self) -> None:
        for asked in ({}, {"text_column": "text"}):
            with pytest.raises(CorpusError, match="t has several columns 'text'"):
                list(table_of("text,text\na,b\n", "csv", **asked).texts())
        with pytest.raises(ConfigError, match="--text-column must name each column once"):
            TableConfig(text_column=("a", "b", "a"))

    def test_several_are_joined(self) -> None:
        text = "title,body,n\nA film,It is good.,1\n,Only this.,2\nnan,x,3\n"
        table = table_of(text, "csv", text_column=("title", "body"))
        assert [table.text(row) for row in table.rows()] == [
            "A film\nIt is good.",
            "Only this.",
            "x",
        ]
        table = table_of('[{"b": "x", "a": "y"}]', "json", text_column=("a", "b"))
        assert list(table.texts()) == ["y\nx"]
        with pytest.raises(CorpusError, match="no column 'c'"):
            list(table_of(text, "csv", text_column=("title", "c")).texts())

    def test_numbers_count_from_one(self) -> None:
        table = table_of("1,good film\n0,bad film\n", "csv", header=False, text_column="2")
        assert list(table.texts()) == ["good film", "bad film"]
        for wrong in ("0", "3", "text"):
            with pytest.raises(CorpusError, match="its columns are '1', '2'"):
                list(table_of("1,a\n", "csv", header=False, text_column=wrong).texts())


@pytest.mark.parametrize(
    ("name", "text", "options", "expected"),
    [
        ("t.csv", "label;text\n1;a, b\n0;c\n", {}, "a, b\nc\n"),
        ("t.tsv", 'label\ttext\n1\t"a\n0\tb"\n', {}, '"a\nb"\n'),
        ("t.json", '[{"text": "a"}, {"text": "b"}]', {}, "a\nb\n"),
        ("t.csv", "1|a\n0|b\n", {"header": False, "text_column": "2"}, "a\nb\n"),
        ("t.csv", "title,body\na,b\n", {"text_column": ("title", "body")}, "a\nb\n"),
        ("t.csv", "n,Review\n1,a\n", {}, "a\n"),
    ],
)
def test_corpora_are_read_the_same(
    tmp_path: Path, name: str, text: str, options: dict[str, Any], expected: str
) -> None:
    (tmp_path / name).write_text(text)
    assert read_all([str(tmp_path / name)], CorpusConfig(**options)) == expected


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(("text", "expected"), [("label;text\n1;a, b\n", ["a, b"]), ("", [])])
def test_tables_from_pipes(tmp_path: Path, text: str, expected: list[str]) -> None:
    pipe = tmp_path / "t.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    table = open_table(from_path(pipe), TableConfig(), [])
    assert list(table.texts()) == expected
    assert len(list(table.rows())) == len(expected)
    writer.join()


def test_json_among_other_files_is_text(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"a": 1}')
    assert read_all([str(tmp_path)], CorpusConfig()) == '{"a": 1}'


@pytest.mark.parametrize(
    ("data", "encoding", "words"),
    [
        ("text,label\na,b\n".encode("utf-8-sig"), "latin-1", "byte order mark of utf-8"),
        ("text,label\na,b\n".encode("utf-16"), "cp1252", "byte order mark of utf-16"),
        ("text,label\nété,b\n".encode(), "utf-16-le", "reads as utf-8"),
        (b"text,label\na,b\n", "utf-16", "reads as utf-8"),
        (b"text,label\na,b\n\n", "utf-32", "reads as utf-8"),
        ("text,label\na,b\n".encode("utf-16-le"), "utf-8", "--encoding utf-16-le"),
    ],
)
def test_encodings_that_cannot_be(tmp_path: Path, data: bytes, encoding: str, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=words):
        _ = open_table(from_path(path), TableConfig(encoding=encoding), []).columns
