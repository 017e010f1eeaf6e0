"""A folder with a model as ONNX graphs and all that another program needs to use them."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from chargen.errors import ChargenError, CheckpointError, ConfigError, MissingExtraError
from chargen.language_model import LanguageModel
from chargen.lm.cells import CELLS
from chargen.lm.evaluation import log_probs
from chargen.storage.directories import replace_directory, sync_file
from chargen.text.config import CorpusConfig

FORMAT = "chargen-onnx"
VERSION = 1
DESCRIPTION = "model.json"
TOLERANCE = 1e-4
"""Largest difference in nats that a check lets pass."""


def export_onnx(
    lm: LanguageModel, out: str | os.PathLike[str], *, force: bool = False
) -> dict[str, Any]:
    """Write ``step.onnx``, ``score.onnx`` and ``model.json`` into a new folder.

    The folder appears whole or not at all. What stands in ``model.json`` is returned.

    Parameters
    ----------
    lm : LanguageModel
    out : path
    force : bool
        Replace an earlier export there.

    Raises
    ------
    MissingExtraError, ConfigError, OSError
        Without the library onnx; where something stands at `out`, or it cannot be written.
    """
    refuse_counts(lm)
    directory = Path(out)
    if directory.exists() and not _is_export(directory):
        raise ConfigError(f"{directory} exists and is not an export: choose another --out")
    if directory.exists() and not force:
        raise ConfigError(f"{directory} exists: choose another --out, or replace it with --force")
    try:
        from chargen.interchange.graph import score_model, step_model
    except ImportError as error:
        raise MissingExtraError("exporting", "onnx") from error
    description = describe(lm)
    work = directory.with_name(f".{directory.name}.writing")
    shutil.rmtree(work, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    work.mkdir()
    try:
        for name, made in (("step", step_model(lm.model)), ("score", score_model(lm.model))):
            with (work / f"{name}.onnx").open("wb") as file:
                file.write(made.SerializeToString())
                sync_file(file)
        with (work / DESCRIPTION).open("w", encoding="utf-8") as text:
            json.dump(description, text, indent=1, ensure_ascii=False)
            sync_file(text)
        replace_directory(work, directory, directory.with_name(f".{directory.name}.previous"))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return description


def refuse_counts(lm: LanguageModel) -> None:
    """Raise `ConfigError` for a model that mixes in counts: its network alone is another model."""
    if lm.counts is not None:
        raise ConfigError(
            "an export holds a network alone, and this model mixes in the counts of a text: export "
            "the model that chargen count was given"
        )


def describe(lm: LanguageModel) -> dict[str, Any]:
    """What a program must know to use the graphs, as a JSON object."""
    vocabulary, config, reading = lm.vocabulary, lm.model.config, lm.reading(CorpusConfig())
    state = ["num_layers", "B", "hidden_size"]
    states = {name: {"type": "float32", "shape": state} for name in CELLS[config.cell].states}
    after = {f"{name}_out": value for name, value in states.items()}
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "cell": config.cell,
        "num_layers": config.num_layers,
        "hidden_size": lm.model.hidden_size,
        "direction": config.direction,
        "clean": reading.clean,  # both come before symbols are looked up
        "normalize": reading.normalize,
        "level": vocabulary.level,
        "start_id": vocabulary.start_id,
        "unknown_id": vocabulary.unknown_id,
        "separator_id": vocabulary.separator_id,
        "symbols": symbols(lm),
        "labels": list(vocabulary.labels),  # their ids are the last ones
        "graphs": {
            "step.onnx": {
                "inputs": {"ids": {"type": "int64", "shape": ["B"]}, **states},
                "outputs": {"log_probs": {"type": "float32", "shape": ["B", "V"]}, **after},
            },
            "score.onnx": {
                "inputs": {
                    "ids": {"type": "int64", "shape": ["T", "B"]},
                    "next_ids": {"type": "int64", "shape": ["T", "B"]},
                    **states,
                },
                "outputs": {"log_probs": {"type": "float32", "shape": ["T", "B"]}, **after},
            },
        },
    }


def symbols(lm: LanguageModel) -> list[str | int | None]:
    """By id: a character, of a model of bytes a byte, or None for what is never text."""
    vocabulary = lm.vocabulary
    special = {vocabulary.separator_id, *vocabulary.never_sampled.tolist()}
    characters = vocabulary.level == "char"
    return [
        None if i in special else vocabulary.decode([i]) if characters else i
        for i in range(vocabulary.size)
    ]


def check(folder: str | os.PathLike[str], lm: LanguageModel, text: str) -> float:
    """Compare the graphs in a folder with the model they were made from, on a text.

    The largest difference of a log-probability is returned, in nats: of all symbols with
    ``score.onnx``, and of the first hundred with ``step.onnx``. `ChargenError` where it is above
    `TOLERANCE`, `MissingExtraError` without onnxruntime.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("checking an export", "onnx") from error
    ids = lm.vocabulary.encode(text).astype(np.int64)
    ids = ids[::-1] if lm.backward else ids
    expected = log_probs(lm.model, ids, lm.vocabulary.start_id)
    begun = np.concatenate([[lm.vocabulary.start_id], ids[:-1]]).astype(np.int64)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = {
        name: onnxruntime.InferenceSession(
            str(Path(folder) / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
        )
        for name in ("score", "step")
    }
    zeros = [part.cpu().numpy() for part in lm.model.initial_state(1)]
    state = dict(zip(CELLS[lm.model.config.cell].states, zeros, strict=True))
    found = sessions["score"].run(
        ["log_probs"], {"ids": begun[:, None], "next_ids": ids[:, None], **state}
    )[0][:, 0]
    difference = float(np.abs(found - expected).max())
    for place, id_ in enumerate(begun[:100]):
        scores, *after = sessions["step"].run(None, {"ids": np.array([id_]), **state})
        state = dict(zip(state, after, strict=True))
        difference = max(difference, abs(float(scores[0, ids[place]] - expected[place])))
    if not math.isfinite(difference) or difference > TOLERANCE:
        raise ChargenError(
            f"{folder}: the exported model differs from its checkpoint by {difference:.2g} nats, "
            f"more than {TOLERANCE:g}: do not use it, and report it with the versions of torch, "
            "onnx and onnxruntime"
        )
    return difference


def _is_export(directory: Path) -> bool:
    try:
        found = json.loads((directory / DESCRIPTION).read_text("utf-8"))
        return isinstance(found, dict) and found.get("format") == FORMAT
    except (OSError, ValueError):
        return False


def default_out(directory: str, kind: str = "onnx") -> str:
    """Where an export goes that was given no place: beside the user, named after the model."""
    name = Path(os.path.abspath(directory)).name  # noqa: PTH100
    if not name:
        raise CheckpointError(f"{directory} has no name: give the export a place with --out")
    return f"{name}.html" if kind == "html" else f"{name}-onnx"
