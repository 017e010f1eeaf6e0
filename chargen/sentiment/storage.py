"""Checkpoints of classifiers: packing a classifier into files, and unpacking it.

config.json               labels, cleaning, members, and the sizes of the network and its encoders
vocabulary-N.json         vocabulary of encoder N
model.safetensors         all weights of the network, including those of the encoders
ngrams.safetensors        n-grams of characters
words.safetensors         n-grams of words

Only members that vote have files (but see `UNUSED`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from chargen.errors import CheckpointError, ConfigError, brief
from chargen.lm.config import ModelConfig
from chargen.lm.model import CharLM
from chargen.lm.storage import check_weights, config_from_json, read_vocabulary
from chargen.runtime.device import shapes_only
from chargen.sentiment.config import NetworkConfig
from chargen.sentiment.members import MODELS, Member, NetworkMember
from chargen.sentiment.network import ClassifierNetwork
from chargen.storage.checkpoint import Checkpoint
from chargen.text.vocabulary import Vocabulary

KIND = "classifier"

WEIGHTS = "model"
"""Name of the network's tensors."""

UNUSED = "training/unused"
"""Name of the tensors of a fine-tuned network that does not vote, kept to continue its training."""

_COUNTER = "num_batches_tracked"
"""Suffix of the batch counters of batch renormalisation, which only training needs."""


@dataclass(frozen=True)
class Stored:
    """The contents of a classifier's checkpoint."""

    members: tuple[Member, ...]
    labels: tuple[str, ...]
    clean: str | None  # "html" or None
    # (C,) float32, logits of a text that gives the members no information; None in the checkpoint
    # of a run that has not weighted its members yet
    prior: Tensor | None


def weights_of(network: ClassifierNetwork) -> dict[str, Tensor]:
    """Return copies of all weights and statistics, on the CPU."""
    weights = _without_counters(network.state_dict())
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def _without_counters(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.endswith(_COUNTER)}


def pack(
    members: Sequence[Member],
    labels: Sequence[str],
    clean: str | None,
    prior: Tensor | None = None,
) -> Checkpoint:
    """Return a checkpoint that can classify texts; callers may add documents and tensors."""
    names = [member.name for member in members]
    config: dict[str, Any] = {"labels": list(labels), "clean": clean, "members": names}
    if prior is not None:
        config["prior"] = prior.tolist()
    stored = Checkpoint(KIND, documents={"config": config})
    for member in members:
        if isinstance(member, NetworkMember):
            keep_network(stored, member.network, weights_of(member.network), member.vocabularies)
        else:
            stored.tensors[member.name] = member.to_tensors()
    return stored


def keep_network(
    stored: Checkpoint,
    network: ClassifierNetwork,
    weights: dict[str, Tensor],
    vocabularies: Sequence[Vocabulary],
    name: str = WEIGHTS,
) -> None:
    """Add a network with the given weights to a checkpoint, under the given name."""
    stored.documents["config"] |= {
        "network": asdict(network.config),
        "encoders": [asdict(encoder.config) for encoder in network.lm_encoders()],
    }
    for index, vocabulary in enumerate(vocabularies):
        stored.documents[f"vocabulary-{index}"] = vocabulary.to_json()
    stored.tensors[name] = _without_counters(weights)


def unpack(stored: Checkpoint) -> Stored:
    """Return the members (float32, on the CPU, in evaluation mode), labels, cleaning and prior.

    Raises
    ------
    CheckpointError
        If the parts do not fit together.
    """
    path = stored.path
    config = stored.document("config")
    labels, clean = config.get("labels"), config.get("clean")
    if (
        not isinstance(labels, list)
        or len(labels) < 2
        or len(set(map(str, labels))) != len(labels)
        or not all(isinstance(label, str) for label in labels)
    ):
        raise CheckpointError(f"{path}: config.json does not name two labels or more")
    if clean not in (None, "html"):
        raise CheckpointError(f"{path}: config.json: clean is {brief(clean)}")
    prior = _read_prior(stored, len(labels))
    names = _member_names(stored)
    members: list[Member] = []
    if NetworkMember.name in names:
        network, vocabularies = unpack_network(stored)
        if network.config.num_classes != len(labels):
            raise CheckpointError(
                f"{path}: config.json names {len(labels)} labels for a network of "
                f"{network.config.num_classes} classes"
            )
        members.append(NetworkMember(network, vocabularies, prior))
    for model in (candidate for candidate in MODELS if candidate.name in names):
        file = f"{path}: {model.name}.safetensors"
        if (tensors := stored.tensors.get(model.name)) is None:
            raise CheckpointError(f"{file} is missing")
        try:
            members.append(model.from_tensors(tensors, len(labels)))
        except ValueError as error:
            raise CheckpointError(f"{file}: {error}") from error
    return Stored(tuple(members), tuple(labels), clean, prior)


