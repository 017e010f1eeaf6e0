"""The page of a model, opened as a file in a real browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chargen.errors import ConfigError
from chargen.interchange.model_page import model_page
from chargen.language_model import LanguageModel
from chargen.lm.config import ModelConfig
from chargen.lm.model import CharLM
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary, RawVocabulary, Vocabulary

TEXT = 'The sea was <grey> & "\u00e9tonnant";\nnobody\u2028 spoke \U0001f40b </script> {{page}}. '


def a_model(
    level: str = "char", documents: bool = True, labels: Sequence[str] = (), **sizes: Any
) -> LanguageModel:
    """A model with random weights that are large enough to matter."""
    vocabulary: Vocabulary
    if level == "char":
        vocabulary = CharVocabulary("".join(sorted(set(TEXT))), documents, labels=labels)
    elif level == "raw":
        vocabulary = RawVocabulary(documents)
    else:
        vocabulary = ByteVocabulary(documents, labels)
    rates = {"dropout": 0.5, "embedding_dropout": 0.2, "weight_dropout": 0.2}
    chosen = {"hidden_size": 25, "num_layers": 1, "embedding_size": 10, **rates, **sizes}
    torch.manual_seed(3)
    model = CharLM(ModelConfig(vocabulary_size=vocabulary.size, **chosen))
    with torch.no_grad():
        for parameter in model.parameters():
            # A plain RNN with larger weights is chaotic: it would make much of a rounding.
            parameter.normal_(std=0.15 if chosen.get("cell") == "rnn" else 0.4)
    return LanguageModel(model, vocabulary)


class Reader:
    """Somebody in front of the page."""

    def __init__(self, browser: Any, lm: LanguageModel, folder: Path) -> None:
        (folder / "model.html").write_text(model_page(lm, "A <model> & more"), "utf-8")
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page = browser.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto((folder / "model.html").as_uri())
        self.page.locator("#status", has_text="ready").wait_for()

    def write(self, prompt: str, button: str = "Write", **wishes: float | str) -> str:
        """The text that comes after the prompt."""
        self.page.fill("#prompt", prompt)
        for name, value in wishes.items():
            self.page.fill(f"#{name.replace('_', '-')}", str(value))
        self.page.get_by_role("button", name=button, exact=True).click()
        self.page.locator("#write:enabled").wait_for()
        text: str = self.page.locator("#text").text_content()
        assert text.startswith(prompt)
        assert self.errors == []
        return text.removeprefix(prompt)

    def nats(self) -> list[float]:
        """Surprise of each character on the page."""
        read = "spans => spans.map(span => Number(span.dataset.bits))"
        found = self.page.locator("#text span").evaluate_all(read)
        return [value * math.log(2) for value in found]


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"num_layers": 3, "tied": True},
        {"cell": "gru", "num_layers": 2},
        {"cell": "rnn"},
        {"level": "byte", "cell": "gru", "tied": True},
        {"level": "byte", "documents": False},
    ],
)
def test_its_probabilities_are_the_models(
    browser: Any, tmp_path: Path, sizes: dict[str, Any]
) -> None:
    lm = a_model(**sizes)
    page = Reader(browser, lm, tmp_path)
    written = page.write(TEXT, length=60, seed=7)
    expected = lm.score(TEXT + written, as_is=True).log_probs
    np.testing.assert_allclose(page.nats(), -expected, rtol=0, atol=1e-4)
    assert [url.partition(":")[0] for url in page.asked] == ["file", "blob"]


@pytest.mark.parametrize("level", ["char", "byte"])
def test_no_label_is_ever_drawn(browser: Any, tmp_path: Path, level: str) -> None:
    lm = a_model(level, labels=["ann", "bob"])
    vocabulary = lm.vocabulary
    with torch.no_grad():
        lm.model.output.bias[vocabulary.first_label_id :] += 9
        lm.model.output.bias[vocabulary.separator_id] = -99
    written = Reader(browser, lm, tmp_path).write("The", length=60, seed=7)
    assert len(written) == 60
    assert "null" not in written


def test_raw_bytes_are_refused() -> None:
    with pytest.raises(ConfigError, match="this model writes raw bytes"):
        model_page(a_model("raw"), "a")


def test_weights_that_are_stored_in_half_are_the_same(browser: Any, tmp_path: Path) -> None:
    lm = a_model()
    whole = model_page(lm, "a")
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.copy_(parameter.half().float())
        lm.model.output.weight[0, :3] = torch.tensor([2.0**-24, -(2.0**-15), 7.0])
    assert len(model_page(lm, "a")) < 0.75 * len(whole)
    page = Reader(browser, lm, tmp_path)
    page.write(TEXT, length=0)
    expected = lm.score(TEXT, as_is=True).log_probs
    np.testing.assert_allclose(page.nats(), -expected, rtol=0, atol=1e-4)


def test_a_seed_gives_its_text_and_options_do_what_they_say(browser: Any, tmp_path: Path) -> None:
    lm = a_model(documents=False)
    page = Reader(browser, lm, tmp_path)
    first = page.write("The", length=80, seed=4)
    second = page.write("The", "Another")
    assert page.page.locator("#seed").input_value() == "5"
    assert (len(first), len(second)) == (80, 80)
    assert page.write("The", seed=4) == first != second
    likeliest = lm.generate("The", max_chars=80, temperature=0)
    assert page.write("The", temperature=0) == likeliest
    assert page.write("The", temperature=2, top_k=1) == likeliest
    assert page.write("The", temperature=0.8, top_k="") == first
    assert page.write("The", temperature=2) != first


def test_the_model_may_end_the_text(browser: Any, tmp_path: Path) -> None:
    lm = a_model()
    with torch.no_grad():
        lm.model.output.bias[lm.vocabulary.separator_id] = 30
    page = Reader(browser, lm, tmp_path)
    assert page.write("The sea") == ""
    assert "the model ended the text" in page.page.locator("#status").inner_text()


def test_bytes_make_whole_characters(browser: Any, tmp_path: Path) -> None:
    lm = a_model("byte", documents=False)
    with torch.no_grad():
        lm.model.output.bias[128:] += 3
    written = Reader(browser, lm, tmp_path).write("\u00e9", length=50, temperature=1.5)
    assert len(written) == 50
    assert "\ufffd" not in written
    assert max(written) > "\x7f"


def test_unknown_characters_are_said_and_shown(browser: Any, tmp_path: Path) -> None:
    lm = a_model()
    page = Reader(browser, lm, tmp_path)
    page.write("The \u732b was \u732b Q", length=0)
    assert '"\u732b", "Q"' in page.page.locator("#unknown").inner_text()
    page.write("The sea", length=0)
    assert page.page.locator("#unknown").inner_text() == ""


def test_a_long_text_can_be_stopped(browser: Any, tmp_path: Path) -> None:
    page = Reader(browser, a_model(documents=False, hidden_size=256, num_layers=2), tmp_path)
    page.page.fill("#length", "20000")
    page.page.get_by_role("button", name="Write").click()
    page.page.locator("#text span").nth(20).wait_for()
    page.page.get_by_role("button", name="Stop").click()
    page.page.locator("#status", has_text="stopped").wait_for()
    before = page.page.locator("#text span").count()
    assert len(page.write("The", length=10)) == 10  # and another text begins
    assert before < 20000


@pytest.mark.parametrize("again", ["reload", "go_back"])
def test_what_is_shown_is_what_is_set(browser: Any, tmp_path: Path, again: str) -> None:
    page = Reader(browser, a_model(), tmp_path).page
    page.fill("#temperature", "1.5")
    page.uncheck("#surprise")
    if again == "go_back":
        page.goto("about:blank")
    getattr(page, again)()  # browsers fill forms in again, as they were left
    page.locator("#status", has_text="ready").wait_for()
    shown = page.locator("#temperature-shown").inner_text()
    assert float(shown) == float(page.locator("#temperature").input_value())
    plain = "document.getElementById('text').classList.contains('plain')"
    assert page.evaluate(plain) != page.locator("#surprise").is_checked()


@pytest.mark.parametrize("touch", [False, True])
def test_a_character_tells_its_bits(browser: Any, tmp_path: Path, touch: bool) -> None:
    lm = a_model()
    (tmp_path / "model.html").write_text(model_page(lm, "model"), "utf-8")
    page = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=touch).new_page()
    page.goto((tmp_path / "model.html").as_uri())
    page.fill("#prompt", "sea")
    page.fill("#length", "0")
    page.locator("#write:enabled").click()
    letter = page.locator("#text span", has_text="e")
    letter.tap() if touch else letter.hover()
    bits = -lm.score("sea", as_is=True).log_probs[1] / math.log(2)
    assert page.locator("#reading").inner_text().startswith(f'"e": {bits:.2f} bits, a chance of ')
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide == 390


def test_the_title_is_text(browser: Any, tmp_path: Path) -> None:
    page = Reader(browser, a_model(), tmp_path).page
    assert page.title() == page.locator("h1").inner_text() == "A <model> & more"


@pytest.mark.parametrize("level", ["char", "byte"])
def test_a_model_that_reads_from_the_end_is_refused(level: str) -> None:
    with pytest.raises(ConfigError, match="reads from the end of a text: export it with"):
        model_page(a_model(level, direction="backward"), "model")
