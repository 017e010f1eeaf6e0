"""Log-probabilities are those of a plain loop over the text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from chargen.lm import evaluation
from chargen.lm.cells import CELLS
from chargen.lm.config import ModelConfig
from chargen.lm.evaluation import bits, dynamic_log_probs, log_probs, mean_nats
from chargen.lm.model import CharLM

V = 13


def make(**changes: Any) -> CharLM:
    sizes: dict[str, Any] = {
        "vocabulary_size": V,
        "embedding_size": 6,
        "hidden_size": 16,
        "num_layers": 1,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "weight_dropout": 0.0,
    }
    torch.manual_seed(0)
    model = CharLM(ModelConfig(**(sizes | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def text(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, V, count).astype(np.uint8)


def plain_loop(model: CharLM, ids: np.ndarray, start_id: int) -> np.ndarray:
    """One symbol after another, by the definition."""
    scores = []
    before, state = start_id, model.initial_state(1)
    with torch.no_grad():
        for symbol in ids.tolist():
            logits, state = model(torch.tensor([[before]]), state)
            scores.append(logits[0, 0].double().log_softmax(-1)[symbol].item())
            before = symbol
    return np.array(scores)


@pytest.mark.parametrize("count", [1, 2, 300])
@pytest.mark.parametrize("cell", CELLS)
def test_equals_a_plain_loop(cell: str, count: int) -> None:
    model = make(cell=cell, num_layers=2).eval()
    scores = log_probs(model, text(count), 3)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, plain_loop(model, text(count), 3), rtol=1e-4, atol=1e-4)


def test_longer_than_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "WINDOW", 300)
    model = make().eval()
    ids = text(2 * evaluation.WINDOW + 100)
    np.testing.assert_allclose(
        log_probs(model, ids, 0), plain_loop(model, ids, 0), rtol=1e-4, atol=1e-4
    )


def test_the_window_changes_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = make(), text(500)
    wanted = log_probs(model, ids, 0)
    for window in (1, 7, 500):
        monkeypatch.setattr(evaluation, "WINDOW", window)
        np.testing.assert_allclose(log_probs(model, ids, 0), wanted, rtol=1e-5, atol=1e-5)


def test_probabilities_of_all_continuations_sum_to_one() -> None:
    model = make()
    total = sum(math.exp(float(log_probs(model, np.array([i], np.uint8), 2)[0])) for i in range(V))
    assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("count", [100, 4096, 4099])
def test_streams_side_by_side_come_close_to_one(count: int) -> None:
    model, ids = make(cell="gru"), text(count)
    exact, fast = log_probs(model, ids, 5), log_probs(model, ids, 5, streams=8)
    assert fast.shape == exact.shape
    np.testing.assert_allclose(fast, exact, atol=1e-3)
    part = math.ceil(count / 8)
    # The first part starts where the text does: exact but for rounding.
    np.testing.assert_allclose(fast[:part], exact[:part], rtol=1e-5, atol=1e-5)
    assert mean_nats(model, ids, 5, 8) == pytest.approx(mean_nats(model, ids, 5), abs=1e-4)


def test_each_stream_reads_what_lies_before_it() -> None:
    # Where parts begin, a stream without a state would be surprised.
    model, ids = make(), np.repeat(np.arange(8, dtype=np.uint8), 300)
    exact, fast = log_probs(model, ids, 5), log_probs(model, ids, 5, streams=8)
    cold = np.concatenate([log_probs(model, part, 5) for part in np.split(ids, 8)])
    starts = np.arange(300, 2400, 300)
    assert np.abs(fast - exact)[starts].max() < 0.01
    assert np.abs(cold - exact)[starts].max() > 0.1


@pytest.mark.parametrize("streams", [1, 8, 32])
def test_no_call_makes_more_logits_than_the_limit(
    streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "WINDOW_LOGITS", 100 * V)
    model = make()
    sizes: list[int] = []
    model.output.register_forward_hook(lambda _, inputs, logits: sizes.append(logits.numel()))
    log_probs(model, text(32 * evaluation.WARM_UP_SYMBOLS), 0, streams)
    assert max(sizes) <= 100 * V


def test_mean_and_bits() -> None:
    model, ids = make(), text(64)
    nats = mean_nats(model, ids, 0)
    assert nats == pytest.approx(-log_probs(model, ids, 0).astype(np.float64).mean())
    assert bits(nats) == pytest.approx(nats / math.log(2))
    assert bits(math.log(2)) == pytest.approx(1)


@pytest.mark.parametrize("training", [False, True])
def test_scoring_leaves_the_model_and_the_generators_alone(training: bool) -> None:
    model = make(dropout=0.5, weight_dropout=0.5, embedding_dropout=0.5).train(training)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    generator = torch.get_rng_state()
    first, second = log_probs(model, text(50), 0), log_probs(model, text(50), 0, streams=2)
    np.testing.assert_allclose(first, second, atol=1e-5)  # no dropout, whatever the mode
    dynamic_log_probs(model, text(50), 0)
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_nothing_to_score() -> None:
    assert log_probs(make(), text(0), 0).shape == (0,)


@pytest.mark.parametrize("tied", [False, True])
def test_dynamic_evaluation_leaves_the_model_as_it_is(tied: bool) -> None:
    model = make(tied=tied, dropout=0.3).eval()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    ids = text(300)
    first, again = dynamic_log_probs(model, ids, 0), dynamic_log_probs(model, ids, 0)
    np.testing.assert_array_equal(first, again)
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not model.training


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_dynamic_evaluation_learns_where_gradients_are_off(off: Any) -> None:
    model, ids = make().eval(), text(100)
    with off():
        found = dynamic_log_probs(model, ids, 0)
    np.testing.assert_array_equal(found, dynamic_log_probs(model, ids, 0))


def test_dynamic_evaluation_scores_each_window_before_learning_from_it() -> None:
    model, ids = make().eval(), text(300)
    static = log_probs(model, ids, 4)
    dynamic = dynamic_log_probs(model, ids, 4, window=50)
    np.testing.assert_allclose(dynamic[:50], static[:50], rtol=1e-4, atol=1e-4)
    assert not np.allclose(dynamic[50:], static[50:], atol=1e-3)
    # What comes later cannot change what was scored earlier.
    changed = ids.copy()
    changed[150:] = (changed[150:] + 1) % V
    np.testing.assert_array_equal(
        dynamic_log_probs(model, changed, 4, window=50)[:150], dynamic[:150]
    )


def test_dynamic_evaluation_that_learns_nothing_is_static() -> None:
    model, ids = make(num_layers=2).eval(), text(200)
    np.testing.assert_allclose(
        dynamic_log_probs(model, ids, 0, learning_rate=0.0), log_probs(model, ids, 0), atol=1e-4
    )


def test_dynamic_evaluation_helps_on_a_repetitive_text() -> None:
    model = make().eval()
    ids = np.tile(text(12), 100)
    static, dynamic = log_probs(model, ids, 0), dynamic_log_probs(model, ids, 0)
    assert dynamic.shape == static.shape
    assert np.isfinite(dynamic).all()
    assert -dynamic.mean() < -static.mean() - 0.1
    assert -dynamic[600:].mean() < -dynamic[:600].mean()


def test_dynamic_evaluation_learns_nothing_from_labels() -> None:
    model, ids = make().eval(), text(300) % (V - 1)
    ids[::7] = V - 1
    read = dynamic_log_probs(model, ids, 0, first_label_id=V - 1)
    # Of a window that holds nothing else there is nothing to learn.
    only = np.full(64, V - 1)
    np.testing.assert_allclose(
        dynamic_log_probs(model, only, 0, first_label_id=V - 1),
        log_probs(model, only, 0),
        atol=1e-4,
    )
    static, learnt = log_probs(model, ids, 0), dynamic_log_probs(model, ids, 0)
    labels = ids == V - 1
    assert read[labels].mean() < learnt[labels].mean() - 0.1
    assert read[~labels].mean() > max(static[~labels].mean(), learnt[~labels].mean())
