"""One verdict a text: alone or in a batch, in one pass or in windows; gradients end where asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from chargen.sentiment import network as network_module
from chargen.sentiment.config import NetworkConfig
from chargen.sentiment.network import (
    LIMIT,
    BatchRenorm,
    ClassifierNetwork,
    ClippedBatchRenorm,
    EncodedTexts,
    EncoderInput,
    Head,
    TextEncoding,
)

from .making import BYTES, CHARS, make_lm, make_network

ALPHABET = st.sampled_from("abc xyz.\né☃ü")
TEXTS = st.lists(st.text(ALPHABET, max_size=24), min_size=1, max_size=5)


def read(texts: Sequence[str], network: ClassifierNetwork) -> list[EncoderInput]:
    encodings = []
    for encoder in network.lm_encoders():
        vocabulary = BYTES if encoder.config.vocabulary_size == BYTES.size else CHARS
        encodings.append(TextEncoding(vocabulary, encoder.config.direction == "backward"))
    return EncodedTexts(texts, encodings).inputs(range(len(texts)), "cpu")


KINDS: dict[str, Callable[[], ClassifierNetwork]] = {
    "one": make_network,
    "both directions": lambda: make_network(make_lm(), make_lm(direction="backward", seed=1)),
    "bytes": lambda: make_network(make_lm(BYTES)),
    "characters and bytes": lambda: make_network(make_lm(), make_lm(BYTES, hidden_size=5)),
    "two layers, tied": lambda: make_network(make_lm(num_layers=2, tied=True)),
    "gru": lambda: make_network(make_lm(cell="gru")),
    "rnn": lambda: make_network(make_lm(cell="rnn")),
    "three classes": lambda: make_network(num_classes=3),
    "states alone": lambda: make_network(detectors=0),
    "one linear layer": lambda: make_network(detectors=0, head_size=0),
}
MADE = {name: make() for name, make in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(texts=TEXTS)
def test_a_text_alone_equals_it_in_any_batch(kind: str, texts: list[str]) -> None:
    network = MADE[kind]
    with torch.no_grad():
        together, _ = network(read(texts, network))
        for text, row in zip(texts, together, strict=True):
            alone, _ = network(read([text], network))
            torch.testing.assert_close(row, alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_windows_equal_one_pass(kind: str, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = MADE[kind]
    texts = ["the quick brown fox", "", "a" * 40, "é☃" * 11]
    with torch.no_grad():
        whole, _ = network(read(texts, network))
        monkeypatch.setattr(network_module, "WINDOW", window)
        windows, _ = network(read(texts, network))
    torch.testing.assert_close(windows, whole, atol=1e-5, rtol=0)
    probabilities = windows.softmax(-1)
    assert probabilities.shape == (4, network.config.num_classes)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(4))


def test_the_features_in_numpy() -> None:
    network = make_network(make_lm(), make_lm(direction="backward", seed=1, hidden_size=6))
    texts = ["a fine day.", "no", "nothing of the kind at all"]
    inputs = read(texts, network)
    with torch.no_grad():
        found = network.features(inputs).numpy()
    for row, text in zip(found, texts, strict=True):
        parts = []
        for index, reversed_ in enumerate([False, True]):
            encoded = CHARS.encode(text[::-1] if reversed_ else text)
            ids = np.array([CHARS.start_id, *encoded], np.int64)
            column = inputs[index].ids[: len(ids), texts.index(text)]
            assert torch.equal(column, torch.tensor(ids))
            encoder = network.lm_encoders()[index]
            with torch.no_grad():
                outputs, _ = encoder.features(torch.tensor(ids)[:, None], encoder.initial_state(1))
            states = outputs[:, 0].numpy()  # (T, H)
            detector = network.detectors[index]
            assert isinstance(detector, nn.Linear)
            weights, bias = detector.weight.detach().numpy(), detector.bias.detach().numpy()
            units = np.maximum(0, states @ weights.T + bias)  # (T, D)
            parts += [states[-1], states.mean(0), states.max(0), units.mean(0), units.max(0)]
        np.testing.assert_allclose(row, np.concatenate(parts), atol=1e-5)


def test_sizes() -> None:
    network = make_network(make_lm(), make_lm(BYTES, hidden_size=5), detectors=4, num_classes=3)
    assert network.head[0].num_features == 3 * (8 + 5) + 2 * 2 * 4
    assert network(read(["a", "b"], network))[0].shape == (2, 3)
    assert [type(module).__name__ for module in Head(7, NetworkConfig(head_size=0))] == [
        *("ClippedBatchRenorm", "Dropout", "Linear")
    ]


def test_the_temperature_divides() -> None:
    network = make_network()
    inputs = read(["abc", "xyz"], network)
    with torch.no_grad():
        before, _ = network(inputs)
        network.temperature.fill_(2.0)
        after, _ = network(inputs)
    torch.testing.assert_close(after, before / 2)


# ---------------------------------------------------------------- gradients


def manual(network: ClassifierNetwork, given: EncoderInput, steps: int) -> Tensor:
    """Features (B, F), gradients through the last steps alone, in the plainest way."""
    encoder, ids, lengths = network.lm_encoders()[0], given.ids, given.lengths
    tail = max(0, len(ids) - steps)
    state = encoder.initial_state(ids.shape[1])
    pieces, units = [], []
    with torch.no_grad():
        if tail:
            outputs, state = encoder.features(ids[:tail], state)
            pieces.append(outputs)
            units.append(network.detectors[0](outputs).relu())
    if tail < len(ids):
        outputs, _ = encoder.features(ids[tail:], state)
        pieces.append(outputs)
        units.append(network.detectors[0](outputs).relu())
    rows = []
    for column, length in enumerate(lengths.tolist()):
        own = torch.cat(pieces)[:length, column]
        seen = torch.cat(units)[:length, column]
        parts = [own[-1], own.mean(0), own.max(0).values, seen.mean(0), seen.max(0).values]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def gradients(network: ClassifierNetwork, loss: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    torch.autograd.backward(loss)
    return {
        name: value.grad.clone()
        for name, value in network.named_parameters()
        if value.grad is not None
    }


@pytest.mark.parametrize("steps", [1, 5, 11, 500])
@pytest.mark.parametrize("layers", [1, 2])
def test_gradients_flow_through_the_last_steps_alone(
    steps: int, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_module, "WINDOW", 4)
    network = make_network(make_lm(num_layers=layers))
    (given,) = inputs = read(["the end of it is near.", "the beginning", "a"], network)
    targets = torch.tensor([0, 1, 1])
    logits, _ = network(inputs, steps)
    found = gradients(network, nn.functional.cross_entropy(logits, targets))
    logits = network.head(manual(network, given, steps))
    wanted = gradients(network, nn.functional.cross_entropy(logits, targets))
    assert found.keys() == wanted.keys()
    assert any(name.startswith("encoders.0.layers") for name in found)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-4, msg=name)


def test_more_steps_change_gradients_but_no_verdict() -> None:
    network = make_network()
    inputs = read(["the quick brown fox jumps over the lazy dog"], network)
    results = []
    for steps in (0, 3, 10, 1000):
        logits, _ = network(inputs, steps)
        results.append((logits.detach(), gradients(network, logits[0, 0])))
    for logits, _ in results:
        torch.testing.assert_close(logits, results[0][0], atol=1e-5, rtol=0)
    assert not any(name.startswith(("encoders", "detectors")) for name in results[0][1])
    name = "encoders.0.layers.0.weight_hh_l0"
    norms = [float(found[name].norm()) for _, found in results[1:]]
    assert len(set(norms)) == 3


def kept_for_backward(network: ClassifierNetwork, length: int, steps: int) -> int:
    """Bytes that autograd holds on to."""
    total = 0

    def count(value: Tensor) -> Tensor:
        nonlocal total
        total += value.numel() * value.element_size()
        return value

    inputs = read(["x" * length, "y" * length], network)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
        network(inputs, steps)
    return total


def test_memory_is_bounded_by_the_steps_not_the_text() -> None:
    network = make_network(make_lm(BYTES))
    short, long = kept_for_backward(network, 100, 20), kept_for_backward(network, 3000, 20)
    assert long == short
    assert kept_for_backward(network, 100, 80) > short


# ---------------------------------------------------------------- the language model's loss


@pytest.mark.parametrize("steps", [4, 100])
def test_the_language_models_loss(steps: int) -> None:
    network = make_network()
    texts = ["the quick brown fox", "jumps over the"]
    (given,) = inputs = read(texts, network)
    _, found = network(inputs, steps, lm_loss=True)
    encoder = network.lm_encoders()[0]
    logits, _ = encoder(given.ids, encoder.initial_state(2))
    tail = max(0, len(given.ids) - steps)
    losses = [
        nn.functional.cross_entropy(logits[t, b], given.ids[t + 1, b])
        for b, text in enumerate(texts)
        for t in range(tail, len(text))
    ]
    assert len(losses) == (4 if steps == 4 else 19 + 14) - (steps == 4)
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_no_language_models_loss_where_nothing_follows() -> None:
    network = make_network()
    for texts, steps in ((["", ""], 5), (["abc", "d"], 1)):
        logits, loss = network(read(texts, network), steps, lm_loss=True)
        assert loss is None
        assert logits.isfinite().all()
    assert network(read(["abc"], network), 5)[1] is None


def test_both_language_models_count() -> None:
    encoders = make_lm(), make_lm(direction="backward", seed=3)
    both = make_network(*encoders)
    inputs = read(["a quiet film", "of a day"], both)
    _, found = both(inputs, 50, lm_loss=True)
    each = [
        make_network(encoder)([given], 50, lm_loss=True)[1]
        for encoder, given in zip(encoders, inputs, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(each).mean())


# ---------------------------------------------------------------- trace


@pytest.mark.parametrize("kind", ["one", "bytes", "two layers, tied", "gru", "states alone"])
def test_the_trace_ends_with_the_verdict(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module, "WINDOW", 5)
    network: Any = MADE[kind]
    text = "a day at the river"
    (given,) = read([text], network)
    trace = network.trace([given.ids[:, 0]])
    assert trace.shape == (len(text) + 1, network.config.num_classes)
    for end in (0, 1, 7, len(text)):
        with torch.no_grad():
            logits, _ = network(read([text[:end]], network))
        torch.testing.assert_close(trace[end], logits[0], atol=1e-5, rtol=0)


def test_features_far_outside_of_training_count_no_more_than_the_limit() -> None:
    standardise = ClippedBatchRenorm(3).eval()
    far = torch.tensor([[1e6, -1e6, 0.5]])
    assert standardise(far).tolist()[0] == pytest.approx([LIMIT, -LIMIT, 0.5], abs=1e-4)


# ---------------------------------------------------------------- batch renormalisation


def by_length(count: int = 60, size: int = 16) -> list[Tensor]:
    """Batches whose texts are of like length, and whose features (2 of them) grow with it."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(-1, 1, count)[torch.randperm(count, generator=generator)]
    return [
        length * torch.tensor([1.0, 2.0]) + torch.randn(size, 2, generator=generator)
        for length in lengths
    ]


