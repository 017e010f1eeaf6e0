"""The network against its textbook equations, written in NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chargen.errors import ConfigError
from chargen.lm.cells import CELLS
from chargen.lm.config import ModelConfig
from chargen.lm.model import CharLM, Ensemble
from chargen.lm.recurrent import Dropout, State, detach
from chargen.training.loss import language_model_loss

V, E, H = 11, 5, 7


def make(seed: int = 0, **changes: Any) -> CharLM:
    sizes: dict[str, Any] = {
        "vocabulary_size": V,
        "embedding_size": E,
        "hidden_size": H,
        "num_layers": 1,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "weight_dropout": 0.0,
    }
    torch.manual_seed(seed)
    return CharLM(ModelConfig(**(sizes | changes)))


def randomise(model: CharLM) -> CharLM:
    """Biases that are not zero, so that a forgotten one shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model


def random_ids(steps: int, batch: int, seed: int = 1) -> Tensor:
    return torch.randint(V, (steps, batch), generator=torch.Generator().manual_seed(seed))


def random_state(model: CharLM, batch: int) -> State:
    generator = torch.Generator().manual_seed(2)
    return tuple(
        torch.randn(part.shape, generator=generator) for part in model.initial_state(batch)
    )


# ---------------------------------------------------------------- the equations


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm_step(x: Any, state: Any, weights: list[Any]) -> tuple[Any, ...]:
    """Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000."""
    h, c = state
    wi, wh, bi, bh = weights
    i, f, g, o = np.split(x @ wi.T + bi + h @ wh.T + bh, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(x: Any, state: Any, weights: list[Any]) -> tuple[Any, ...]:
    """Cho et al. 2014, the reset gate applied after the product (Torch's and cuDNN's form)."""
    (h,) = state
    wi, wh, bi, bh = weights
    ri, zi, ni = np.split(x @ wi.T + bi, 3, axis=-1)
    rh, zh, nh = np.split(h @ wh.T + bh, 3, axis=-1)
    r, z = sigmoid(ri + rh), sigmoid(zi + zh)
    n = np.tanh(ni + r * nh)
    return ((1 - z) * n + z * h,)


def rnn_step(x: Any, state: Any, weights: list[Any]) -> tuple[Any, ...]:
    """Elman 1990."""
    (h,) = state
    wi, wh, bi, bh = weights
    return (np.tanh(x @ wi.T + bi + h @ wh.T + bh),)


STEPS = {"lstm": lstm_step, "gru": gru_step, "rnn": rnn_step}


def by_hand(model: CharLM, ids: Tensor, state: State) -> tuple[np.ndarray, list[np.ndarray]]:
    """The logits and the last state in float64, from the equations alone."""
    step = STEPS[model.config.cell]
    weights = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
    states = [part.double().numpy().copy() for part in state]
    logits = []
    for row in ids.numpy():
        x = weights["embedding.weight"][row]
        for layer in range(len(model.layers)):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            parts = [weights[f"layers.{layer}.{name}_l0"] for name in names]
            after = step(x, [s[layer] for s in states], parts)
            for s, value in zip(states, after, strict=True):
                s[layer] = value
            x = after[0]
        if model.projection is not None:
            x = x @ weights["projection.weight"].T + weights["projection.bias"]
        output = weights["embedding.weight" if model.config.tied else "output.weight"]
        logits.append(x @ output.T + weights["output.bias"])
    return np.stack(logits), states


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_equals_its_equations(cell: str, layers: int, tied: bool, training: bool) -> None:
    model = randomise(make(cell=cell, num_layers=layers, tied=tied)).train(training)
    ids = random_ids(9, 4)
    state = random_state(model, 4)
    logits, after = model(ids, state)
    expected, expected_state = by_hand(model, ids, state)
    assert logits.shape == (9, 4, V)
    np.testing.assert_allclose(logits.detach().numpy(), expected, rtol=1e-5, atol=5e-6)
    assert len(after) == len(expected_state) == (2 if cell == "lstm" else 1)
    for part, wanted in zip(after, expected_state, strict=True):
        assert part.shape == (layers, 4, H)
        np.testing.assert_allclose(part.detach().numpy(), wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_equals_its_equations_in_float64(cell: str) -> None:
    model = randomise(make(cell=cell, num_layers=2)).double()
    ids = random_ids(6, 3)
    state = tuple(part.double() for part in random_state(model, 3))
    logits, _ = model(ids, state)
    expected, _ = by_hand(model, ids, state)
    np.testing.assert_allclose(logits.detach().numpy(), expected, rtol=1e-6, atol=1e-6)


def test_tied_output_is_the_embedding_and_counts_once() -> None:
    model = make(tied=True)
    assert model.output.weight is model.embedding.weight
    assert isinstance(model.projection, nn.Linear)
    assert model.projection.weight.shape == (E, H)
    lstm = 4 * H * (E + H) + 8 * H
    assert model.num_parameters() == V * E + lstm + (H * E + E) + V
    assert make().projection is None
    assert make().num_parameters() == V * E + lstm + H * V + V


# ---------------------------------------------------------------- state and gradients


@pytest.mark.parametrize("cell", CELLS)
def test_carried_state_equals_one_long_pass(cell: str) -> None:
    model = randomise(make(cell=cell, num_layers=2)).eval()
    ids = random_ids(40, 3)
    whole, end = model(ids, model.initial_state(3))
    state, pieces = model.initial_state(3), []
    for piece in ids.split([1, 2, 17, 20]):
        logits, state = model(piece, detach(state))
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=1e-5, atol=1e-5)
    for part, wanted in zip(state, end, strict=True):
        torch.testing.assert_close(part, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_truncated_gradient_equals_the_full_one_when_the_window_covers_the_text(cell: str) -> None:
    model = randomise(make(cell=cell, num_layers=2)).double()
    ids = random_ids(13, 2)

    def double(state: State) -> State:
        """The model hands its state out in float32, whatever its weights are."""
        return tuple(part.double() for part in state)

    def gradients(lengths: list[int], truncate: bool) -> list[Tensor]:
        """Of the loss over all of the text, read in pieces of these lengths."""
        model.zero_grad()
        state, losses = double(model.initial_state(2)), []
        for inputs, targets in zip(ids[:-1].split(lengths), ids[1:].split(lengths), strict=True):
            logits, state = model(inputs, double(detach(state) if truncate else state))
            losses.append(
                nn.functional.cross_entropy(
                    logits.flatten(0, 1), targets.flatten(), reduction="sum"
                )
            )
        torch.stack(losses).sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    full = gradients([1] * 12, truncate=False)  # back-propagation through every step
    one_window = gradients([12], truncate=True)
    for ours, wanted in zip(one_window, full, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)
    # Truncated in the middle it is another one, or this test would see nothing.
    halves = gradients([6, 6], truncate=True)
    assert any(
        not torch.allclose(ours, wanted, rtol=1e-2, atol=1e-2)
        for ours, wanted in zip(halves, full, strict=True)
    )


@pytest.mark.parametrize("cell", CELLS)
def test_state_that_goes_in_is_left_as_it_was(cell: str) -> None:
    model = randomise(make(cell=cell, num_layers=2))
    state = random_state(model, 3)
    before = [part.clone() for part in state]
    _, after = model(random_ids(5, 3), state)
    for part, copy, new in zip(state, before, after, strict=True):
        assert torch.equal(part, copy)
        assert new.data_ptr() != part.data_ptr()
        assert not torch.equal(new, part)


def test_streams_do_not_mix() -> None:
    model = randomise(make()).eval()
    ids = random_ids(8, 3)
    together, _ = model(ids, model.initial_state(3))
    for stream in range(3):
        alone, _ = model(ids[:, stream : stream + 1], model.initial_state(1))
        torch.testing.assert_close(together[:, stream], alone[:, 0], rtol=1e-5, atol=1e-5)


def test_detach_cuts_the_history() -> None:
    model = make()
    _, state = model(random_ids(2, 1), model.initial_state(1))
    assert all(part.requires_grad for part in state)
    cut = detach(state)
    assert not any(part.requires_grad for part in cut)
    assert all(torch.equal(a, b) for a, b in zip(cut, state, strict=True))


# ---------------------------------------------------------------- initial weights


@pytest.mark.parametrize("layers", [1, 2])
def test_forget_gate_starts_at_one_and_other_biases_at_zero(layers: int) -> None:
    for layer in make(num_layers=layers).layers:
        total = layer.bias_ih_l0 + layer.bias_hh_l0
        wanted = torch.zeros(4 * H)
        wanted[H : 2 * H] = 1
        assert torch.equal(total, wanted)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_cells_without_a_forget_gate_start_with_zero_biases(cell: str) -> None:
    [layer] = make(cell=cell).layers
    assert not layer.bias_ih_l0.any()
    assert not layer.bias_hh_l0.any()


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_orthogonal_recurrent_weights(cell: str, gates: int) -> None:
    model = make(cell=cell, num_layers=2, orthogonal=True)
    plain = make(cell=cell, num_layers=2)
    for layer, other in zip(model.layers, plain.layers, strict=True):
        for gate in layer.weight_hh_l0.chunk(gates):
            torch.testing.assert_close(gate @ gate.T, torch.eye(H), rtol=0, atol=1e-5)
        gate = other.weight_hh_l0[:H]
        assert not torch.allclose(gate @ gate.T, torch.eye(H), atol=0.1)


def test_same_seed_same_weights() -> None:
    first, again, other = make(3), make(3), make(4)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(first.output.weight, other.output.weight)


@pytest.mark.parametrize("tied", [False, True])
def test_first_loss_is_that_of_guessing(tied: bool) -> None:
    model = make(tied=tied, vocabulary_size=100, embedding_size=64, hidden_size=128).eval()
    ids = torch.randint(100, (65, 8), generator=torch.Generator().manual_seed(0))
    logits, _ = model(ids[:-1], model.initial_state(8))
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:].flatten())
    assert loss.item() == pytest.approx(np.log(100), abs=0.1)


