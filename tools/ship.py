"""Make a checkpoint fit to be shipped: small, and without what only resuming needs.

    python tools/ship.py checkpoints/long-run checkpoints/reviews [LABELLED]

Matrices and all tensors of n-grams of characters become float16 (other vectors stay float32), files
under `training/` are left out, and absolute paths in config.json are reduced to their names. With
labelled texts, a language model also gets vectors for `chargen sample --steer`. MODEL_CARD.md is
written by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from chargen.language_model import LanguageModel
from chargen.sampling.steering import fit_steering, store_steering
from chargen.sentiment.config import ExamplesConfig
from chargen.sentiment.examples import read_examples
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint

LARGEST = 16 * 1024 * 1024


def main(source: str, target: str, labelled: str | None = None) -> None:
    """Write the small checkpoint and print its size."""
    stored = checkpoint.load(source)
    tensors = {
        name: {
            key: value.to(torch.float16) if value.ndim > 1 or name == "ngrams" else value
            for key, value in group.items()
        }
        for name, group in stored.tensors.items()
    }
    documents = {name: without_paths(value) for name, value in stored.documents.items()}
    checkpoint.save(Path(target), Checkpoint(stored.kind, documents, tensors))
    if labelled is not None:
        examples = read_examples(labelled, ExamplesConfig(clean="html"))
        lm, name = LanguageModel.load(target), Path(labelled).name
        store_steering(target, fit_steering(lm, examples.texts, examples.labels, name))
    size = sum(path.stat().st_size for path in Path(target).rglob("*") if path.is_file())
    print(f"{target}: {size / 1e6:.2f} MB")
    if size > LARGEST:
        sys.exit(f"{target} is larger than {LARGEST} bytes")


def without_paths(value: Any, key: str = "") -> Any:
    """Return a JSON value with absolute paths reduced to names; `characters` stays unchanged."""
    if isinstance(value, dict):
        return {k: without_paths(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [without_paths(v, key) for v in value]
    if isinstance(value, str) and key != "characters" and Path(value).is_absolute():
        return Path(value).name
    return value


if __name__ == "__main__":
    main(*sys.argv[1:4])
