"""A language model reads the texts of a domain in place."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest
import torch

from chargen.lm.config import TrainConfig
from chargen.lm.evaluation import mean_nats
from chargen.lm.model import CharLM
from chargen.text.vocabulary import CharVocabulary, Vocabulary, replace_surrogates
from chargen.training import continuing
from chargen.training.language_modelling import LanguageModelling

from .making import BYTES, CHARS, Recorder, make_lm, separable

TEXTS = separable(300).texts


def read(
    model: CharLM,
    vocabulary: Vocabulary = CHARS,
    texts: tuple[str, ...] = TEXTS,
    steps: int = 5,
    seed: int = 0,
    reporter: Any = None,
) -> Recorder:
    recorder = reporter or Recorder()
    config = TrainConfig(steps=steps, seed=seed)
    continuing.adapt(model, vocabulary, texts, config, "float32", 1e9, recorder)
    return recorder


def nats(model: CharLM, text: str) -> float:
    ids = CHARS.encode(text[::-1] if model.config.direction == "backward" else text)
    return mean_nats(model.eval(), ids, CHARS.start_id)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_it_learns_to_read_in_its_own_direction(direction: str) -> None:
    model = make_lm(hidden_size=24, direction=direction)
    unseen = "\n".join(separable(40, seed=1).texts)
    before = nats(model, unseen)
    recorder = read(model, steps=40)
    assert nats(model, unseen) < before - 0.3
    assert recorder.steps
    assert recorder.closed == 1


def test_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Spy(LanguageModelling):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            seen.update(train=arguments[2], valid=arguments[3], rate=self.config.learning_rate)

    monkeypatch.setattr(continuing, "LanguageModelling", Spy)
    documents = CharVocabulary(CHARS.characters, documents=True)
    for vocabulary, between in ((CHARS, "\n"), (documents, None)):
        for direction in ("forward", "backward"):
            model = make_lm(vocabulary, direction=direction)
            read(model, vocabulary, steps=1)
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


def test_seeds() -> None:
    results = []
    for seed in (0, 0, 1):
        model = make_lm(dropout=0.2)
        read(model, seed=seed)
        results.append(model.state_dict())
    names = results[0]
    assert all(torch.equal(results[0][name], results[1][name]) for name in names)
    assert not all(torch.equal(results[0][name], results[2][name]) for name in names)


@pytest.mark.parametrize(
    "texts",
    [("a", "b"), ("ab", "c"), ("one text of a few words",), ("★", "ß"), ("x" * 5000,)],
)
def test_hardly_anything_to_read(texts: tuple[str, ...]) -> None:
    model = make_lm()
    read(model, texts=texts)
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_texts_that_have_no_bytes() -> None:
    model = make_lm(BYTES)
    texts = tuple(map(replace_surrogates, ("a \ud800 text", "and \udfff another") * 20))
    read(model, BYTES, texts)
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_an_interruption_ends_it() -> None:
    recorder = Recorder(lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 3 else None)
    with pytest.raises(KeyboardInterrupt):
        read(make_lm(), steps=50, reporter=recorder)
    assert len(recorder.steps) == 3
    assert recorder.closed == 1
