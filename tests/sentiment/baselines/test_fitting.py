from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chargen.errors import ConfigError, TrainingError
from chargen.sentiment.baselines import training
from chargen.sentiment.baselines.config import TEXTBOOK, WordConfig
from chargen.sentiment.baselines.fitting import WordBaseline, make
from chargen.sentiment.examples import split
from chargen.training.reporting import Reporter

from .reviews import reviews

TRAIN, VALID = split(reviews(200), 0.15, seed=0)
TEST = reviews(100, seed=1)
SMALL = WordConfig(
    embedding_size=16, hidden_size=16, num_layers=1, epochs=15, learning_rate=0.01, device="cpu"
)


class Heard(Reporter):
    def __init__(self) -> None:
        self.evaluations: list[dict[str, Any]] = []
        self.steps: list[float] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, progress: float, metrics: Any) -> None:
        self.steps.append(progress)

    def evaluated(self, metrics: Any, sample: str | None) -> None:
        self.evaluations.append(dict(metrics))


def accuracy(model: Any) -> float:
    best = model.predict_proba(TEST.texts).argmax(-1)
    return float(
        np.mean([model.classes[i] == label for i, label in zip(best, TEST.labels, strict=True)])
    )


@pytest.mark.parametrize("name", TEXTBOOK)
def test_every_system_of_the_textbook_learns(name: str) -> None:
    model = make(name, SMALL)
    model.fit(TRAIN, VALID)
    assert model.classes == ("bad", "good")
    assert model.num_parameters > 50
    assert accuracy(model) > 0.85
    probabilities = model.predict_proba(TEST.texts)
    assert probabilities.shape == (100, 2)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert model.predict_proba([]).shape == (0, 2)


def test_two_layers_and_directions_learn_three_classes() -> None:
    labels = ("10", "2", "1")  # ordered as numbers
    renamed = dict(zip(("bad", "good", "plain"), labels, strict=True))

    def numbered(count: int, seed: int) -> Any:
        found = reviews(count, seed, labels=("bad", "good", "plain"))
        return replace(found, labels=tuple(renamed[label] for label in found.labels))

    train, test = numbered(210, 0), numbered(60, 1)
    for name in ("lstm", "tfidf"):
        model = make(name, replace(SMALL, bidirectional=True, num_layers=2))
        model.fit(train, None)
        assert model.classes == ("1", "2", "10")
        best = [model.classes[i] for i in model.predict_proba(test.texts).argmax(-1)]
        assert np.mean([a == b for a, b in zip(best, test.labels, strict=True)]) > 0.8


@pytest.mark.parametrize("name", ["tfidf", "gru"])
def test_a_text_has_the_same_verdict_alone_and_in_company(name: str) -> None:
    model = make(name, replace(SMALL, epochs=2))
    model.fit(TRAIN, VALID)
    texts = ["", "a delight", "dull " * 300, *TEST.texts[:20]]
    together = model.predict_proba(texts)
    alone = np.concatenate([model.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_same_seed_learns_the_same_and_leaves_the_callers_generator_alone() -> None:
    def fitted(seed: int) -> np.ndarray:
        model = make("lstm", replace(SMALL, epochs=2, seed=seed))
        model.fit(TRAIN, VALID)
        return model.predict_proba(TEST.texts)

    torch.manual_seed(5)
    expected = torch.get_rng_state()
    one = fitted(0)
    assert torch.equal(torch.get_rng_state(), expected)
    torch.manual_seed(6)
    assert np.array_equal(one, fitted(0))
    assert not np.array_equal(one, fitted(1))


def test_stops_early_and_keeps_the_best_weights() -> None:
    heard = Heard()
    model = WordBaseline(replace(SMALL, epochs=500, patience=2, learning_rate=0.02), heard)
    model.fit(TRAIN, VALID)
    assert heard.steps[-1] < 1
    scores = [(row["valid_macro_f1"], -row["valid_log_loss"]) for row in heard.evaluations]
    assert scores.index(max(scores)) == len(scores) - 3
    probabilities = model.predict_proba(VALID.texts)
    truth = [model.classes.index(label) for label in VALID.labels]
    loss = -np.log(probabilities[np.arange(len(truth)), truth]).mean()
    assert loss == pytest.approx(-max(scores)[1], rel=1e-3, abs=1e-6)


def test_a_budget_of_minutes_ends() -> None:
    heard = Heard()
    WordBaseline(replace(SMALL, epochs=None, minutes=0.5 / 60), heard).fit(TRAIN, None)
    assert heard.steps[-1] == 1


def test_few_texts_are_read_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "FEWEST_STEPS", 25)
    for count, steps in ((8, 25), (40, 26), (128, 40)):  # 1, 2 and 4 steps an epoch
        heard = Heard()
        WordBaseline(replace(SMALL, epochs=None), heard).fit(reviews(count), None)
        assert len(heard.steps) == steps


def test_a_loss_that_is_no_number_is_an_error_with_advice() -> None:
    model = make("rnn", replace(SMALL, learning_rate=1e38))
    with pytest.raises(TrainingError, match="rnn.*smaller --learning-rate"):
        model.fit(TRAIN, VALID)


def test_word_vectors_are_where_the_network_starts(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("film 1 2 3 4\ndull -1 0 0 1\nelsewhere 0 0 0 0\n")
    heard = Heard()
    # A learning rate that changes nothing shows what it started from.
    config = replace(
        SMALL, embeddings=str(path), embedding_size=None, epochs=1, learning_rate=1e-12
    )
    model = WordBaseline(config, heard)
    model.fit(TRAIN, None)
    weight = model.network.embedding.weight
    assert weight.shape == (len(model.vocabulary), 4)
    ids = model.vocabulary.encode(["film", "dull"])
    torch.testing.assert_close(weight[ids.tolist()], torch.tensor([[1.0, 2, 3, 4], [-1, 0, 0, 1]]))
    assert any("vectors of 4 numbers for 2 of the" in note for note in heard.notes)
    with pytest.raises(ConfigError, match="--embedding-size is 16, but .*4 numbers"):
        WordBaseline(replace(config, embedding_size=16)).fit(TRAIN, None)


def test_there_is_no_other_system() -> None:
    with pytest.raises(ConfigError, match="no system 'svm'"):
        make("svm", SMALL)
