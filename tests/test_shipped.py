"""The models that come with the package are found by name, are small and do what they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargen.language_model import LanguageModel
from chargen.sentiment.classifier import Classifier
from chargen.storage import shipped

LARGEST = 16 * 1024 * 1024


def test_all_are_there() -> None:
    assert {"reviews", "reviews-backward", "sentiment"} <= set(shipped.models())


@pytest.mark.parametrize("name", ["reviews", "reviews-backward", "sentiment"])
def test_small_with_a_card_and_no_path_of_a_machine(name: str) -> None:
    folder = shipped.resolve(Path(name))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    for heading in ("## Data", "## Recipe", "## Figures", "## Limits"):
        assert heading in card
    config = (folder / "config.json").read_text(encoding="utf-8")
    assert '"/' not in config
    assert not (folder / "training").exists()


def test_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("sentiment", "checkpoints/sentiment"):
        assert Classifier.load(name).labels == ("neg", "pos")


def test_a_folder_where_the_user_stands_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sentiment").mkdir()
    assert shipped.resolve(Path("sentiment")) == Path("sentiment")
    assert shipped.resolve(Path("a/b/sentiment")) == Path("a/b/sentiment")
    assert shipped.resolve(tmp_path / "none") == tmp_path / "none"


def test_what_it_is_for() -> None:
    classifier = Classifier.load("sentiment")
    texts = ["A quiet, wonderful film.", "Two hours I will never get back."]
    assert classifier.predict(texts) == ["pos", "neg"]
    chances = classifier.predict_proba(texts)
    assert chances.sum(-1) == pytest.approx([1, 1], abs=1e-5)


def test_texts_much_shorter_than_those_of_training() -> None:
    texts = ["I loved it.", "Great movie!", "A dull, stupid mess.", "Awful."]
    assert Classifier.load("sentiment").predict(texts) == ["pos", "pos", "neg", "neg"]


def test_an_end_that_turns_against_the_beginning() -> None:
    text = "It starts well. Then it dies, slowly and without grace."
    explanation = Classifier.load("sentiment").explain(text)
    assert explanation.verdict == "neg"
    assert explanation.curve[-1] == pytest.approx(1 - explanation.probability, abs=1e-4)


def test_the_reader_writes_english() -> None:
    lm = LanguageModel.load("reviews")
    text = "I watched this film with my family and we all liked the story."
    assert lm.score(text).bits_per_char < 2.2
    assert " the " in lm.generate("This movie", max_chars=400, seed=1)


def test_the_other_reader_reads_from_the_end() -> None:
    lm = LanguageModel.load("reviews-backward")
    assert lm.backward
    assert lm.vocabulary == LanguageModel.load("reviews").vocabulary
    text = "I watched this film with my family and we all liked the story."
    assert lm.score(text).bits_per_char < 2.4
