"""A model comes back from its checkpoint, and what does not fit together is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from chargen.errors import CheckpointError
from chargen.lm import storage
from chargen.lm.cells import CELLS
from chargen.lm.config import ModelConfig, TrainConfig
from chargen.lm.model import Network, create_network
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary

VOCABULARY = CharVocabulary("\n abcdé☃")


def make(**changes: Any) -> Network:
    sizes: dict[str, Any] = {
        "vocabulary_size": VOCABULARY.size,
        "embedding_size": 4,
        "hidden_size": 6,
        "num_layers": 1,
        "dropout": 0.25,
        "embedding_dropout": 0.0,
        "weight_dropout": 0.0,
    }
    torch.manual_seed(0)
    return create_network(ModelConfig(**(sizes | changes)))


def packed(model: Network | None = None) -> Checkpoint:
    model = model or make()
    weights = {name: p.clone() for name, p in model.state_dict().items()}
    return storage.pack(model.config, weights, VOCABULARY)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("cell", "ensemble"), [*((cell, 1) for cell in CELLS), ("lstm", 3)])
def test_round_trip_through_a_folder(cell: str, ensemble: int, tied: bool, tmp_path: Path) -> None:
    more = {"num_layers": 2, "orthogonal": True, "variational": True, "ensemble": ensemble}
    model = make(cell=cell, tied=tied, **more)
    checkpoint.save(tmp_path / "model", packed(model))
    loaded, vocabulary, stored = storage.load(tmp_path / "model")
    assert loaded.config == model.config
    assert vocabulary == VOCABULARY
    assert stored.kind == storage.KIND
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert not loaded.training
    assert all(p.requires_grad and not p.is_meta for p in loaded.parameters())
    assert all((m.output.weight is m.embedding.weight) is tied for m in loaded.members)
    assert loaded.num_parameters() == model.num_parameters()
    ids = torch.tensor([[1], [2], [3]])
    logits, _ = loaded(ids, loaded.initial_state(1))
    torch.testing.assert_close(logits, model.eval()(ids, model.initial_state(1))[0])


def test_a_model_of_an_earlier_version_is_one_network() -> None:
    stored = packed()
    del stored.documents["config"]["model"]["ensemble"]
    model, _ = storage.unpack(stored)
    assert model.config.ensemble == 1


def test_tied_weights_are_stored_once() -> None:
    assert "output.weight" not in packed(make(tied=True)).tensors["model"]
    assert "output.weight" in packed().tensors["model"]


def test_packing_leaves_the_callers_weights_alone() -> None:
    model = make(tied=True)
    weights = dict(model.state_dict())
    storage.pack(model.config, weights, VOCABULARY)
    assert "output.weight" in weights


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_read_as_float32(dtype: torch.dtype) -> None:
    stored = packed()
    stored.tensors["model"] = {k: v.to(dtype) for k, v in stored.tensors["model"].items()}
    model, _ = storage.unpack(stored)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_loaded_models_can_be_trained() -> None:
    model, _ = storage.unpack(packed(make(tied=True)))
    logits, _ = model.train()(torch.tensor([[1], [2]]), model.initial_state(1))
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


# ---------------------------------------------------------------- what does not fit


def names_of(model: Network) -> list[str]:
    return list(model.state_dict())


def option(field: str) -> str:
    return "--" + field.replace("_", "-")


def refuse(stored: Checkpoint, *words: str) -> None:
    stored.path = Path("some/where")
    with pytest.raises(CheckpointError) as caught:
        storage.unpack(stored)
    message = str(caught.value)
    for word in ("some/where", *words):
        assert word in message
    assert "\n" not in message


@pytest.mark.parametrize("name", names_of(make(tied=True)))
def test_every_tensor_must_be_there_finite_and_of_its_shape(name: str) -> None:
    tied = name not in names_of(make()) or name == "embedding.weight"
    model = make(tied=tied)
    if name == "output.weight" and tied:
        pytest.skip("stored as the embedding")

    def change(edit: Callable[[dict[str, torch.Tensor]], object]) -> Checkpoint:
        stored = packed(model)
        edit(stored.tensors["model"])
        return stored

    value = model.state_dict()[name]
    refuse(change(lambda w: w.pop(name)), name)
    wrong = {
        "longer": torch.cat([value, value]),
        "flat": value.flatten()[None, None],
        "empty": value[:0],
    }
    for tensor in wrong.values():
        refuse(change(lambda w, t=tensor: w.update({name: t})), name, str(list(tensor.shape)))  # type: ignore[misc]
    for number in (float("nan"), float("inf"), float("-inf")):
        spoilt = value.clone()
        spoilt.view(-1)[-1] = number
        refuse(change(lambda w, t=spoilt: w.update({name: t})), name, "finite")  # type: ignore[misc]
    for dtype in (torch.int64, torch.bool, torch.complex64):
        refuse(change(lambda w, d=dtype: w.update({name: value.to(d)})), name, str(dtype))  # type: ignore[misc]


def test_unknown_tensor() -> None:
    stored = packed()
    stored.tensors["model"]["layers.7.weight"] = torch.zeros(1)
    refuse(stored, "unknown", "layers.7.weight")


def test_no_weights_at_all() -> None:
    stored = packed()
    del stored.tensors["model"]
    refuse(stored, "model.safetensors")
    stored = packed()
    stored.tensors["model"] = {}
    refuse(stored, "model.safetensors")


@pytest.mark.parametrize("name", ["vocabulary", "config"])
@pytest.mark.parametrize("value", [None, [], "text", {}])
def test_documents_must_be_there_and_objects(name: str, value: Any) -> None:
    stored = packed()
    stored.documents[name] = value
    refuse(stored)
    del stored.documents[name]
    refuse(stored, f"{name}.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocabulary_size", 0),
        ("vocabulary_size", None),
        ("hidden_size", 0),
        ("hidden_size", -3),
        ("hidden_size", 2.5),
        ("hidden_size", "6"),
        ("hidden_size", True),
        ("hidden_size", [6]),
        ("num_layers", 0),
        ("embedding_size", None),
        ("dropout", float("nan")),
        ("dropout", 1.0),
        ("weight_dropout", -0.1),
        ("cell", "transformer"),
        ("cell", None),
        ("cell", {}),
        ("direction", "up"),
        ("tied", "no"),
        ("variational", 2),
        ("orthogonal", None),
    ],
)
def test_impossible_fields_are_named(field: str, value: Any) -> None:
    stored = packed()
    stored.documents["config"]["model"][field] = value
    refuse(stored)
    if value is not None:
        refuse(stored, option(field))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", 7),
        ("embedding_size", 5),
        ("num_layers", 2),
        ("cell", "gru"),
        ("cell", "rnn"),
        ("tied", True),
        ("hidden_size", 10**6),
        ("hidden_size", 10**12),
        ("embedding_size", 10**18),
        ("hidden_size", 10**40),
        ("num_layers", 50),
    ],
)
def test_a_configuration_of_another_model(field: str, value: Any) -> None:
    # Also of one that no memory would hold: nothing of that size is allocated.
    stored = packed()
    stored.documents["config"]["model"][field] = value
    refuse(stored)


def test_layers_without_tensors_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    # A thousand million layers would take hours even without memory.
    stored = packed()
    stored.documents["config"]["model"]["num_layers"] = 10**9
    monkeypatch.setattr(storage, "create_network", lambda config: pytest.fail("built all the same"))
    refuse(stored, "layers")


def test_unknown_fields_get_advice() -> None:
    stored = packed()
    stored.documents["config"]["model"]["hiden_size"] = 3
    refuse(stored, "'hiden_size'", "did you mean hidden_size", "update chargen")


def test_vocabulary_of_another_model() -> None:
    stored = packed()
    stored.documents["vocabulary"] = ByteVocabulary().to_json()
    refuse(stored, "vocabulary.json has 256", str(VOCABULARY.size))
    stored.documents["vocabulary"] = {**VOCABULARY.to_json(), "characters": "aa"}
    refuse(stored, "characters")


def test_configurations_from_json() -> None:
    config = TrainConfig(steps=3, seed=4)
    assert storage.config_from_json(TrainConfig, {"steps": 3, "seed": 4}, "x") == config
    for wrong in (None, [], 3, "text"):
        with pytest.raises(CheckpointError, match="x is not an object"):
            storage.config_from_json(TrainConfig, wrong, "x")
    with pytest.raises(CheckpointError, match="x: --steps"):
        storage.config_from_json(TrainConfig, {"steps": -1}, "x")


def test_the_wrong_kind(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "other", Checkpoint("classifier", documents={"config": {}}))
    with pytest.raises(CheckpointError, match=r"classifier.*language-model"):
        storage.load(tmp_path / "other")


def test_what_torch_says_of_a_training_state_is_cut() -> None:
    with pytest.raises(CheckpointError) as caught, storage.convert_restore_errors(Path("run")):
        raise RuntimeError("shape " + "1, " * 1000 + "\nand more")
    assert str(caught.value).startswith("run: training/ does not match the run: shape 1, 1")
    assert len(str(caught.value)) < 300
    with (
        pytest.raises(CheckpointError, match="it lacks 'progress'"),
        storage.convert_restore_errors(Path("run")),
    ):
        raise KeyError("progress")
