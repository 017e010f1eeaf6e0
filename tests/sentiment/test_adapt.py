"""The language model reads the domain's texts first."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest
import torch

from chargen.lm.evaluation import mean_nats
from chargen.lm.model import CharLM
from chargen.sentiment import adapt as adapt_module
from chargen.sentiment.adapt import adapt
from chargen.text.vocabulary import CharVocabulary, Vocabulary
from chargen.training import loop
from chargen.training.language_modelling import LanguageModelling

from .making import BYTES, CHARS, Ears, make_lm, planted

TEXTS = planted(300).texts


def read(
    model: CharLM,
    vocabulary: Vocabulary = CHARS,
    texts: tuple[str, ...] = TEXTS,
    minutes: float = 0.02,
    seed: int = 0,
    reporter: Any = None,
) -> Ears:
    ears = reporter or Ears()
    adapt(model, vocabulary, texts, minutes, seed, "float32", 1e9, ears)
    return ears


def nats(model: CharLM, text: str) -> float:
    ids = CHARS.encode(text[::-1] if model.config.direction == "backward" else text)
    return mean_nats(model.eval(), ids, CHARS.start_id)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which every look takes a tenth of a second, so that a budget is of steps."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: 0.1 * next(ticks))


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_it_learns_to_read_in_its_own_direction(direction: str) -> None:
    model = make_lm(hidden_size=24, direction=direction)
    unseen = "\n".join(planted(40, seed=1).texts)
    before = nats(model, unseen)
    ears = read(model, minutes=0.15)
    assert nats(model, unseen) < before - 0.5
    assert ears.steps
    assert ears.closed == 1


@pytest.mark.usefixtures("clock")
def test_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Spy(LanguageModelling):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            seen.update(train=arguments[2], valid=arguments[3], rate=self.config.learning_rate)

    monkeypatch.setattr(adapt_module, "LanguageModelling", Spy)
    documents = CharVocabulary(CHARS.characters, documents=True)
    for vocabulary, between in ((CHARS, "\n"), (documents, None)):
        for direction in ("forward", "backward"):
            model = make_lm(vocabulary, direction=direction)
            read(model, vocabulary, minutes=0.01)
            ids = np.concatenate([seen["train"], seen["valid"]])
            if direction == "backward":
                ids = ids[::-1]
            if between is None:
                assert (ids == documents.separator_id).sum() == len(TEXTS) - 1
            text = vocabulary.decode(ids)  # a separator reads as a newline
            assert sorted(text.split("\n")) == sorted(TEXTS)
            assert text.split("\n") != list(TEXTS)
            assert 0 < len(seen["valid"]) <= len(ids) // 20
    assert seen["rate"] == pytest.approx(0.5 * 6e-3)


@pytest.mark.usefixtures("clock")
def test_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for seed in (0, 0, 1):
        ticks = iter(range(10**6))
        monkeypatch.setattr(loop.time, "perf_counter", lambda ticks=ticks: 0.1 * next(ticks))
        model = make_lm(dropout=0.2)
        read(model, minutes=0.02, seed=seed)
        results.append(model.state_dict())
    names = results[0]
    assert all(torch.equal(results[0][name], results[1][name]) for name in names)
    assert not all(torch.equal(results[0][name], results[2][name]) for name in names)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    "texts",
    [("a", "b"), ("ab", "c"), ("one text of a few words",), ("★", "ß"), ("x" * 5000,)],
)
def test_hardly_anything_to_read(texts: tuple[str, ...]) -> None:
    model = make_lm()
    read(model, texts=texts, minutes=0.005)
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.usefixtures("clock")
def test_texts_that_have_no_bytes() -> None:
    model = make_lm(BYTES)
    read(model, BYTES, ("a \ud800 text", "and \udfff another") * 20, minutes=0.005)
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.usefixtures("clock")
def test_an_interruption_ends_it() -> None:
    ears = Ears(lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 3 else None)
    with pytest.raises(KeyboardInterrupt):
        read(make_lm(), minutes=5, reporter=ears)
    assert len(ears.steps) == 3
    assert ears.closed == 1
