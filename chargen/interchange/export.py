"""Export a model as a folder of ONNX graphs with a description for the programs that use them."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from chargen.errors import (
    ChargenError,
    CheckpointError,
    ConfigError,
    CorpusError,
    MissingExtraError,
)
from chargen.language_model import LanguageModel
from chargen.lm.cells import CELLS
from chargen.lm.evaluation import log_probs
from chargen.storage.directories import (
    keep_other_entries,
    real_path,
    replace_directory,
    sync_file,
)
from chargen.storage.outputs import writing_lock
from chargen.text.config import CorpusConfig

FORMAT = "chargen-onnx"
VERSION = 1
DESCRIPTION = "model.json"
FILES = (DESCRIPTION, "score.onnx", "step.onnx")
TOLERANCE = 1e-4
"""Largest difference in nats that `check` accepts."""


def export_onnx(
    lm: LanguageModel, out: str | os.PathLike[str], *, force: bool = False
) -> dict[str, Any]:
    """Write ``step.onnx``, ``score.onnx`` and ``model.json`` into a new folder, atomically.

    Returns the content of ``model.json``.

    Parameters
    ----------
    lm : LanguageModel
    out : path
    force : bool
        Replace an earlier export at `out`; other files in its folder stay.

    Raises
    ------
    MissingExtraError, ConfigError, CheckpointError, OSError
        If onnx is not installed; if the model mixes in counts or `out` must not be replaced; if
        another process is writing `out`; if it cannot be written.
    """
    refuse_counts(lm)
    directory = Path(out)
    with writing_lock(directory):
        if directory.exists() and not _is_export(directory):
            raise ConfigError(f"{directory} exists and is not an export: choose another --out")
        if directory.exists() and not force:
            raise ConfigError(
                f"{directory} exists: choose another --out, or replace it with --force"
            )
        try:
            from chargen.interchange.graph import score_model, step_model
        except ImportError as error:
            raise MissingExtraError("exporting", "onnx") from error
        description = describe(lm)
        directory = real_path(directory)  # a link is kept, and its target is replaced
        work = directory.with_name(f".{directory.name}.writing")
        shutil.rmtree(work, ignore_errors=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir()
        try:
            for name, graph in (("step", step_model(lm.model)), ("score", score_model(lm.model))):
                with (work / f"{name}.onnx").open("wb") as file:
                    file.write(graph.SerializeToString())
                    sync_file(file)
            with (work / DESCRIPTION).open("w", encoding="utf-8") as text:
                json.dump(description, text, indent=1, ensure_ascii=False)
                sync_file(text)
            if directory.is_dir():
                keep_other_entries(directory, work, FILES)
            replace_directory(work, directory, directory.with_name(f".{directory.name}.previous"))
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return description


def refuse_counts(lm: LanguageModel) -> None:
    """Raise `ConfigError` for a model that mixes in counts, since exports contain only networks."""
    if lm.counts is not None:
        raise ConfigError(
            "an export contains only a network, and this model also has the counts of a text: "
            "export the model that was given to chargen count"
        )


def describe(lm: LanguageModel) -> dict[str, Any]:
    """Return what a program needs to know to use the graphs, as a JSON object."""
    vocabulary, config, reading = lm.vocabulary, lm.model.config, lm.reading(CorpusConfig())
    state = ["num_layers", "B", "hidden_size"]
    states = {name: {"type": "float32", "shape": state} for name in CELLS[config.cell].states}
    next_states = {f"{name}_out": value for name, value in states.items()}
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "cell": config.cell,
        "num_layers": config.num_layers,
        "hidden_size": lm.model.hidden_size,
        "direction": config.direction,
        "clean": reading.clean,  # clean and normalize before looking up ids
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
                "outputs": {"log_probs": {"type": "float32", "shape": ["B", "V"]}, **next_states},
            },
            "score.onnx": {
                "inputs": {
                    "ids": {"type": "int64", "shape": ["T", "B"]},
                    "next_ids": {"type": "int64", "shape": ["T", "B"]},
                    **states,
                },
                "outputs": {"log_probs": {"type": "float32", "shape": ["T", "B"]}, **next_states},
            },
        },
    }


def symbols(lm: LanguageModel) -> list[str | int | None]:
    """Return the character of each id (a byte in models of bytes), or None if it is never text."""
    vocabulary = lm.vocabulary
    special = {vocabulary.separator_id, *vocabulary.never_sampled.tolist()}
    characters = vocabulary.level == "char"
    return [
        None if i in special else vocabulary.decode([i]) if characters else i
        for i in range(vocabulary.size)
    ]


def check(folder: str | os.PathLike[str], lm: LanguageModel, text: str) -> float:
    """Compare the graphs in a folder with the model they were made from, on a text.

    Returns the largest difference between log-probabilities in nats: over all symbols with
    ``score.onnx``, and over the first hundred with ``step.onnx``. Raises `ChargenError` if it is
    above `TOLERANCE`, `CorpusError` if there is no text, and `MissingExtraError` without
    onnxruntime.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("checking an export", "onnx") from error
    if not text:
        raise CorpusError("there is no text on which to compare the export with its checkpoint")
    ids = lm.vocabulary.encode(text).astype(np.int64)
    ids = ids[::-1] if lm.backward else ids
    expected = log_probs(lm.model, ids, lm.vocabulary.start_id)
    inputs = np.concatenate([[lm.vocabulary.start_id], ids[:-1]]).astype(np.int64)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = {
        name: onnxruntime.InferenceSession(  # which takes no path that is not UTF-8
            (Path(folder) / f"{name}.onnx").read_bytes(),
            options,
            providers=["CPUExecutionProvider"],
        )
        for name in ("score", "step")
    }
    zeros = [part.cpu().numpy() for part in lm.model.initial_state(1)]
    state = dict(zip(CELLS[lm.model.config.cell].states, zeros, strict=True))
    actual = sessions["score"].run(
        ["log_probs"], {"ids": inputs[:, None], "next_ids": ids[:, None], **state}
    )[0][:, 0]
    difference = float(np.abs(actual - expected).max())
    for position, id_ in enumerate(inputs[:100]):
        scores, *next_states = sessions["step"].run(None, {"ids": np.array([id_]), **state})
        state = dict(zip(state, next_states, strict=True))
        difference = max(difference, abs(float(scores[0, ids[position]] - expected[position])))
    if not math.isfinite(difference) or difference > TOLERANCE:
        raise ChargenError(
            f"{folder}: the exported model differs from its checkpoint by {difference:.2g} nats, "
            f"more than {TOLERANCE:g}: do not use it, and report it with the versions of torch, "
            "onnx and onnxruntime"
        )
    return difference


def _is_export(directory: Path) -> bool:
    try:
        description = json.loads((directory / DESCRIPTION).read_text("utf-8"))
        return isinstance(description, dict) and description.get("format") == FORMAT
    except (OSError, ValueError):
        return False


def default_out(directory: str, kind: str = "onnx") -> str:
    """Return the default path of an export: in the working directory, named after the model."""
    name = Path(os.path.abspath(directory)).name  # noqa: PTH100
    if not name:
        raise CheckpointError(f"{directory} gives no name for the export: name it with --out")
    return f"{name}.html" if kind == "html" else f"{name}-onnx"
