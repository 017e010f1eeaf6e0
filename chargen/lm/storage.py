"""Language models as checkpoints: which part goes into which file, and how it is read back."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from chargen.errors import (
    CheckpointError,
    ConfigError,
    VocabularyError,
    brief,
    convert_memory_errors,
    did_you_mean,
    is_out_of_memory,
)
from chargen.lm.config import CountsConfig, ModelConfig
from chargen.lm.counts import Counts
from chargen.lm.model import Network, create_network
from chargen.runtime.device import shapes_only
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint
from chargen.text.vocabulary import Vocabulary, vocabulary_from_json

KIND = "language-model"

ConfigT = TypeVar("ConfigT")

FLOAT_TYPES = {
    *(torch.float64, torch.float32, torch.bfloat16, torch.float16),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
}
"""Types that are converted to float32; torch has further ones, some of which it cannot convert."""


def config_from_json(cls: type[ConfigT], value: Any, message_prefix: str) -> ConfigT:
    """Read a configuration from its JSON object; wrong fields or values raise `CheckpointError`."""
    if not isinstance(value, dict):
        raise CheckpointError(f"{message_prefix} is not an object")
    names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in value:
        if name not in names:
            raise CheckpointError(
                f"{message_prefix} has the unknown field {brief(name)}, which a newer chargen may "
                f"have written: update chargen{did_you_mean(name, names)}"
            )
    try:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in value.items()})
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{message_prefix}: {error}") from error


@contextlib.contextmanager
def convert_restore_errors(directory: Path) -> Iterator[None]:
    """Turn an error in restoring a training state into a `CheckpointError`."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        if is_out_of_memory(e):
            raise
        reason = f"it lacks {e}" if isinstance(e, KeyError) else str(e).split("\n")[0]
        raise CheckpointError(
            f"{directory}: training/ does not match the run: {reason[:200]}"
        ) from e


def pack(
    model_config: ModelConfig,
    weights: dict[str, Tensor],
    vocabulary: Vocabulary,
    counts: Counts | None = None,
) -> Checkpoint:
    """Return a checkpoint sufficient to sample and score; callers add documents and tensors."""
    weights = dict(weights)
    for output, _ in _tied_names(model_config):
        weights.pop(output, None)
    config: dict[str, Any] = {"model": asdict(model_config), "counts": None}
    tensors = {"model": weights}
    if counts is not None:
        config["counts"] = {"order": counts.order, "weight": counts.weight}
        dtype = np.uint8 if counts.vocabulary_size <= 1 << 8 else np.int32
        tensors["counts"] = {"ids": torch.from_numpy(counts.ids.astype(dtype))}
    return Checkpoint(
        KIND,
        documents={"config": config, "vocabulary": vocabulary.to_json()},
        tensors=tensors,
    )


def unpack(stored: Checkpoint) -> tuple[Network, Vocabulary]:
    """Return the model (float32, on the CPU, in evaluation mode) and vocabulary of a checkpoint.

    Raises `CheckpointError` if configuration, vocabulary and tensors do not fit together.
    """
    path = stored.path
    saved = stored.document("config").get("model")
    if isinstance(saved, dict):  # in earlier versions, every model is a single network
        saved = {"ensemble": 1, **saved}
    config = config_from_json(ModelConfig, saved, f"{path}: model of config.json")
    vocabulary = read_vocabulary(stored, "vocabulary", config)
    weights = stored.tensors.get("model")
    if weights is None:
        raise CheckpointError(f"{path}: model.safetensors is missing")
    weights = with_tied_weights(config, weights)
    # Shapes are compared before anything of the stated size is allocated.
    if (config.num_layers or 0) * config.num_networks > len(weights):
        raise CheckpointError(
            f"{path}: config.json states {config.num_layers} layers, but model.safetensors does "
            "not have their tensors"
        )
    with shapes_only():
        try:
            model = create_network(config)
        except (RuntimeError, OverflowError, TypeError, ConfigError) as error:
            raise CheckpointError(f"{path}: config.json states impossible sizes") from error
    check_weights(f"{path}: model.safetensors", model.state_dict(), weights)
    # assign: the tensors that were read become the parameters, without a copy
    model.load_state_dict({k: v.float() for k, v in weights.items()}, assign=True)
    for member in model.members:
        if config.tied:
            member.output.weight = member.embedding.weight
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.eval(), vocabulary


