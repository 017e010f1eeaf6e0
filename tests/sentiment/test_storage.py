"""A classifier comes back from its checkpoint, and what does not fit is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from chargen.errors import CheckpointError, ConfigError
from chargen.language_model import LanguageModel
from chargen.sentiment import storage
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.members import NetworkMember
from chargen.sentiment.network import ClassifierNetwork, EncoderInput
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint

from .making import BYTES, CHARS, count_ngrams, make_lm, make_network, same, separable

LABELS = ("bad", "good")


def packed(network: ClassifierNetwork | None = None, **changes: Any) -> Checkpoint:
    network = network or make_network()
    vocabularies = [
        BYTES if encoder.config.vocabulary_size == BYTES.size else CHARS
        for encoder in network.lm_encoders()
    ]
    given: dict[str, Any] = {"labels": LABELS, "clean": None} | changes
    return storage.pack([NetworkMember(network, vocabularies)], **given)


NETWORKS: dict[str, Callable[[], ClassifierNetwork]] = {
    "one": make_network,
    "two": lambda: make_network(make_lm(), make_lm(BYTES, direction="backward", hidden_size=5)),
    "tied": lambda: make_network(make_lm(num_layers=2, tied=True)),
    "gru": lambda: make_network(make_lm(cell="gru")),
    "no detectors": lambda: make_network(detectors=0, head_size=0),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_round_trip_through_a_folder(kind: str, tmp_path: Path) -> None:
    network = NETWORKS[kind]()
    network.temperature.fill_(1.5)
    checkpoint.save(tmp_path / "model", packed(network, clean="html"))
    found = storage.unpack(checkpoint.load(tmp_path / "model"))
    (member,) = found.members
    assert isinstance(member, NetworkMember)
    loaded = member.network
    assert loaded.config == network.config
    assert [e.config for e in loaded.lm_encoders()] == [e.config for e in network.lm_encoders()]
    assert member.vocabularies == ((CHARS, BYTES) if kind == "two" else (CHARS,))
    assert found.labels == LABELS
    assert found.clean == "html"
    assert same(storage.weights_of(loaded), storage.weights_of(network))
    assert not loaded.training
    assert all(p.requires_grad and not p.is_meta for p in loaded.parameters())
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    for encoder in loaded.lm_encoders():
        assert (encoder.output.weight is encoder.embedding.weight) is (kind == "tied")
    texts = ["a day", ".", "at the river " * 30]
    np.testing.assert_array_equal(
        Classifier([member], LABELS).predict_proba(texts),
        Classifier([NetworkMember(network, member.vocabularies)], LABELS).predict_proba(texts),
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    network = make_network(make_lm(tied=True))
    stored = packed(network)
    stored.tensors["model"] = {k: v.to(dtype) for k, v in stored.tensors["model"].items()}
    checkpoint.save(tmp_path / "half", stored)
    loaded = Classifier.load(tmp_path / "half")
    assert {v.dtype for v in storage.weights_of(loaded.require_network().network).values()} == {
        torch.float32
    }
    texts = ["a day", "at the river"]
    np.testing.assert_allclose(
        loaded.predict_proba(texts),
        Classifier([NetworkMember(network, [CHARS])], LABELS).predict_proba(texts),
        atol=0.02,
    )


def test_a_loaded_network_can_be_trained() -> None:
    loaded, _ = storage.unpack_network(packed(make_network(make_lm(tied=True))))
    loaded.train()
    before = storage.weights_of(loaded)
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    ids = torch.randint(1, 20, (9, 4))
    logits, lm_loss = loaded([EncoderInput(ids, torch.full((4,), 9))], 9, lm_loss=True)
    assert lm_loss is not None
    torch.autograd.backward(logits[:, 0].square().sum() + lm_loss)
    optimizer.step()
    after = storage.weights_of(loaded)
    for name, value in loaded.named_parameters():
        assert value.ndim < 2 or not torch.equal(before[name], after[name]), name
    loaded.load_state_dict(before, strict=False)
    assert same(storage.weights_of(loaded), before)


def test_weights_are_copies() -> None:
    network = make_network()
    kept = storage.weights_of(network)
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
    assert kept["head.2.weight"].abs().sum() > 0
    assert not any(name.endswith("num_batches_tracked") for name in kept)


# ---------------------------------------------------------------- what does not fit


def refuse(stored: Checkpoint, *words: str) -> None:
    stored.path = Path("some/where")
    with pytest.raises(CheckpointError) as caught:
        storage.unpack(stored)
    message = str(caught.value)
    for word in ("some/where", *words):
        assert word in message, message
    assert "\n" not in message


@pytest.mark.parametrize("name", [n for n in make_network().state_dict() if "num_batches" not in n])
def test_every_tensor_must_be_there_finite_and_of_its_shape(name: str) -> None:
    def change(value: Tensor | None) -> Checkpoint:
        stored = packed()
        if value is None:
            del stored.tensors["model"][name]
        else:
            stored.tensors["model"][name] = value
        return stored

    value = packed().tensors["model"][name]
    refuse(change(None), name)
    refuse(change(torch.cat([value.flatten(), torch.ones(1)])), name, "shape")
    refuse(change(value.to(torch.int64)), name, "int64")
    for number in (float("nan"), float("inf")):
        spoilt = value.clone()
        spoilt.view(-1)[-1] = number
        refuse(change(spoilt), name, "finite")


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_temperatures_that_divide_by_nothing(value: float) -> None:
    stored = packed()
    stored.tensors["model"]["temperature"] = torch.tensor(value)
    refuse(stored, "temperature")


def test_variances_are_not_negative() -> None:
    stored = packed()
    stored.tensors["model"]["head.0.running_var"][0] = -1.0
    refuse(stored, "head.0.running_var")


def test_unknown_and_no_tensors() -> None:
    stored = packed()
    stored.tensors["model"]["encoders.1.output.bias"] = torch.zeros(3)
    refuse(stored, "unknown", "encoders.1.output.bias")
    stored.tensors["model"] = {}
    refuse(stored, "model.safetensors")
    del stored.tensors["model"]
    refuse(stored, "model.safetensors")


@pytest.mark.parametrize(
    "labels",
    [None, [], ["bad"], ["bad", "good", "so so"], ["bad", "bad"], ["bad", 1], "bad", {}, [[], {}]],
)
def test_labels_must_fit(labels: Any) -> None:
    stored = packed()
    stored.documents["config"]["labels"] = labels
    refuse(stored, "config.json", "labels")
    del stored.documents["config"]["labels"]
    refuse(stored, "config.json", "labels")


def test_cleaning_must_be_known() -> None:
    stored = packed()
    stored.documents["config"]["clean"] = "markdown"
    refuse(stored, "clean", "markdown")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("members", None),
        ("members", []),
        ("members", "network"),
        ("members", ["network", "oracle"]),
        ("members", ["network", "words"]),
        ("members", [{}]),
        ("prior", [0.1]),
        ("prior", [0.1, float("inf")]),
        ("prior", [0.1, None]),
        ("prior", 0.5),
    ],
)
def test_members_and_prior_must_be_there(field: str, value: Any) -> None:
    stored = packed()
    stored.documents["config"][field] = value
    refuse(stored, "words.safetensors" if value == ["network", "words"] else field)


def test_what_does_not_vote_is_not_there(tmp_path: Path) -> None:
    models = count_ngrams(separable(20))
    stored = storage.pack(models, LABELS, None, torch.tensor([-0.5, 0.5]))
    checkpoint.save(tmp_path / "counts", stored)
    assert sorted(path.name for path in (tmp_path / "counts").iterdir()) == [
        *("config.json", "manifest.json", "ngrams.safetensors", "words.safetensors")
    ]
    loaded = Classifier.load(tmp_path / "counts")
    assert loaded.network is None
    wanted = torch.tensor([-0.5, 0.5]) + sum(model.logits(["a wow day"]) for model in models)
    np.testing.assert_allclose(
        loaded.predict_proba(["a wow day"]), wanted.softmax(-1).numpy(), atol=1e-5
    )
    assert loaded.unknown_characters("★") == ""
    with pytest.raises(ConfigError, match="this classifier has no network"):
        loaded.require_network()


def test_a_text_without_a_known_letter_is_judged_by_the_prior(tmp_path: Path) -> None:
    prior = torch.tensor([0.2, 0.8]).log()
    network = NetworkMember(make_network(), [CHARS], prior)
    made = Classifier([network, *count_ngrams(separable(20))], LABELS, prior=prior)
    made.save(tmp_path / "mood")
    texts = ["ЖЩ, ЖЩ", "Щ" * 400]
    for each in (made, Classifier.load(tmp_path / "mood")):
        np.testing.assert_allclose(each.predict_proba(texts), [[0.2, 0.8]] * 2, atol=1e-6)
        known = each.predict_proba(["a lamp in the river", "the stone is Щ"])
        assert np.abs(known - [0.2, 0.8]).max(-1).min() > 0.01
        for text in (*texts, "Ж, a lamp"):
            beginnings = [text[:end] for end in range(len(text) + 1)]
            np.testing.assert_allclose(
                each.trace(text), each.predict_proba(beginnings, cleaned=True), atol=1e-5
            )


@pytest.mark.parametrize("count", [0, 3])
def test_one_encoder_or_two(count: int) -> None:
    stored = packed()
    stored.documents["config"]["encoders"] *= count
    refuse(stored, "one or two encoders")
    stored.documents["config"]["encoders"] = "forward"
    refuse(stored, "one or two encoders")


@pytest.mark.parametrize("name", ["config", "vocabulary-0"])
@pytest.mark.parametrize("value", [None, [], "text", {}])
def test_documents_must_be_there_and_objects(name: str, value: Any) -> None:
    stored = packed()
    stored.documents[name] = value
    refuse(stored)
    del stored.documents[name]
    refuse(stored, f"{name}.json")


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("encoder", "hidden_size", 9),
        ("encoder", "hidden_size", None),
        ("encoder", "hidden_size", 10**12),
        ("encoder", "num_layers", 10**9),
        ("encoder", "num_layers", 2),
        ("encoder", "embedding_size", 10**18),
        ("encoder", "dropout", None),
        ("encoder", "cell", "gru"),
        ("encoder", "tied", True),
        ("encoder", "direction", "up"),
        ("encoder", "vocabulary_size", 3),
        ("network", "detectors", 6),
        ("network", "detectors", 0),
        ("network", "detectors", -1),
        ("network", "detectors", 10**18),
        ("network", "head_size", 0),
        ("network", "head_size", 10**40),
        ("network", "head_dropout", 1.0),
        ("network", "num_classes", 1),
        ("network", "num_classes", 3),
        ("network", "heads", 3),
    ],
)
def test_a_configuration_of_another_network(part: str, field: str, value: Any) -> None:
    # Also of one that no memory would hold: nothing of that size is allocated.
    stored = packed()
    config = stored.documents["config"]
    (config["network"] if part == "network" else config["encoders"][0])[field] = value
    refuse(stored)


def test_the_vocabulary_of_another_encoder() -> None:
    stored = packed()
    stored.documents["vocabulary-0"] = BYTES.to_json()
    refuse(stored, "vocabulary-0.json has 256", str(CHARS.size))


# ---------------------------------------------------------------- kinds


def test_a_language_model_is_no_classifier(tiny_lm: Path) -> None:
    with pytest.raises(CheckpointError, match=r"forward is a language-model .*classifier.* needed"):
        Classifier.load(tiny_lm)


def test_a_classifier_is_no_language_model(tiny_classifier: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tiny is a classifier .*language-model.* needed"):
        LanguageModel.load(tiny_classifier)


def test_nothing_and_damage(tmp_path: Path, tiny_classifier: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Classifier.load(tmp_path / "nothing")
    checkpoint.save(tmp_path / "damaged", checkpoint.load(tiny_classifier))
    path = tmp_path / "damaged" / "config.json"
    document = json.loads(path.read_text())
    document["labels"].reverse()
    path.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="changed"):
        Classifier.load(tmp_path / "damaged")
