"""The decoder says what the model says: every cell, any depth, one stream or many."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from chargen.lm.model import Network
from chargen.sampling import decoder as decoder_module
from chargen.sampling import stepping
from chargen.sampling.decoder import Decoder

from .models import CELLS, small_model

SIZE = 23
every_shape = pytest.mark.parametrize(
    ("cell", "layers", "tied", "table"),
    list(itertools.product(CELLS, (1, 3), (False, True), (True, False))),
)


def model_log_probs(model: Network, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits, _ = model(ids, model.initial_state(ids.shape[1]))
    return logits.log_softmax(-1)


@every_shape
def test_equals_the_model(cell: str, layers: int, tied: bool, table: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not table:
            patch.setattr(stepping, "MAX_TABLE_BYTES", 0)
        for batch_size in (1, 3, 9):
            check_against_the_model(cell, layers, tied, table, batch_size)


@pytest.mark.parametrize("cell", CELLS)
def test_equals_an_ensemble(cell: str) -> None:
    for batch_size in (1, 3):
        check_against_the_model(cell, 2, False, True, batch_size, 3)


def check_against_the_model(
    cell: str, layers: int, tied: bool, table: bool, batch_size: int, ensemble: int = 1
) -> None:
    model = small_model(SIZE, cell=cell, layers=layers, tied=tied, ensemble=ensemble)
    decoder = Decoder(model)
    assert (decoder.weights[0].table is not None) == table
    ids = torch.randint(SIZE, (40, batch_size))
    expected = model_log_probs(model, ids)
    got = [decoder.prefill(ids[:10])]
    got += [decoder.step(row).clone() for row in ids[10:]]
    assert torch.allclose(torch.stack(got).log_softmax(-1), expected[9:], atol=1e-5)
    with torch.no_grad():
        _, state = model(ids, model.initial_state(batch_size))
    for ours, theirs in zip(decoder.state, state, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("cell", CELLS)
def test_threads_share_the_products_of_one_stream(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "MIN_THREADED_WEIGHTS", 1)
    check_against_the_model(cell, 2, False, True, 1)
    monkeypatch.setattr(stepping, "MAX_TABLE_BYTES", 0)
    check_against_the_model(cell, 2, False, False, 1)


@pytest.mark.parametrize("cell", CELLS)
def test_stepping_from_the_start_equals_reading(cell: str) -> None:
    model = small_model(SIZE, cell=cell, layers=2)
    ids = torch.randint(SIZE, (6, 1))
    decoder = Decoder(model)
    for row in ids:
        logits = decoder.step(row)
    assert torch.allclose(logits, Decoder(model).prefill(ids), atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_stream_has_the_same_numbers_in_any_batch(cell: str, layers: int) -> None:
    model = small_model(SIZE, cell=cell, layers=layers)
    ids = torch.randint(SIZE, (30, 17))
    results = []
    for rows in ([3, 5], [5, 3, 8], [*range(17)], [16, *range(9), 0]):
        decoder = Decoder(model)
        decoder.prefill(ids[:1, 0])
        decoder.select([0] * len(rows))
        steps = torch.stack([decoder.step(row[rows]).clone() for row in ids])
        results.append(steps[:, rows.index(3) if 3 in rows else 0])
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_select_clone_and_state() -> None:
    decoder = Decoder(small_model(SIZE, layers=2))
    decoder.prefill(torch.randint(SIZE, (5, 4)))
    before = decoder.state
    other = decoder.clone()
    other.step(torch.arange(4))
    assert all(torch.equal(a, b) for a, b in zip(before, decoder.state, strict=True))
    decoder.select([2, 2, 0])
    assert decoder.batch_size == 3
    for kept, whole in zip(decoder.state, before, strict=True):
        assert torch.equal(kept, whole[:, [2, 2, 0]])
    decoder.state = before
    assert torch.equal(decoder.step(torch.arange(4)), step_from(before, decoder))


def step_from(state: tuple[torch.Tensor, ...], decoder: Decoder) -> torch.Tensor:
    fresh = decoder.clone()
    fresh.state = state
    return fresh.step(torch.arange(4))


def test_prompt_longer_than_a_window(monkeypatch) -> None:
    model = small_model(SIZE)
    ids = torch.randint(SIZE, (50,))
    expected = Decoder(model).prefill(ids)
    monkeypatch.setattr("chargen.sampling.decoder.PREFILL_WINDOW", 7)
    decoder = Decoder(model)
    assert torch.allclose(decoder.prefill(ids), expected, atol=1e-5)


def test_model_is_left_as_it_was() -> None:
    model = small_model(SIZE)
    expected = Decoder(model).prefill(torch.arange(9))
    model.train()
    decoder = Decoder(model)
    assert torch.equal(decoder.prefill(torch.arange(9)), expected)  # no dropout
    assert model.training
    assert not decoder.step(torch.tensor([1])).requires_grad


def test_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one id"):
        Decoder(small_model(SIZE)).prefill(torch.zeros(0, dtype=torch.int64))


def long_prompt(model: Network, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, list[int]]:
    """40 tails' worth of ids, and a list that learns how many steps the model takes."""
    monkeypatch.setattr(decoder_module, "TAIL_IDS", 50)
    monkeypatch.setattr(decoder_module, "PREFILL_WINDOW", 20)
    steps: list[int] = []
    features = model.features

    def counted(ids: torch.Tensor, state: Any) -> Any:
        steps.append(len(ids))
        return features(ids, state)

    monkeypatch.setattr(model, "features", counted)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, model.config.vocabulary_size or 0, (2000,), generator=generator), steps


