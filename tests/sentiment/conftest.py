"""Checkpoints of untrained models, and labelled texts, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chargen.sentiment import members as ngrams
from chargen.sentiment import storage
from chargen.sentiment.members import NetworkMember
from chargen.storage import checkpoint

from .making import BYTES, CHARS, DROPOUTS, make_network, save_lm, separable, write_csv


@pytest.fixture(scope="package", autouse=True)
def _few_buckets() -> Iterator[None]:
    """Tables of 2^20 buckets would take most of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "BUCKET_BITS", 14)
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with language models: forward, backward, bytes, tied, gru."""
    folder = tmp_path_factory.mktemp("models")
    save_lm(folder / "forward", **DROPOUTS)
    save_lm(folder / "backward", direction="backward", hidden_size=6, seed=1, **DROPOUTS)
    save_lm(folder / "bytes", BYTES, seed=2)
    save_lm(folder / "tied", tied=True, num_layers=2, seed=3, **DROPOUTS)
    save_lm(folder / "gru", cell="gru", seed=4)
    return folder


@pytest.fixture(scope="session")
def tiny_lm(models: Path) -> Path:
    """A checkpoint of an untrained language model of characters."""
    return models / "forward"


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a classifier that nobody trained."""
    stored = storage.pack([NetworkMember(make_network(), [CHARS])], ("bad", "good"), None)
    directory = tmp_path_factory.mktemp("classifier") / "tiny"
    checkpoint.save(directory, stored)
    return directory


@pytest.fixture(scope="session")
def separable_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 60 labelled texts, an easy task."""
    return write_csv(tmp_path_factory.mktemp("data") / "separable.csv", separable(60))