def unpack_counts(stored: Checkpoint, vocabulary: Vocabulary) -> Counts | None:
    """Return the counts of a checkpoint, or None; invalid counts raise a `CheckpointError`."""
    group, saved = stored.tensors.get("counts"), stored.document("config").get("counts")
    if group is None and saved is None:
        return None
    where = f"{stored.path}: counts of config.json"
    config = config_from_json(CountsConfig, saved, where)
    weight = config.weight
    if weight is None:
        raise CheckpointError(f"{where}: there is no weight")
    where = f"{stored.path}: counts.safetensors"
    ids = (group or {}).get("ids")
    if ids is None or ids.dtype not in (torch.uint8, torch.int32) or ids.dim() != 1 or not len(ids):
        raise CheckpointError(f"{where} has no list of ids")
    if ids.min() < 0 or ids.max() >= vocabulary.size:
        raise CheckpointError(f"{where} has ids that are not symbols of vocabulary.json")
    return Counts(ids.numpy(), vocabulary.size, config.order, weight)


def read_vocabulary(stored: Checkpoint, name: str, config: ModelConfig) -> Vocabulary:
    """Read the vocabulary in NAME.json and check that it has the size that the model expects."""
    try:
        vocabulary = vocabulary_from_json(stored.document(name))
    except VocabularyError as error:
        raise CheckpointError(f"{stored.path}: {name}.json: {error}") from error
    if vocabulary.size != config.vocabulary_size:
        raise CheckpointError(
            f"{stored.path}: {name}.json has {vocabulary.size} symbols, config.json says "
            f"{config.vocabulary_size}"
        )
    return vocabulary


def with_tied_weights(config: ModelConfig, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights including the tied ones, which `pack` stores under one name only."""
    complete = dict(weights)
    for output, embedding in _tied_names(config):
        if embedding in weights:
            complete[output] = weights[embedding]
    return complete


def _tied_names(config: ModelConfig) -> list[tuple[str, str]]:
    """Return the names of tied weights: of each output and of the embedding that it shares."""
    count = config.num_networks
    prefixes = [f"networks.{i}." for i in range(count)] if count > 1 else [""]
    return [(f"{p}output.weight", f"{p}embedding.weight") for p in prefixes if config.tied]


def check_weights(
    message_prefix: str, expected: dict[str, Tensor], weights: dict[str, Tensor]
) -> None:
    """Refuse weights with unexpected names or shapes, types other than floats, NaN or infinity."""
    for name in sorted(expected.keys() ^ weights.keys()):
        state = "lacks" if name in expected else "has the unknown"
        raise CheckpointError(f"{message_prefix} {state} tensor {brief(name)}")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{message_prefix}: {name} has shape {brief(list(tensor.shape))}, config.json asks "
                f"for {list(expected[name].shape)}"
            )
        if tensor.dtype not in FLOAT_TYPES:
            raise CheckpointError(f"{message_prefix}: {name} has type {tensor.dtype}, not a float")
        if not torch.isfinite(tensor.float()).all():  # in the precision of use
            raise CheckpointError(
                f"{message_prefix}: {name} has values that are not finite numbers"
            )


@convert_memory_errors()
def load(directory: str | os.PathLike[str]) -> tuple[Network, Vocabulary, Checkpoint]:
    """Read a language model; see `chargen.storage.checkpoint.load` and `unpack` for the errors."""
    stored = checkpoint.load(directory, KIND)
    model, vocabulary = unpack(stored)
    return model, vocabulary, stored