@pytest.mark.parametrize("cell", CELLS)
def test_can_be_built_without_memory(cell: str) -> None:
    with torch.device("meta"):
        model = make(cell=cell, tied=True, orthogonal=True, hidden_size=4096, num_layers=2)
    real = make(cell=cell, tied=True, orthogonal=True, num_layers=2)
    assert model.state_dict().keys() == real.state_dict().keys()
    assert all(p.is_meta for p in model.parameters())
    assert model.initial_state(2)[0].is_meta


def test_sizes_must_be_chosen() -> None:
    with pytest.raises(ConfigError):
        CharLM(ModelConfig(vocabulary_size=V))


# ---------------------------------------------------------------- dropout


def test_variational_dropout_holds_for_the_whole_window() -> None:
    torch.manual_seed(0)
    dropout = Dropout(0.5, variational=True)
    values = torch.ones(6, 4, 10)
    dropped = dropout(values)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped, dropped[:1].expand(6, 4, 10))
    assert not torch.equal(dropped[:, :1].expand(6, 4, 10), dropped)  # streams have their own
    assert not torch.equal(dropout(values), dropped)  # and so has the next window


def test_plain_dropout_differs_from_step_to_step() -> None:
    torch.manual_seed(0)
    dropped = Dropout(0.25)(torch.ones(50, 4, 100))
    assert not torch.equal(dropped[0], dropped[1])
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert abs(float(dropped.mean()) - 1) < 0.02


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_rests_outside_training_and_at_rate_zero(variational: bool) -> None:
    values = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Dropout(0.5, variational).eval()(values), values)
    assert torch.equal(Dropout(0.0, variational)(values), values)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("rate", ["dropout", "embedding_dropout", "weight_dropout"])
