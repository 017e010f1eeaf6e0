"""Classifiers and their checkpoints: what goes into which file, and back.

config.json               sizes of the network and of its encoders, labels, cleaning
vocabulary-N.json         of encoder N
model.safetensors         all weights of the network, those of the encoders among them
ngrams.safetensors        where character n-grams vote beside it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from chargen.errors import CheckpointError, ConfigError, brief
from chargen.lm.config import ModelConfig
from chargen.lm.model import CharLM
from chargen.lm.storage import check_weights, config_from_json, read_vocabulary
from chargen.runtime.device import shapes_only
from chargen.sentiment.config import NetworkConfig
from chargen.sentiment.network import ClassifierNetwork
from chargen.sentiment.ngrams import NgramModel
from chargen.storage.checkpoint import Checkpoint
from chargen.text.vocabulary import Vocabulary

KIND = "classifier"

_COUNTER = "num_batches_tracked"
"""Batch renormalisation counts batches; only training goes on with it."""


def weights_of(network: ClassifierNetwork) -> dict[str, Tensor]:
    """Copies of all weights and statistics, on the CPU."""
    return {
        name: value.detach().cpu().clone()
        for name, value in _without_counters(network.state_dict()).items()
    }


def _without_counters(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.endswith(_COUNTER)}


def load_weights(network: ClassifierNetwork, weights: dict[str, Tensor]) -> None:
    """Put back what `weights_of` gave."""
    network.load_state_dict(weights, strict=False)


def pack(
    network: ClassifierNetwork,
    weights: dict[str, Tensor],
    vocabularies: Sequence[Vocabulary],
    labels: Sequence[str],
    clean: str | None,
    ngrams: NgramModel | None = None,
) -> Checkpoint:
    """A checkpoint with which texts can be classified; callers add documents and tensors."""
    documents = {
        "config": {
            "network": asdict(network.config),
            "encoders": [asdict(encoder.config) for encoder in network.lm_encoders()],
            "labels": list(labels),
            "clean": clean,
        },
    }
    for index, vocabulary in enumerate(vocabularies):
        documents[f"vocabulary-{index}"] = vocabulary.to_json()
    tensors = {"model": _without_counters(weights)}
    if ngrams is not None:
        tensors["ngrams"] = ngrams.to_tensors()
    return Checkpoint(KIND, documents=documents, tensors=tensors)


def unpack(
    stored: Checkpoint,
) -> tuple[ClassifierNetwork, tuple[Vocabulary, ...], tuple[str, ...], str | None]:
    """Network (float32, on the CPU, in evaluation mode), vocabularies, labels and cleaning.

    Raises
    ------
    CheckpointError
        Where the parts do not fit together.
    """
    path = stored.path
    config = stored.document("config")
    sizes = config_from_json(
        NetworkConfig, config.get("network"), f"{path}: network of config.json"
    )
    labels, clean = config.get("labels"), config.get("clean")
    if (
        not isinstance(labels, list)
        or len(labels) != sizes.num_classes
        or len(set(map(str, labels))) != len(labels)
        or not all(isinstance(label, str) for label in labels)
    ):
        raise CheckpointError(f"{path}: config.json does not name {sizes.num_classes} labels")
    if clean not in (None, "html"):
        raise CheckpointError(f"{path}: config.json: clean is {brief(clean)}")
    listed = config.get("encoders")
    if not isinstance(listed, list) or not 1 <= len(listed) <= 2:
        raise CheckpointError(f"{path}: config.json does not describe one or two encoders")
    configs = [
        config_from_json(ModelConfig, one, f"{path}: encoder {index} of config.json")
        for index, one in enumerate(listed)
    ]
    vocabularies = tuple(
        read_vocabulary(stored, f"vocabulary-{index}", one) for index, one in enumerate(configs)
    )
    weights = stored.tensors.get("model")
    if weights is None:
        raise CheckpointError(f"{path}: model.safetensors is missing")
    network = _empty_network(stored, configs, sizes, len(weights))
    expected = _without_counters(network.state_dict())
    check_weights(f"{path}: model.safetensors", expected, weights)
    weights = {name: value.float() for name, value in weights.items()}
    if not float(weights["temperature"]) > 0:
        raise CheckpointError(f"{path}: model.safetensors: temperature is not above 0")
    for name, value in weights.items():
        if name.endswith("running_var") and (value < 0).any():
            raise CheckpointError(f"{path}: model.safetensors: {name} has a variance below 0")
    counters = {k: torch.zeros((), dtype=torch.int64) for k in network.state_dict()}
    network.load_state_dict(counters | weights, assign=True)
    for encoder in network.lm_encoders():
        if encoder.config.tied:
            encoder.output.weight = encoder.embedding.weight
    network.requires_grad_(True)
    return network.eval(), vocabularies, tuple(labels), clean


def unpack_ngrams(stored: Checkpoint, num_classes: int) -> NgramModel | None:
    """The n-grams that vote beside the network, if any do.

    Raises
    ------
    CheckpointError
        Where they do not fit.
    """
    tensors = stored.tensors.get("ngrams")
    if tensors is None:
        return None
    try:
        return NgramModel.from_tensors(tensors, num_classes)
    except ValueError as error:
        raise CheckpointError(f"{stored.path}: ngrams.safetensors: {error}") from error


def _empty_network(
    stored: Checkpoint, configs: Sequence[ModelConfig], sizes: NetworkConfig, tensors: int
) -> ClassifierNetwork:
    """The network without memory: shapes are compared before any of the stated size is taken."""
    if sum(config.num_layers or 0 for config in configs) > tensors:
        raise CheckpointError(
            f"{stored.path}: config.json states more layers than model.safetensors has tensors for"
        )
    with shapes_only():
        try:
            return ClassifierNetwork([CharLM(config) for config in configs], sizes)
        except (RuntimeError, OverflowError, TypeError, ConfigError) as error:
            raise CheckpointError(f"{stored.path}: config.json states impossible sizes") from error
