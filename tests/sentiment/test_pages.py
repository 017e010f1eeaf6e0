from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from chargen.plotting.explanation import explanation_figure, page, unit_histogram, verdict
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.explain import SentimentUnit, explain, find_unit, leave_out
from chargen.sentiment.members import NetworkMember

from .making import CHARS, make_lm, make_network

NASTY = (
    "a <script>alert(\"x\")</script> & <b>'q'</b>\x1b[31m\u202egnp\x00 é☃\nhttps://evil.example/"
)
VOID = {"meta", "rect", "line", "polyline", "polygon", "br"}


class Checked(HTMLParser):
    """Follows a page, and notices what is not closed or leads elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        where = self.open[-1] if self.open else ""
        self.texts[where] = self.texts.get(where, "") + data
        if "text" in self._classes():
            self.texts["painted"] = self.texts.get("painted", "") + data

    def _classes(self) -> set[str]:
        boxes = [attrs for tag, attrs in self.seen if tag == "div"]
        inside = "div" in self.open and boxes
        return set((boxes[-1].get("class") or "").split()) if inside else set()


def classifier(labels: tuple[str, ...] = ("bad", "good")) -> Classifier:
    network = make_network(make_lm(), num_classes=len(labels))
    return Classifier([NetworkMember(network, [CHARS])], labels)


def a_unit(labels: tuple[str, str] = ("bad", "good")) -> SentimentUnit:
    chance = np.random.default_rng(0)
    return find_unit(
        chance.normal(size=(60, 24)).astype(np.float32), [labels[i % 2] for i in range(60)]
    )


def test_the_page_is_whole_and_shows_the_text_twice() -> None:
    judge = classifier()
    text = "the river was cold.\n\nA lamp <fell> & é"
    found = Checked(page(leave_out(judge, explain(judge, text))))
    assert found.open == []
    assert found.texts["painted"] == text * 2
    assert found.seen[0][0] == "html"
    assert {"charset": "utf-8"} in [attrs for tag, attrs in found.seen if tag == "meta"]
    viewport = next(attrs for _, attrs in found.seen if attrs.get("name") == "viewport")
    assert "device-width" in (viewport["content"] or "")
    assert "prefers-color-scheme: dark" in found.texts["style"]
    points = [attrs["points"] or "" for tag, attrs in found.seen if tag == "polyline"]
    assert len(points[0].split()) == len(text) + 1


def test_nothing_in_the_text_or_the_labels_acts() -> None:
    labels = ("<i>bad</i>", 'go"od\u202e')
    judge = classifier(labels)
    made = page(explain(judge, NASTY), a_unit(labels), np.zeros(len(NASTY) + 1, np.float32))
    found = Checked(made)
    tags = {tag for tag, _ in found.seen}
    assert not tags & {"script", "a", "img", "link", "iframe"}
    for character in ("\x1b", "\u202e", "\x00"):
        assert character not in made
    assert "\\u202e" in found.texts["painted"]
    for _, attrs in found.seen:
        assert not attrs.keys() & {"src", "href", "onload", "onclick", "action"}
    assert "@import" not in made
    assert "http" not in made.replace("https://evil.example/", "").replace("http-equiv", "")
    assert "url(#" in made
    assert made.count("url(") == made.count("url(#")


@pytest.mark.parametrize("text", ["", "x", "\n", "☃", "a " * 3000])
def test_any_length_makes_a_page(text: str) -> None:
    assert Checked(page(explain(classifier(("a", "b", "c")), text))).open == []


def test_the_unit_has_its_histogram_and_its_text() -> None:
    text = "a river"
    values = np.linspace(-1, 1, len(text) + 1).astype(np.float32)
    found = Checked(page(explain(classifier(), text), a_unit(), values))
    assert found.texts["painted"] == text * 3
    kinds = [attrs.get("class") for tag, attrs in found.seen if tag == "rect"]
    assert {"above", "below"} <= set(kinds)


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (1.0, "100.0%"),
        (0.9996, "over 99.9%"),
        (0.999, "99.9%"),
        (4e-4, "under 0.1%"),
        (0.0, "0.0%"),
    ],
)
def test_only_what_is_certain_has_all_percent(share: float, shown: str) -> None:
    assert f"<h1>yes, {shown}</h1>" in verdict({"yes": share})


# ---------------------------------------------------------------- pictures

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("text", ["$x_1$ 50% of a river\n\tcafé \x1b[0m", "", "x" * 300])
def test_a_picture_is_a_png_and_no_letter_is_mathematics(text: str) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    data = explanation_figure(explain(classifier(("a$b", "$c")), text))
    assert data.startswith(SIGNATURE)
    assert data == explanation_figure(explain(classifier(("a$b", "$c")), text))


def test_a_histogram_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    assert unit_histogram(a_unit(("_a", "b$x$"))).startswith(SIGNATURE)