def test_each_dropout_acts_only_in_training(cell: str, rate: str) -> None:
    model = randomise(make(cell=cell, **{rate: 0.5}))
    without = make(cell=cell)
    without.load_state_dict(model.state_dict())
    ids, state = random_ids(6, 2), model.initial_state(2)
    plain, _ = without(ids, state)
    model.eval()
    torch.testing.assert_close(model(ids, state)[0], plain)
    weights = {name: p.clone() for name, p in model.named_parameters()}
    model.train()
    first, second = model(ids, state)[0], model(ids, state)[0]
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, plain)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())


def test_dropout_between_layers() -> None:
    model = randomise(make(num_layers=2, dropout=0.5))
    ids, state = random_ids(6, 2), model.initial_state(2)
    # `features` end before the output's dropout: what differs comes from between the layers.
    assert not torch.allclose(model.features(ids, state)[0], model.features(ids, state)[0])
    single = randomise(make(num_layers=1, dropout=0.5))
    torch.testing.assert_close(single.features(ids, state)[0], single.features(ids, state)[0])


def test_dropped_recurrent_weights_are_those_of_one_mask_a_window() -> None:
    model = randomise(make(weight_dropout=0.5))
    ids, state = random_ids(9, 2), model.initial_state(2)
    torch.manual_seed(5)
    logits, _ = model(ids, state)
    torch.manual_seed(5)
    masked = randomise(make())
    masked.load_state_dict(model.state_dict())
    torch.manual_seed(5)
    with torch.no_grad():
        weight = masked.layers[0].weight_hh_l0
        weight.copy_(nn.functional.dropout(weight, 0.5))
    torch.testing.assert_close(logits, masked(ids, state)[0])


