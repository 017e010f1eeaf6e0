"""HTML as text, and corpora that are read through it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.errors import ConfigError
from chargen.language_model import LanguageModel
from chargen.storage.checkpoint import Checkpoint
from chargen.text.building import fingerprint
from chargen.text.config import CorpusConfig
from chargen.text.html import clean_html
from chargen.text.sources import read_all, resolve
from chargen.text.symbols import SEPARATOR

from ..sentiment.making import CHARS, make_lm

HTML = CorpusConfig(clean="html")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a<br />b<br/>c<BR>d</br>e", "a\nb\nc\nd\ne"),
        ("a<br /><br />b", "a\n\nb"),
        ("a<br><br><br><br>b", "a\n\nb"),
        ("<p>one</p><p class='x'>two</p>", "one\n\ntwo"),
        ("an <i>odd</i> <a href='x?a=1&b=2'>link</a>", "an odd link"),
        ("Tom &amp; Jerry &lt;3 &quot;fish&quot; caf&eacute; &#39;x&#39; &#x1F600;", None),
        ("a<!-- hidden <b> -->b", "ab"),
        ("<!DOCTYPE html><html><body>a</body></html>", "a"),
        ("<?xml version='1.0'?>a", "a"),
        ("a<script>if (a < b) alert('</p>')</script >b", "ab"),
        ("a<STYLE type='x'>p { }</Style>b", "ab"),
        ("a<script>b", "ab"),
        ("a<script/>b", "ab"),
        ("İ<script>x</script>b", "İb"),
        ("a&#13;b&#13;&#10;c", "a\nb\nc"),
        ("&#0;&#xD800;", "\ufffd\ufffd"),
        ("&#" + "9" * 5000 + ";", "&#" + "9" * 5000 + ";"),
        ("  &lt;b&gt; stays  ", "<b> stays"),
    ],
)
def test_markup(text: str, plain: str | None) -> None:
    if plain is None:
        plain = "Tom & Jerry <3 \"fish\" café 'x' 😀"
    assert clean_html(text) == plain


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d",
        "i <3 it, then </3",
        "5<6",
        "AT&T, R&B, Q & A",
        "<<<<< watch this >>>>>",
        "mail <john@example.org> or <http://example.org/a>",
        "<",
        "a <b",
        "x <y and z",
        "<![foo[ bar",
        "<!-- never closed",
        "</",
        "  spaces around stay without markup\n\n\n\n",
        "",
    ],
)
def test_what_is_no_markup_stays(text: str) -> None:
    assert clean_html(text) == text


@given(st.text(st.sampled_from("<>&/!-?;#abrp \n\"'=[]"), max_size=60))
def test_any_text_has_one(text: str) -> None:
    found = clean_html(text)
    assert "\r" not in found
    if not re.search("[<&]", text):
        assert found == text


def test_long_texts() -> None:
    text = "<br>word &amp; " * 50_000
    assert clean_html(text).count("&") == 50_000
    assert clean_html("<" * 500_000) == "<" * 500_000
    assert len(clean_html("<a " * 200_000)) == 600_000 - 1  # the space at the end


class TestCorpora:
    def test_rows(self, tmp_path: Path) -> None:
        path = tmp_path / "t.jsonl"
        rows = ["a<br />b", "<p></p>", "c &amp; d"]
        path.write_text("\n".join(json.dumps({"text": row}) for row in rows))
        config = CorpusConfig(clean="html", documents="rows")
        assert read_all([str(path)], config) == f"a\nb{SEPARATOR}c & d{SEPARATOR}"
        assert read_all([str(path)], HTML) == "a\nb\nc & d\n"

    def test_plain_text_line_by_line(self, tmp_path: Path) -> None:
        path = tmp_path / "t.txt"
        path.write_text("a<br /><br />b\n\n<i\n>x</i>\nend &amp;")
        assert read_all([str(path)], HTML) == "a\n\nb\n\n<i\n>x\nend &"

    def test_a_line_that_is_a_document_stays_one(self, tmp_path: Path) -> None:
        path = tmp_path / "t.txt"
        path.write_text("a<br /><br />b\n\n<br>\nc")
        config = CorpusConfig(clean="html", documents="lines")
        assert read_all([str(path)], config).replace(SEPARATOR, "|") == "a\n\nb|c|"

    def test_the_fingerprint_tells(self, tmp_path: Path) -> None:
        path = tmp_path / "t.txt"
        path.write_text("x")
        found = resolve([str(path)], HTML)
        assert fingerprint(found, HTML) != fingerprint(found, CorpusConfig())

    def test_other_values(self) -> None:
        with pytest.raises(ConfigError, match="--clean must be 'html'"):
            CorpusConfig(clean="xml")

    def test_a_model_reads_as_it_was_trained(self, tmp_path: Path) -> None:
        table = tmp_path / "t.csv"
        table.write_text("text\na\n")
        for trained, asked, expected in (
            ({"clean": "html", "documents": "rows"}, None, "html"),
            ({"documents": "rows"}, None, None),  # by a version that could not clean
            ({"clean": None, "documents": "rows"}, "html", "html"),
        ):
            stored = Checkpoint("language-model", {"config": {"corpus": {"config": trained}}})
            model = LanguageModel(make_lm(), CHARS, stored)
            config = model.reading(CorpusConfig(clean=asked), [table])
            assert config == CorpusConfig(clean=expected, documents="rows")