@pytest.mark.parametrize("cell", CELLS)
def test_only_the_end_of_a_long_prompt_is_read_where_the_rest_is_forgotten(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(SIZE, cell=cell)
    with torch.no_grad():
        for parameter in model.layers.parameters():
            parameter.mul_(0.5)  # forgets within some ten steps
    ids, steps = long_prompt(model, monkeypatch)
    decoder = Decoder(model)
    logits = decoder.prefill(ids)
    assert sum(steps) == 50
    with torch.no_grad():
        expected, state = model(ids[:, None], model.initial_state(1))
    torch.testing.assert_close(logits, expected[-1], atol=1e-5, rtol=0)
    for part, wanted in zip(decoder.state, state, strict=True):
        torch.testing.assert_close(part, wanted, atol=1e-5, rtol=0)


def test_all_of_a_long_prompt_is_read_where_nothing_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small_model(SIZE)
    with torch.no_grad():
        size = model.hidden_size
        bias = model.layers[0].get_parameter("bias_ih_l0")
        bias[:size] = -4.0  # little enters
        bias[size : 2 * size] = 20.0  # and stays
    ids, steps = long_prompt(model, monkeypatch)
    decoder = Decoder(model)
    logits = decoder.prefill(ids)
    assert sum(steps) == 50 + 200 + 2000
    with torch.no_grad():
        expected, _ = model(ids[:, None], model.initial_state(1))
    torch.testing.assert_close(logits, expected[-1], atol=1e-5, rtol=0)


def test_what_a_unit_remembers_from_the_middle_of_a_long_prompt_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small_model(2)
    size = model.hidden_size
    with torch.no_grad():  # symbol 1 sets all units, and nothing resets them
        for parameter in model.parameters():
            parameter.zero_()
        model.members[0].embedding.weight[1, 0] = 1
        layer = model.members[0].layers[0]
        inputs = torch.tensor([60.0, 0.0, 20.0, 0.0])  # input, forget, candidate, output
        biases = torch.tensor([-40.0, 30.0, 0.0, 20.0])
        layer.get_parameter("weight_ih_l0")[:, 0] = inputs.repeat_interleave(size)
        layer.get_parameter("bias_ih_l0").copy_(biases.repeat_interleave(size))
        model.members[0].output.weight[1] = 1
    ids, _ = long_prompt(model, monkeypatch)
    ids.zero_()[1000] = 1
    with torch.no_grad():
        expected, _ = model(ids[:, None], model.initial_state(1))
    torch.testing.assert_close(Decoder(model).prefill(ids), expected[-1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("table", [True, False])
def test_bfloat16_is_for_several_streams_and_close(
    cell: str, table: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not table:
        monkeypatch.setattr(stepping, "MAX_TABLE_BYTES", 0)
    model = small_model(SIZE, cell=cell, layers=2)
    exact, rough = Decoder(model), Decoder(model, "bfloat16")
    ids = torch.randint(SIZE, (9, 5))
    for decoder in (exact, rough):
        decoder.prefill(ids[:1])
    for row in ids[1:]:
        wanted, found = exact.step(row).clone(), rough.step(row)
        torch.testing.assert_close(found.log_softmax(-1), wanted.log_softmax(-1), atol=0.1, rtol=0)
        assert not torch.equal(found, wanted)
    for decoder in (exact, rough):
        decoder.select([0])
        decoder.state = exact.state
    assert torch.equal(exact.step(ids[0, :1]), rough.step(ids[0, :1]))