def test_dropped_weights_get_their_gradient() -> None:
    model = randomise(make(weight_dropout=0.5))
    torch.manual_seed(0)
    logits, _ = model(random_ids(9, 2), model.initial_state(2))
    logits.square().sum().backward()
    gradient = model.layers[0].weight_hh_l0.grad
    assert gradient is not None
    share = float((gradient == 0).float().mean())
    assert 0.25 < share < 0.75


# ---------------------------------------------------------------- ensembles


def make_ensemble(**changes: Any) -> Ensemble:
    torch.manual_seed(0)
    sizes = replace(make().config, ensemble=3, **changes)
    ensemble = Ensemble(sizes).eval()
    with torch.no_grad():
        for parameter in ensemble.parameters():
            parameter.normal_(std=0.5)
    return ensemble


@pytest.mark.parametrize("cell", CELLS)
def test_the_logits_of_an_ensemble_are_the_mean_of_its_members(cell: str) -> None:
    ensemble, ids = make_ensemble(cell=cell, num_layers=2), random_ids(9, 4)
    state = ensemble.initial_state(4)
    logits, after = ensemble(ids, state)
    alone = [member(ids, member.initial_state(4)) for member in ensemble.members]
    torch.testing.assert_close(logits, torch.stack([found for found, _ in alone]).mean(0))
    for index, part in enumerate(after):
        expected = torch.cat([own[index] for _, own in alone], -1)
        torch.testing.assert_close(part, expected)
    # the state that came out goes in again
    again, _ = ensemble(ids, after)
    expected = torch.stack(
        [member(ids, own)[0] for member, (_, own) in zip(ensemble.members, alone, strict=True)]
    )
    torch.testing.assert_close(again, expected.mean(0))


def test_each_member_learns_from_its_own_errors() -> None:
    ensemble, ids, targets = make_ensemble(), random_ids(9, 4), random_ids(9, 4, seed=5)
    logits, _ = ensemble(ids, ensemble.initial_state(4), True)
    language_model_loss(logits, targets.repeat(1, 3)).backward()
    for member in ensemble.members:
        together = [parameter.grad for parameter in member.parameters()]
        member.zero_grad()
        own, _ = member(ids, member.initial_state(4))
        language_model_loss(own, targets).backward()
        for found, parameter in zip(together, member.parameters(), strict=True):
            torch.testing.assert_close(found * 3, parameter.grad)
