"""Rows of tables, and the line of the row that is broken."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chargen.errors import CorpusError
from chargen.text.config import CorpusConfig
from chargen.text.tables import Table

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=20)


def table(text: str, form: str, size: int = 1000, **options: Any) -> Table:
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    return Table("t", form, CorpusConfig(**options), lambda _: pieces)


def read(text: str, form: str, size: int = 1000, **options: Any) -> list[str]:
    return list(table(text, form, size, **options).texts())


@given(st.lists(texts), st.integers(1, 9))
def test_json_lines(values: list[str], size: int) -> None:
    for ascii_only in (True, False):
        lines = (json.dumps({"n": 1, "text": v}, ensure_ascii=ascii_only) for v in values)
        assert read("\n\n".join(lines), "jsonl", size=size) == [v for v in values if v]


@given(st.lists(texts), st.integers(1, 9), st.sampled_from(["csv", "tsv"]))
def test_separated_values(values: list[str], size: int, form: str) -> None:
    if form == "tsv":
        assume(not any("\t" in value and "\n" in value for value in values))
    out = io.StringIO()
    delimiter = "," if form == "csv" else "\t"
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerows([["label", "text"], *(["1", value] for value in values)])
    assert read(out.getvalue(), form, size=size) == [v for v in values if v]


def test_the_column_that_is_asked_for() -> None:
    assert read("a,b\n1,2\n", "csv", text_column="b") == ["2"]
    assert read('{"a": "x", "b": "y"}', "jsonl", text_column="b") == ["y"]


@pytest.mark.parametrize(
    ("text", "form"), [("a,b\n1,2\n", "csv"), ("a\tb\n", "tsv"), ('{"a": "", "b": ""}', "jsonl")]
)
@pytest.mark.parametrize("column", [None, "c"])
def test_columns_that_are_not_there(text: str, form: str, column: str | None) -> None:
    with pytest.raises(CorpusError, match=r"'a', 'b'.*--text-column.*- < file"):
        read(text, form, text_column=column)


@pytest.mark.parametrize(
    ("text", "form", "words"),
    [
        ('{"text": "a"}\n{"text": ', "jsonl", "line 2 is not JSON"),
        ('{"text": "a"}\n["a"]', "jsonl", "line 2 is not a JSON object, but list"),
        ('{"text": null}', "jsonl", "line 1: 'text' is not text"),
        ('{"text": ' + "[" * 100_000, "jsonl", "line 1 is not JSON"),
        ('{"text": ' + "9" * 10_000 + "}", "jsonl", "line 1"),
        ('{"text": "a\\ud800"}', "jsonl", "line 1 holds a lone surrogate"),
        ('{"text": "a\\u0000"}', "jsonl", "line 1 looks binary"),
        ("a,text\n1,2\n1,2,3\n", "csv", "line 3 has 3 fields; the header has 2"),
        ('a,text\n1,"2', "csv", "line 2 has a quote that is never closed .--quoting none"),
        ('a,text\n1,"2"3\n', "csv", "line 2 has a quoted field that continues after its closing"),
        ('a,text\n1, "2, 3"\n', "csv", "3 fields; the header has 2 .a quote after a blank"),
    ],
)
def test_broken_rows_name_their_line(text: str, form: str, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        read(text, form)


def test_escapes_that_are_no_text_are_replaced() -> None:
    assert read('{"text": "a\\ud800\\u0000"}', "jsonl", errors="replace") == ["a\ufffd\ufffd"]


def test_newlines_in_escapes() -> None:
    assert read('{"text": "a\\r\\nb\\rc"}', "jsonl") == ["a\nb\nc"]


def test_long_fields() -> None:
    value = "x" * 300_000  # the csv module stops at 131,072 by default
    assert read(f"text\n{value}\n", "csv") == [value]
    assert read(json.dumps({"text": value}), "jsonl", size=999) == [value]


@given(st.text(max_size=60), st.sampled_from(["csv", "tsv", "jsonl"]))
def test_any_text_gives_rows_or_a_sentence(text: str, form: str) -> None:
    try:
        found = read("text\n" + text, form)
    except CorpusError:
        return
    assert all(found)


def test_only_the_row_with_a_bad_quote_is_broken() -> None:
    text = (
        'a,text\n1,"ok\nok"\n2,"stray "quote"\n3,fine\n4,"never closed\n5,"quoted, too"\n\n'
        '6,"never\n7,x\n8,y,z\n'
    )
    whole = table(text, "csv")
    found = list(whole.rows())
    assert whole.columns == ["a", "text"]
    assert [row.line for row in found] == [2, 4, 5, 6, 7, 9, 10, 11]
    assert [bool(row.problem) for row in found] == [0, 1, 0, 1, 0, 1, 0, 1]
    assert found[0].values == ["1", "ok\nok"]
    assert found[0].raw == '1,"ok\nok"'
    assert found[3].raw == '4,"never closed'
    assert found[4].values == ["5", "quoted, too"]
    assert found[7].values == ["8", "y", "z"]
    assert str(whole.broken_row_error(found[5])) == (
        "t, line 9 has a quote that is never closed (--quoting none reads quotes as part of the "
        "text)"
    )


@given(st.lists(st.sampled_from(["a,b", '"', '"",', '1,"x"', '"y', 'z"', ",", ""]), max_size=30))
def test_no_line_is_lost(fields: list[str]) -> None:
    text = "a,b\n" + "".join(field + "\n" for field in fields)
    raw = [row.raw for row in table(text, "csv").rows()]
    assert "".join(raw).replace("\n", "") == "".join(fields)


def test_json_rows_keep_their_own_text() -> None:
    text = '{"b": 1, "a": [2]}\n\n {"x": NaN} \n[1]\nnull\n'
    whole = table(text, "jsonl")
    assert whole.columns == ["b", "a", "x"]
    found = list(whole.rows())
    assert [(row.line, list(row.names)) for row in found] == [
        (1, ["b", "a"]),
        (3, ["x"]),
        (4, []),
        (5, []),
    ]
    assert found[0].values == [1, [2]]
    assert found[1].raw == ' {"x": NaN} '
    assert [row.problem for row in found[2:]] == [
        "is not a JSON object, but list",
        "is not a JSON object, but NoneType",
    ]


def test_plain_text_is_a_table_of_one_column() -> None:
    whole = table("a\n\nbc\n", "plain", size=4)
    assert whole.columns == ["text"]
    assert [(row.line, *row.values) for row in whole.rows()] == [(1, "a"), (2, ""), (3, "bc")]


@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_headers(form: str) -> None:
    assert table("\n\n", form).columns == []
    assert list(table("\n\n", form).rows()) == []
    if form == "csv":
        with pytest.raises(CorpusError, match="line 2 has a quote that is never closed"):
            _ = table('\n"a\n', form).columns
