"""The page of a model, opened as a file in a real browser."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chargen.errors import ConfigError
from chargen.interchange.model_page import model_page
from chargen.language_model import LanguageModel
from chargen.lm.config import ModelConfig
from chargen.lm.model import create_network
from chargen.storage.checkpoint import Checkpoint
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
    model = create_network(ModelConfig(vocabulary_size=vocabulary.size, **chosen))
    with torch.no_grad():
        for parameter in model.parameters():
            # A plain RNN with larger weights is chaotic: it would make much of a rounding.
            parameter.normal_(std=0.15 if chosen.get("cell") == "rnn" else 0.4)
    return LanguageModel(model, vocabulary)


class Reader:
    """Somebody in front of the page."""

    def __init__(self, page: Any, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, lm: LanguageModel) -> None:
        """Open the page of a model, in place of the one before; forms are filled in by default."""
        file = self.folder / f"{sum(1 for _ in self.folder.iterdir())}.html"
        file.write_text(model_page(lm, "A <model> & more"), "utf-8")
        self.asked.clear()
        self.page.goto(file.as_uri())
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


@pytest.fixture(scope="module")
def reader(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Whose window shows one page after the other."""
    found = Reader(browser.new_page(), tmp_path_factory.mktemp("pages"))
    yield found
    found.page.close()


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"num_layers": 3, "tied": True},
        {"num_layers": 2, "tied": True, "ensemble": 2},
        {"cell": "gru", "num_layers": 2},
        {"cell": "rnn"},
        {"level": "byte", "cell": "gru", "tied": True},
        {"level": "byte", "documents": False},
    ],
)
def test_its_probabilities_are_the_models(reader: Reader, sizes: dict[str, Any]) -> None:
    lm = a_model(**sizes)
    reader.open(lm)
    written = reader.write(TEXT, length=60, seed=7)
    expected = lm.score(TEXT + written, as_is=True).log_probs
    np.testing.assert_allclose(reader.nats(), -expected, rtol=0, atol=1e-4)
    assert [url.partition(":")[0] for url in reader.asked] == ["file", "blob"]


@pytest.mark.parametrize("level", ["char", "byte"])
def test_no_label_is_ever_drawn(reader: Reader, level: str) -> None:
    lm = a_model(level, labels=["ann", "bob"])
    vocabulary = lm.vocabulary
    with torch.no_grad():
        lm.model.output.bias[vocabulary.first_label_id :] += 9
        lm.model.output.bias[vocabulary.separator_id] = -99
    reader.open(lm)
    written = reader.write("The", length=60, seed=7)
    assert len(written) == 60
    assert "null" not in written


def test_raw_bytes_are_refused() -> None:
    with pytest.raises(ConfigError, match="this model writes raw bytes"):
        model_page(a_model("raw"), "a")


def test_weights_that_are_stored_in_half_are_the_same(reader: Reader) -> None:
    lm = a_model()
    whole = model_page(lm, "a")
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.copy_(parameter.half().float())
        lm.model.output.weight[0, :3] = torch.tensor([2.0**-24, -(2.0**-15), 7.0])
    assert len(model_page(lm, "a")) < 0.75 * len(whole)
    reader.open(lm)
    reader.write(TEXT, length=0)
    expected = lm.score(TEXT, as_is=True).log_probs
    np.testing.assert_allclose(reader.nats(), -expected, rtol=0, atol=1e-4)


def test_a_seed_gives_its_text_and_options_do_what_they_say(reader: Reader) -> None:
    lm = a_model(documents=False)
    reader.open(lm)
    first = reader.write("The", length=80, seed=4)
    second = reader.write("The", "Another")
    assert reader.page.locator("#seed").input_value() == "5"
    assert (len(first), len(second)) == (80, 80)
    assert reader.write("The", seed=4) == first != second
    likeliest = lm.generate("The", max_chars=80, temperature=0)
    assert reader.write("The", temperature=0) == likeliest
    assert reader.write("The", temperature=2, top_k=1) == likeliest
    assert reader.write("The", temperature=0.8, top_k="") == first
    assert reader.write("The", temperature=2) != first


def test_the_model_may_end_the_text(reader: Reader) -> None:
    lm = a_model()
    with torch.no_grad():
        lm.model.output.bias[lm.vocabulary.separator_id] = 30
    reader.open(lm)
    assert reader.write("The sea") == ""
    assert "the model ended the text" in reader.page.locator("#status").inner_text()


def test_bytes_make_whole_characters(reader: Reader) -> None:
    lm = a_model("byte", documents=False)
    with torch.no_grad():
        lm.model.output.bias[128:] += 3
    reader.open(lm)
    written = reader.write("\ufeff\u00e9", length=50, temperature=1.5)
    assert len(written) == 50
    assert "\ufffd" not in written
    assert max(written) > "\x7f"


def test_unknown_characters_are_said_and_shown(reader: Reader) -> None:
    lm = a_model()
    reader.open(lm)
    reader.write("The \u732b was \u732b Q", length=0)
    assert '"\u732b", "Q"' in reader.page.locator("#unknown").inner_text()
    reader.write("The sea", length=0)
    assert reader.page.locator("#unknown").inner_text() == ""


def test_a_prompt_is_read_as_the_model_reads_it(reader: Reader) -> None:
    lm = a_model()
    corpus = {"config": {"normalize": "NFC"}}
    lm.checkpoint = Checkpoint("language-model", documents={"config": {"corpus": corpus}})
    reader.open(lm)
    reader.page.fill("#prompt", "e\u0301tonnant")
    reader.page.fill("#temperature", "0")
    reader.page.get_by_role("button", name="Write", exact=True).click()
    reader.page.locator("#write:enabled").wait_for()
    assert reader.page.locator("#unknown").inner_text() == ""
    text = lm.generate("e\u0301tonnant", temperature=0)
    assert reader.page.locator("#text").text_content() == "\u00e9tonnant" + text


def test_a_long_text_can_be_stopped(reader: Reader) -> None:
    reader.open(a_model(documents=False, hidden_size=256, num_layers=2))
    reader.page.fill("#length", "20000")
    reader.page.get_by_role("button", name="Write").click()
    reader.page.locator("#text span").nth(20).wait_for()
    reader.page.get_by_role("button", name="Stop").click()
    reader.page.locator("#status", has_text="stopped").wait_for()
    before = reader.page.locator("#text span").count()
    assert len(reader.write("The", length=10)) == 10  # and another text begins
    assert before < 20000


@pytest.mark.parametrize("again", ["reload", "go_back"])
def test_what_is_shown_is_what_is_set(reader: Reader, again: str) -> None:
    reader.open(a_model())
    page = reader.page
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
    phone = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=touch)
    page = phone.new_page()
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
    phone.close()


def test_the_weights_are_counted_in_plain_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = a_model()
    assert f", {lm.model.num_parameters():,} weights, " in model_page(lm, "a")
    monkeypatch.setattr(lm.model, "num_parameters", lambda: 123_456_789)  # was 1.2e+02 million
    assert ", 123,456,789 weights, " in model_page(lm, "a")


def test_the_title_is_text(reader: Reader) -> None:
    reader.open(a_model())
    page = reader.page
    assert page.title() == page.locator("h1").inner_text() == "A <model> & more"


@pytest.mark.parametrize("level", ["char", "byte"])
def test_a_model_that_reads_from_the_end_is_refused(level: str) -> None:
    with pytest.raises(ConfigError, match="reads from the end of a text: export it with"):
        model_page(a_model(level, direction="backward"), "model")
