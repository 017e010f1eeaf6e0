from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from chargen import LanguageModel
from chargen.errors import ChargenError, CheckpointError, ConfigError, CorpusError
from chargen.lm import storage as lm_storage
from chargen.lm.model import CharLM
from chargen.sampling import steering as vectors
from chargen.sampling.steering import (
    Steering,
    fit_with_classifier,
    store_steering,
    stored_steering,
)
from chargen.sentiment.examples import Examples
from chargen.storage import checkpoint
from tests.sentiment.making import BYTES, CHARS, make_lm, save_lm

MOODS = {"good": "good film. ", "bad": "bad plot. "}


def lines(count: int = 40) -> Examples:
    """Texts that are all kind or all harsh."""
    texts = [text * (3 + i % 5) for i in range(count // 2) for text in MOODS.values()]
    return Examples(tuple(texts), ("good", "bad") * (count // 2), tuple(range(count)), "moods.csv")


def fit_steering(lm: LanguageModel, examples: Examples) -> Steering:
    return vectors.fit_steering(lm, examples.texts, examples.labels, examples.source)


@pytest.fixture(scope="module")
def writer() -> LanguageModel:
    """A language model that goes on in the mood in which a text began, learnt in seconds."""
    model = make_lm(hidden_size=24, embedding_size=8)
    texts = [text * 12 for text in MOODS.values()]
    ids = torch.from_numpy(np.stack([CHARS.encode("\n" + t)[:100] for t in texts]).T.astype(int))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    model.train()
    for _ in range(150):
        optimizer.zero_grad()
        logits, _ = model(ids[:-1], model.initial_state(2))
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:].flatten()).backward()
        optimizer.step()
    return LanguageModel(model.requires_grad_(False), CHARS)


def share(lm: LanguageModel, word: str, **options: float) -> float:
    """Share of texts in which a word is the more frequent one."""
    other = "bad" if word == "good" else "good"
    texts = [sample.text for sample in lm.sample("", 40, max_chars=60, temperature=1.0, **options)]
    return float(np.mean([text.count(word) > text.count(other) for text in texts]))


def a_steering(size: int = 8) -> Steering:
    chance = np.random.default_rng(0)
    vectors = chance.normal(size=(2, size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    targets = chance.normal(size=2).astype(np.float32)
    return Steering(("bad", "good"), vectors, targets, np.zeros(2, np.float32), "a guess")


# ---------------------------------------------------------------- what it does


def test_a_model_is_steered_to_either_side(writer: LanguageModel) -> None:
    steering = fit_steering(writer, lines())
    assert steering.classes == ("bad", "good")
    for label in steering.classes:
        free = share(writer, label)
        assert 0.1 < free < 0.9
        assert share(writer.steered(steering, label, 1.0), label) > max(0.9, free)


def test_no_strength_is_no_steering_bit_for_bit(writer: LanguageModel) -> None:
    steering = fit_steering(writer, lines())
    options = {"max_chars": 60, "temperature": 1.0, "seed": 3}
    free = writer.sample("go", 3, **options)
    assert writer.steered(steering, "good", 0.0).sample("go", 3, **options) == free
    steered = writer.steered(steering, "good", 2.0)
    steered.sample("go", 3, **options)
    assert steered.steered(steering, "bad", 0.0).sample("go", 3, **options) == free
    assert writer.sample("go", 3, **options) == free


def test_below_nothing_is_the_other_side(writer: LanguageModel) -> None:
    steering = fit_steering(writer, lines())
    assert share(writer.steered(steering, "good", -1.0), "bad") > 0.9


def test_the_state_is_held_where_the_class_lies() -> None:
    lm = LanguageModel(make_lm(), CHARS)
    steering = a_steering()
    vector = torch.from_numpy(steering.vectors[1])
    target = float(steering.targets[1])
    for strength, reached in ((1.0, target), (2.0, 2 * target), (-1.5, -1.5 * target)):
        decoder = lm.steered(steering, "good", strength).decoder
        for _ in range(3):
            decoder.prefill(torch.tensor([3, 4, 5]))
            decoder.step(torch.tensor([6]))
            place = decoder.state[0][-1, 0] @ vector
            assert float(place) == pytest.approx(reached, abs=1e-5)
    half = lm.steered(steering, "good", 0.5).decoder
    half.prefill(torch.tensor([3, 4, 5]))
    free = lm.decoder.clone()
    free.prefill(torch.tensor([3, 4, 5]))
    moved, left = half.state[0][-1, 0] @ vector, free.state[0][-1, 0] @ vector
    assert float(moved) == pytest.approx((float(left) + target) / 2, abs=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_step_reads_what_was_moved(cell: str) -> None:
    model = make_lm(cell=cell, num_layers=2)
    shift = torch.linspace(-0.3, 0.3, model.hidden_size)
    decoder = LanguageModel(model, CHARS).decoder.steered(lambda outputs: outputs.add_(shift))
    ids = torch.tensor([[3, 7, 5], [4, 4, 9]]).T  # (T, B)
    decoder.prefill(ids)
    logits = decoder.step(torch.tensor([6, 8])).clone()
    _, state = model.features(ids, model.initial_state(2))
    for step in (None, torch.tensor([[6, 8]])):
        if step is not None:
            _, state = model.features(step, state)
        hidden = state[0].clone()
        hidden[-1] += shift
        state = (hidden, *state[1:])
    torch.testing.assert_close(logits, model.logits(state[0][-1]), atol=1e-5, rtol=1e-5)


def test_each_text_of_a_batch_is_that_of_its_seed_alone(writer: LanguageModel) -> None:
    steered = writer.steered(fit_steering(writer, lines()), "bad", 1.5)
    options = {"max_chars": 50, "temperature": 1.3}
    batch = steered.sample("the ", 3, seed=7, **options)
    assert [s.text for s in batch] == [
        steered.generate("the ", seed=seed, **options) for seed in (7, 8, 9)
    ]
    assert "".join(steered.stream("the ", seed=8, **options)) == batch[1].text


def test_reading_stays_as_it_is(writer: LanguageModel) -> None:
    steered = writer.steered(fit_steering(writer, lines()), "bad", 3.0)
    np.testing.assert_array_equal(
        steered.score("good film").log_probs, writer.score("good film").log_probs
    )


def test_three_classes_bytes_and_models_that_read_from_the_end() -> None:
    examples = Examples(
        ("a a", "b b", "c c") * 4, ("x", "y", "z") * 4, tuple(range(12)), "letters.csv"
    )
    for lm in (
        LanguageModel(make_lm(BYTES), BYTES),
        LanguageModel(make_lm(direction="backward"), CHARS),
        LanguageModel(make_lm(cell="gru", num_layers=2), CHARS),
    ):
        steering = fit_steering(lm, examples)
        assert steering.vectors.shape == (3, lm.model.hidden_size)
        assert np.allclose(np.linalg.norm(steering.vectors, axis=1), 1, atol=1e-5)
        assert (steering.targets > steering.means).all()
        written = lm.steered(steering, "y").generate("a", max_chars=5, seed=1, ignore_end=True)
        assert len(written) == 5


# ---------------------------------------------------------------- what it is fitted on


def count_words(texts: list[str]) -> list[str]:
    """A classifier."""
    return [("bad", "good")[text.count("good") > text.count("bad")] for text in texts]


def test_a_classifier_may_label_what_the_model_writes(writer: LanguageModel) -> None:
    steering = fit_with_classifier(writer, count_words, ("bad", "good"))
    assert share(writer.steered(steering, "good"), "good") > 0.9
    with pytest.raises(CorpusError, match="that the model wrote.*--steer-data"):
        fit_with_classifier(LanguageModel(make_lm(), CHARS), count_words, ("awful", "good"))


@pytest.mark.parametrize("texts", ["abab", "abba", ["", "", "", ""], ["a", "b", "b", "a"] * 9])
def test_classes_of_the_same_texts_are_refused(writer: LanguageModel, texts: Any) -> None:
    labels = ["x", "x", "y", "y"] * (len(texts) // 4)
    with pytest.raises(CorpusError, match="mine: the texts of 'x' are the same to the model"):
        vectors.fit_steering(writer, list(texts), labels, "mine")


def test_outputs_that_are_no_numbers_are_refused() -> None:
    model = make_lm()
    with torch.no_grad():
        model.embedding.weight.fill_(torch.nan)
    with pytest.raises(ChargenError, match="not numbers"):
        fit_steering(LanguageModel(model, CHARS), lines())


def test_texts_are_normalized_like_those_of_training() -> None:
    stored = checkpoint.Checkpoint(
        lm_storage.KIND, {"config": {"corpus": {"config": {"normalize": "NFC"}}}}, {}
    )
    lm = LanguageModel(make_lm(), CHARS, stored)
    composed, split = (
        vectors.fit_steering(lm, [e + "a", "b" + e, e + "c", "d"], ["x", "y"] * 2, "mine").vectors
        for e in ("é", "e\u0301")
    )
    np.testing.assert_array_equal(composed, split)


def test_too_little_to_fit_on_is_said(writer: LanguageModel) -> None:
    examples = Examples(("a", "b", "c"), ("x", "x", "y"), (2, 3, 4), "few.csv")
    with pytest.raises(CorpusError, match="few.csv.*'y' has 1"):
        fit_steering(writer, examples)


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        ("abcd", ["x", "y", "x", "y"]),
        (["a", "b", "c", "d"], ["x", "y", "x", "y", "x"]),
        (["a", "b", "c", "d", "e"], ["x", "y", "x", "y"]),
        (["a", "b", "c", "d"], [0, 1, 0, 1]),
        (["a", "b", "c", None], ["x", "y", "x", "y"]),
    ],
)
def test_texts_that_have_no_label_each_are_refused(
    writer: LanguageModel, texts: Any, labels: Any
) -> None:
    with pytest.raises(CorpusError, match="text"):
        vectors.fit_steering(writer, texts, labels, "mine")


# ---------------------------------------------------------------- what is refused


def test_wrong_wishes_are_named() -> None:
    lm = LanguageModel(make_lm(), CHARS)
    with pytest.raises(ConfigError, match=r"--steer 'goood'.*'bad', 'good'; did you mean good\?"):
        lm.steered(a_steering(), "goood")
    with pytest.raises(ConfigError, match="--steer 5 is not one of"):
        lm.steered(a_steering(), cast(Any, 5))
    for strength in (float("nan"), "2", None, 10**400):
        with pytest.raises(ConfigError, match="--strength must be a number"):
            lm.steered(a_steering(), "good", cast(Any, strength))
    with pytest.raises(ConfigError, match="12 hidden units; this one has 8"):
        lm.steered(a_steering(12), "good")


# ---------------------------------------------------------------- documents


def test_a_steering_survives_its_document() -> None:
    steering = a_steering()
    document = json.loads(json.dumps(steering.to_document()))
    found = Steering.from_document(document, "steering.json")
    assert found.classes == steering.classes
    assert found.source == steering.source
    for name in ("vectors", "targets", "means"):
        np.testing.assert_allclose(getattr(found, name), getattr(steering, name), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"more": 1}, "an object with"),
        ({"labels": ["good"]}, "labels"),
        ({"labels": ["good", "good"]}, "labels"),
        ({"labels": ["bad", 1]}, "labels"),
        ({"labels": "bg"}, "labels"),
        ({"source": None}, "source"),
        ({"directions": []}, "directions"),
        ({"directions": [[1.0, 0.0], [1.0]]}, "directions"),
        ({"directions": [[], []]}, "directions"),
        ({"directions": [1, 2]}, "directions"),
        ({"directions": [[1.0, 0.0], [2.0, 0.0]]}, "length 1"),
        ({"directions": [[1.0, 0.0], ["a", 0.0]]}, "directions"),
        ({"values": [1.0]}, "values"),
        ({"values": [1.0, True]}, "values"),
        ({"values": [1.0, float("nan")]}, "values"),
        ({"neutral": [1.0, 1e300]}, "neutral"),
        ({"neutral": None}, "neutral"),
    ],
)
def test_documents_that_are_none(changes: dict[str, object], words: str) -> None:
    document = a_steering(2).to_document() | changes
    with pytest.raises(CheckpointError, match=rf"steering.json.*{words}"):
        Steering.from_document(document, "steering.json")
    with pytest.raises(CheckpointError, match="an object with"):
        Steering.from_document([], "steering.json")


def test_a_checkpoint_keeps_a_steering_and_all_else(tmp_path: Path) -> None:
    directory = save_lm(tmp_path / "lm")
    stored = checkpoint.load(directory)
    stored.documents["training/state"] = {"step": 3}
    rows = [json.dumps({"step": step, "loss": 1.5}) for step in range(3)]
    checkpoint.save(directory, stored, metrics=rows)
    (directory / "MODEL_CARD.md").write_text("a card")
    assert stored_steering(checkpoint.load(directory)) is None
    store_steering(directory, a_steering())
    lm = LanguageModel.load(directory)
    found = stored_steering(lm.checkpoint)
    assert found is not None
    assert found.classes == ("bad", "good")
    assert checkpoint.load(directory, lm_storage.KIND, training=True).documents[
        "training/state"
    ] == {"step": 3}
    assert (directory / "metrics.jsonl").read_text().splitlines() == rows
    assert (directory / "MODEL_CARD.md").read_text() == "a card"
    weights = lm.model.state_dict()
    expected = make_lm().state_dict()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_damaged_document_names_its_file(tmp_path: Path) -> None:
    directory = save_lm(tmp_path / "lm")
    stored = checkpoint.load(directory)
    stored.documents["steering"] = {"labels": []}
    checkpoint.save(directory, stored)
    with pytest.raises(CheckpointError, match=r"lm: steering.json must be an object"):
        stored_steering(checkpoint.load(directory))


def test_a_model_without_a_checkpoint_has_none() -> None:
    model: CharLM = make_lm()
    assert stored_steering(LanguageModel(model, CHARS).checkpoint) is None
