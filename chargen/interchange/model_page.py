"""Export a trained model as one HTML page that writes in any browser, without a network."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chargen.errors import ConfigError
from chargen.interchange.export import refuse_counts, symbols
from chargen.language_model import LanguageModel
from chargen.lm import storage
from chargen.lm.config import ModelConfig
from chargen.plotting import heatmap
from chargen.plotting.painting import escape_controls
from chargen.sampling.detokenizer import TRANSITIONS
from chargen.text.config import CorpusConfig

_FOLDER = Path(__file__).parent / "page"


def model_page(lm: LanguageModel, title: str) -> str:
    """Return an HTML page that contains the model's weights.

    A matrix is stored as float16 if that is exact, as in the models of the package, otherwise as
    float32. In both cases the page computes the model's probabilities. Raises `ConfigError` for a
    model that reads from the end of a text, writes raw bytes or mixes in counts.
    """
    if lm.backward:
        raise ConfigError(
            "a page cannot use a model that reads from the end of a text: export it with "
            "--format onnx"
        )
    if lm.raw:
        raise ConfigError(
            "a page shows text, and this model writes raw bytes: export it with --format onnx"
        )
    refuse_counts(lm)
    model = lm.model
    tensors = storage.pack(model.config, model.state_dict(), lm.vocabulary).tensors["model"]
    weights = {
        name: _float16_if_exact(tensor.float().cpu().numpy()) for name, tensor in tensors.items()
    }
    parts = {
        "title": html.escape(escape_controls(title, "")),
        "facts": f"{_sizes(model.config)}, {model.num_parameters():,} weights, made with chargen.",
        "style": heatmap.style(),
        "legend": heatmap.legend(),
        "description": json.dumps(_description(lm, weights)).replace("<", "\\u003c"),
        "weights": base64.b64encode(b"".join(a.tobytes() for a in weights.values())).decode(),
        "worker": (_FOLDER / "worker.js").read_text("utf-8"),
        "page": (_FOLDER / "page.js").read_text("utf-8"),
    }
    template = (_FOLDER / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _description(lm: LanguageModel, weights: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return what the page needs to know to use the weights."""
    model, vocabulary = lm.model, lm.vocabulary
    return {
        "cell": model.config.cell,
        "num_layers": model.config.num_layers,
        "hidden_size": model.config.hidden_size,
        "tied": model.config.tied,
        "networks": model.config.num_networks,
        "tensors": [(name, a.size, a.itemsize == 2) for name, a in weights.items()],
        "symbols": symbols(lm),
        "start_id": vocabulary.start_id,
        "unknown_id": vocabulary.unknown_id,
        "separator_id": vocabulary.separator_id,
        "utf8": TRANSITIONS if vocabulary.level == "byte" else None,
        "normalize": lm.reading(CorpusConfig()).normalize,
        "steps": [end for end, _ in heatmap.STEPS[:-1]],
    }


def _sizes(config: ModelConfig) -> str:
    size = f"{config.cell.upper()}, {config.num_layers} × {config.hidden_size} units"
    return size if config.num_networks == 1 else f"{config.num_networks} networks, {size} each"


def _float16_if_exact(array: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
    with np.errstate(over="ignore"):
        half = array.astype("<f2")
    return half if np.array_equal(half, array) else array.astype("<f4")