def test_training_sees_what_prediction_sees_though_batches_differ() -> None:
    norm = BatchRenorm(2, momentum=0.02)
    batches = by_length(400)
    for batch in batches:
        norm.train()(batch)
    differences = []
    for batch in batches[:20]:
        trained = norm.train()(batch)
        differences.append(float((trained - norm.eval()(batch)).detach().abs().max()))
    assert max(differences) < 1e-4
    plain = nn.BatchNorm1d(2)
    worst = max(float(plain(batch).mean(0).detach().abs().max()) for batch in batches[:20])
    assert worst < 1e-4  # its own batch's mean is taken away: nothing is left of the length
    assert float(norm.eval()(batches[0]).detach().mean(0).abs().max()) > 0.05


def test_running_statistics_are_those_of_all_texts() -> None:
    norm = BatchRenorm(2, momentum=None)
    batches = by_length()
    for batch in batches:
        norm(batch)
    every = torch.cat(batches)
    torch.testing.assert_close(norm.running_mean, every.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(norm.running_var, every.var(0, correction=0), atol=1e-5, rtol=1e-4)


def test_first_batch_is_plain_batch_normalisation_and_its_gradient_too() -> None:
    values = by_length()[0].requires_grad_()
    other = values.detach().clone().requires_grad_()
    mine, plain = BatchRenorm(2, momentum=0.1), nn.BatchNorm1d(2)
    slope = torch.linspace(-1, 1, values.numel()).view_as(values)
    (mine(values) * slope).sum().backward()
    (plain(other) * slope).sum().backward()
    torch.testing.assert_close(mine(values), plain(other))
    assert values.grad is not None
    torch.testing.assert_close(values.grad, other.grad)


def test_an_overflow_leaves_the_statistics_as_they_were() -> None:
    norm = BatchRenorm(2, momentum=0.1)
    norm(by_length()[0])
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    norm(torch.tensor([[float("inf"), 0.0], [1.0, 0.0]]))
    assert norm.running_mean[0] == before[0]
    assert bool(norm.running_mean.isfinite().all())