def _member_names(stored: Checkpoint) -> list[str]:
    known = [NetworkMember.name, *(model.name for model in MODELS)]
    names = stored.document("config").get("members")
    if not isinstance(names, list) or not names or any(name not in known for name in names):
        raise CheckpointError(
            f"{stored.path}: config.json: members is {brief(names)}, not some of {known}"
        )
    return names


def _read_prior(stored: Checkpoint, count: int) -> Tensor | None:
    prior = stored.document("config").get("prior")
    if prior is None:
        return None
    if (
        not isinstance(prior, list)
        or len(prior) != count
        or not all(isinstance(value, float) and math.isfinite(value) for value in prior)
    ):
        raise CheckpointError(f"{stored.path}: config.json: prior is {brief(prior)}")
    return torch.tensor(prior)


def unpack_network(stored: Checkpoint) -> tuple[ClassifierNetwork, tuple[Vocabulary, ...]]:
    """Return the network (float32, on the CPU, in evaluation mode) and its encoders' vocabularies.

    In the checkpoint of a run, the network may be one that does not vote.

    Raises
    ------
    CheckpointError
        If the parts do not fit together.
    """
    path = stored.path
    name = UNUSED if UNUSED in stored.tensors else WEIGHTS
    config = stored.document("config")
    sizes = config_from_json(
        NetworkConfig, config.get("network"), f"{path}: network of config.json"
    )
    encoders = config.get("encoders")
    if not isinstance(encoders, list) or not 1 <= len(encoders) <= 2:
        raise CheckpointError(f"{path}: config.json does not describe one or two encoders")
    configs = [
        config_from_json(ModelConfig, values, f"{path}: encoder {index} of config.json")
        for index, values in enumerate(encoders)
    ]
    vocabularies = tuple(
        read_vocabulary(stored, f"vocabulary-{index}", encoder_config)
        for index, encoder_config in enumerate(configs)
    )
    file = f"{path}: {name}.safetensors"
    weights = stored.tensors.get(name)
    if weights is None:
        raise CheckpointError(f"{file} is missing")
    network = _empty_network(stored, configs, sizes, len(weights))
    expected = _without_counters(network.state_dict())
    check_weights(file, expected, weights)
    weights = {name: value.float() for name, value in weights.items()}
    if not float(weights["temperature"]) > 0:
        raise CheckpointError(f"{file}: temperature is not above 0")
    for key, value in weights.items():
        if key.endswith("running_var") and (value < 0).any():
            raise CheckpointError(f"{file}: {key} has a variance below 0")
    counters = {k: torch.zeros((), dtype=torch.int64) for k in network.state_dict()}
    network.load_state_dict(counters | weights, assign=True)
    for encoder in network.lm_encoders():
        if encoder.config.tied:
            encoder.output.weight = encoder.embedding.weight
    network.requires_grad_(True)
    return network.eval(), vocabularies


def _empty_network(
    stored: Checkpoint, configs: Sequence[ModelConfig], sizes: NetworkConfig, tensors: int
) -> ClassifierNetwork:
    """Return the network without its memory, so that shapes can be checked before allocation."""
    if sum(config.num_layers or 0 for config in configs) > tensors:
        raise CheckpointError(
            f"{stored.path}: config.json states more layers than model.safetensors has tensors for"
        )
    with shapes_only():
        try:
            return ClassifierNetwork([CharLM(config) for config in configs], sizes)
        except (RuntimeError, OverflowError, TypeError, ConfigError) as error:
            raise CheckpointError(f"{stored.path}: config.json states impossible sizes") from error
