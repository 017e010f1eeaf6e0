"""Every tab used as a person would, in a real browser."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chargen
from chargen.plotting.heatmap import surprise_step
from chargen.web.jobs import Job

from .conftest import TEXT, Person


@pytest.fixture
def person(phone: Any, address: str) -> Iterator[Person]:
    """Somebody who has just opened the page."""
    found = Person(phone, address)
    yield found
    found.page.close()


def test_writes_what_the_library_writes_and_paints_its_surprise(
    person: Person, models: Path
) -> None:
    person.fill("Prompt", "the dog")
    person.press("Write")
    person.wait_for("#write-note", " in ")
    lm = chargen.load(models / "fox")
    expected = lm.generate("the dog", max_chars=500, seed=0)
    person.shows("#written .written", "the dog" + expected)
    person.press("Another")
    (drawn,) = lm.sample("the dog", max_chars=500, seed=1)
    person.shows("#written .written", "the dog" + drawn.text)
    assert person.page.locator("#written .written .s1").count() == 0
    person.page.get_by_label("Show how surprising").check()
    person.press("Write")
    person.page.locator("#written .written .s1").first.wait_for()
    person.shows("#written .written", "the dog" + drawn.text)
    steps = [surprise_step(-value / math.log(2)) for value in drawn.log_probs]
    for step in range(1, 6):
        painted = person.page.locator(f"#written .written .s{step}").all_text_contents()
        assert sum(map(len, painted)) == steps.count(step)


@pytest.fixture(scope="class")
def visitor(phone: Any, address: str) -> Iterator[Person]:
    """Somebody who stays for all tests of a class: opening the page takes longer than using it."""
    found = Person(phone, address)
    yield found
    found.page.close()


class TestVisitor:
    def test_the_browser_asks_nobody_but_this_machine(self, visitor: Person, address: str) -> None:
        for tab in ("Sentiment", "Train", "Write"):
            visitor.go_to(tab)
        visitor.press("Write")
        visitor.wait_for("#write-note", " in ")
        elsewhere = [
            url for url in visitor.asked if not url.startswith((address, "data:", "blob:"))
        ]
        assert elsewhere == []

    def test_judges_a_text_and_shows_how_the_verdict_moved(self, visitor: Person) -> None:
        visitor.go_to("Sentiment")
        visitor.fill("Text", "A quiet, <b>wonderful</b> film.")
        visitor.press("Judge")
        shown = visitor.wait_for("#verdict", "The verdict so far")
        assert shown.startswith("pos,")
        assert visitor.page.locator("#verdict svg").count() == 1
        assert "wonderful" in shown
        visitor.fill("Text", "  ")
        visitor.press("Judge")
        visitor.wait_for("#verdict", "there is no text")

    @pytest.mark.slow
    def test_a_pasted_megabyte_is_judged_without_a_trace(self, visitor: Person) -> None:
        visitor.go_to("Sentiment")
        visitor.paste("Text", "A quiet, wonderful film. " * 40_000)
        visitor.press("Judge")
        shown = visitor.wait_for("#verdict", "No trace")
        assert shown.startswith("pos,")
        assert "1,000,000 characters" in shown
        assert "the first 100,000" in shown

    def test_mistakes_are_told_in_a_sentence(self, visitor: Person) -> None:
        visitor.go_to("Train")
        visitor.press("Train")
        visitor.wait_for("#train-problem", "the name of a model may contain")
        visitor.fill("Name of the model", "fox")
        visitor.fill("Text", "some text")
        visitor.press("Train")
        visitor.wait_for("#train-problem", "the name fox is already used")

    def test_a_long_text_can_be_stopped(self, visitor: Person) -> None:
        visitor.go_to("Write")
        visitor.page.get_by_label("number input for Length in characters").fill("5000")
        visitor.page.get_by_role("combobox").first.click()
        visitor.page.get_by_role("option", name="slow").click()
        visitor.press("Write")
        visitor.wait_for("#write-note", "so far")
        visitor.press("Stop")
        visitor.page.wait_for_timeout(600)
        before = visitor.text("#written")
        visitor.page.wait_for_timeout(600)
        assert visitor.text("#written") == before  # what there is stays, and no more comes
        assert "so far" in visitor.text("#write-note")


def test_trains_on_an_uploaded_file_and_writes_with_it(
    person: Person, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "hound.txt").write_bytes(TEXT.encode("utf-16"))
    person.go_to("Train")
    person.choose_file(tmp_path / "hound.txt")
    person.fill("Name of the model", "hound")
    person.fill("Minutes", "0.05")
    person.press("Train")
    person.wait_for("#train-state", "hound is ready")
    assert person.text("#train-sample").strip()
    person.press("Write with it")
    person.press("Write")
    person.wait_for("#write-note", " in ")
    assert person.page.get_by_role("combobox").first.input_value() == "hound"
    expected = chargen.load(folder / "hound").generate(max_chars=500, seed=0)
    person.shows("#written .written", expected)


def test_the_curve_has_types_and_both_lines_from_the_beginning() -> None:
    pytest.importorskip("gradio", reason="needs chargen[web]")
    from chargen.web.page import curve_frame

    job = Job("fox", training=[(100, 4.0), (200, 3.0)], validation=[(150, 3.5)])
    for found in (None, Job("fox"), job):
        frame = curve_frame(found)
        assert list(frame.dtypes[:2]) == ["float64", "float64"]
        assert set(frame["text"]) == {"training", "validation"}
    assert frame["bits per character"].dropna().tolist() == [4.0, 3.0, 3.5]


def test_a_cancelled_training_is_kept_and_two_see_the_same(
    phone: Any, person: Person, address: str, folder: Path
) -> None:
    other = Person(phone, address)
    person.go_to("Train")
    person.paste("Text", TEXT * 8)  # a hundred kilobytes
    person.fill("Name of the model", "long")
    person.fill("Minutes", "10")
    person.press("Train")
    person.wait_for("#train-state", "long is being trained")
    other.press("Write")  # while the first one trains
    other.wait_for("#write-note", " in ")
    other.go_to("Train")
    other.wait_for("#train-state", "long is being trained")
    other.fill("Text", TEXT)
    other.fill("Name of the model", "mine")
    other.press("Train")
    other.wait_for("#train-problem", "long is being trained: wait")
    person.press("Cancel")
    person.wait_for("#train-state", "long was stopped")
    other.wait_for("#train-state", "long was stopped")
    other.page.close()
    assert chargen.load(folder / "long").generate(max_chars=5)
    assert (folder / "long.txt").read_text() == TEXT * 8
