"""`chargen verify`: what is right is told, and the first thing that is wrong, by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import chargen as library
from chargen.errors import (
    CheckpointError,
    ConfigError,
    CorpusError,
    MissingExtraError,
    TrainingError,
)
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint
from chargen.training.reporting import Reporter

from .cli.conftest import TEXT, Command, chargen  # noqa: F401
from .sentiment.making import QUICK, save_lm, separable, write_csv

SMALL: dict[str, Any] = {"hidden_size": 8, "batch_size": 4, "window": 16, "num_layers": 1}
OPTIONS: dict[str, Any] = {"steps": 6, "eval_every": 3, "precision": "float32", "ema": 0.9}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model with its run."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "fox.txt").write_text(TEXT)
    library.train(folder / "fox.txt", folder / "fox", samples=False, **SMALL, **OPTIONS)
    return folder / "fox"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with its run."""
    folder = tmp_path_factory.mktemp("classifier")
    save_lm(folder / "lm")
    data = write_csv(folder / "separable.csv", separable(30))
    library.finetune(data, folder / "lm", folder / "mood", ngrams=False, **QUICK)
    return folder / "mood"


def files(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of each file in a folder and beside it."""
    found = [path for path in directory.parent.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def changed(directory: Path, copy: Path, change: Callable[[Checkpoint], object]) -> Path:
    """A copy of a checkpoint that states what was changed as if it were right."""
    stored = checkpoint.load(directory, training=True)
    change(stored)
    checkpoint.save(copy, stored)
    return copy


@pytest.mark.parametrize("kind", ["run", "classifier"])
def test_a_run_that_is_right(kind: str, request: pytest.FixtureRequest) -> None:
    directory: Path = request.getfixturevalue(kind)
    before = files(directory)
    found = library.verify(directory, replay=2)
    assert files(directory) == before
    assert found.directory == directory
    assert found.kind == checkpoint.load(directory).kind
    assert found.files == len(list(directory.rglob("*.*"))) - 2  # the manifest and the log
    assert found.values > 100
    assert found.largest_error < 1e-5
    assert found.resumable
    assert found.replayed >= 2


def test_every_line_is_told(chargen: Command, run: Path, tmp_path: Path) -> None:  # noqa: F811
    result = chargen("verify", run, "--replay", 1)
    assert result.code == 0
    assert result.err == ""
    for words in (
        "sizes and SHA-256",
        "metrics.jsonl",
        "model.safetensors: ",
        "a forward pass: ",
        "training state of step 6",
        "replay: 1 steps from step 6, twice",
    ):
        assert words in result.out
    facts = json.loads(chargen("verify", run, "--json").out)
    assert facts == {**vars(library.verify(run)), "directory": str(run)}
    alone = tmp_path / "alone"
    library.load(run).save(alone)
    result = chargen("verify", alone)
    assert result.code == 0
    assert "nothing to resume" in result.out


def test_every_byte_counts(chargen: Command, run: Path, tmp_path: Path) -> None:  # noqa: F811
    for name in [*checkpoint.file_sizes(run), checkpoint.MANIFEST]:
        copy = changed(run, tmp_path / "copy", lambda _: None)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        result = chargen("verify", copy)
        assert result.code == 1
        assert result.out == ""
        assert len(result.err.splitlines()) == 1
        assert str(copy) in result.err
        if name != checkpoint.MANIFEST:
            assert name in result.err


def put(group: str, key: str, value: Any) -> Callable[[Checkpoint], object]:
    def change(stored: Checkpoint) -> None:
        tensor = stored.tensors[group][key]
        stored.tensors[group][key] = value(tensor.clone())

    return change


def drop(group: str) -> Callable[[Checkpoint], object]:
    return lambda stored: stored.tensors.pop(group)


def no_streams(stored: Checkpoint) -> None:
    stored.document("config")["train"]["batch_size"] = None


NAN = float("nan")
DAMAGE = {
    "weights": (put("model", "output.bias", lambda t: t.fill_(NAN)), "output.bias"),
    "shapes": (put("model", "output.bias", lambda t: t[1:]), "output.bias"),
    "last weights": (put("training/model", "output.bias", lambda t: t[1:]), "training/model"),
    "average": (put("training/average", "output.bias", lambda t: t / 0), "training/average"),
    "states": (put("training/state", "0", lambda t: t.fill_(NAN)), "training/state.safetensors"),
    "states' shapes": (put("training/state", "0", lambda t: t[:, 1:]), "training/state"),
    "no streams": (no_streams, "training/state.safetensors"),
    "no states": (drop("training/state"), "training/state.safetensors lacks"),
    "optimizer": (put("training/optimizer", "0.exp_avg", lambda t: t.fill_(NAN)), "0.exp_avg"),
    "optimizer's shapes": (put("training/optimizer", "0.exp_avg", lambda t: t[1:]), "0.exp_avg"),
    "no optimizer": (drop("training/optimizer"), "optimizer"),
    "no last weights": (drop("training/model"), "model"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_with_right_hashes(kind: str, run: Path, tmp_path: Path) -> None:
    change, word = DAMAGE[kind]
    copy = changed(run, tmp_path / "copy", change)
    with pytest.raises(CheckpointError) as caught:
        library.verify(copy)
    assert word in str(caught.value)
    assert str(copy) in str(caught.value)


def test_a_classifiers_optimizer(classifier: Path, tmp_path: Path) -> None:
    stored = checkpoint.load(classifier, training=True)
    name = next(k for k in stored.tensors["training/optimizer"] if k.endswith("exp_avg_sq"))
    copy = changed(classifier, tmp_path / "copy", put("training/optimizer", name, lambda t: t / 0))
    with pytest.raises(CheckpointError, match=name):
        library.verify(copy)


@pytest.mark.parametrize("lost", ["progress", "step", "results"])
def test_a_classifiers_state_that_lacks_something(
    classifier: Path, tmp_path: Path, lost: str
) -> None:
    def change(stored: Checkpoint) -> None:
        state = stored.documents["training/state"]
        group = {"progress": state, "step": state["progress"]}.get(lost, stored.documents["config"])
        del group[lost]

    with pytest.raises(CheckpointError, match="it lacks"):
        library.verify(changed(classifier, tmp_path / "copy", change), replay=1)


def test_a_replay_that_needs_an_extra_says_so(
    classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sklearn", "sklearn.metrics"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="pip install"):
        library.verify(classifier, replay=1)


def test_all_other_files_are_counted(run: Path, tmp_path: Path) -> None:
    class Notes(Reporter):
        def note(self, text: str) -> None:
            notes.append(text)

    notes: list[str] = []
    copy = changed(run, tmp_path / "copy", lambda _: None)
    for number in range(1200):
        (copy / f"{number:04}.txt").touch()
    library.verify(copy, reporter=Notes())
    assert notes[1].endswith("0007.txt, 0008.txt, 0009.txt and 1,190 more")


def test_weights_that_overflow(run: Path, tmp_path: Path) -> None:
    def change(stored: Checkpoint) -> None:
        stored.tensors["model"]["layers.0.bias_ih_l0"].fill_(20)  # all outputs are near 1
        stored.tensors["model"]["output.weight"].fill_(3e38)

    with pytest.raises(CheckpointError, match="does not sum to 1"):
        library.verify(changed(run, tmp_path / "copy", change))


def test_a_machine_that_computes_otherwise_is_told_with_the_tensor(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, calls = torch.nn.utils.clip_grad_norm_, []

    def otherwise(parameters: Any, limit: float) -> Any:
        parameters = list(parameters)
        calls.append(None)
        if len(calls) == 3:  # the second copy's first step
            for parameter in parameters:
                parameter.grad *= 2
        return clip(parameters, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", otherwise)
    with pytest.raises(TrainingError, match=r"after 2 steps, \S+ of \S+\.safetensors differs"):
        library.verify(run, replay=2)


def test_what_cannot_be_replayed(run: Path, tmp_path: Path) -> None:
    library.load(run).save(tmp_path / "alone")
    with pytest.raises(CheckpointError, match="cannot be replayed"):
        library.verify(tmp_path / "alone", replay=1)
    with pytest.raises(ConfigError, match="--replay"):
        library.verify(run, replay=-1)

    def elsewhere(stored: Checkpoint) -> None:
        stored.documents["config"]["corpus"] |= {"arguments": [], "key": "0" * 64}

    copy = changed(run, tmp_path / "copy", elsewhere)
    with pytest.raises(CorpusError) as caught:
        library.verify(copy, replay=1)
    assert str(copy) in str(caught.value)


def test_other_kinds(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "other", Checkpoint("painting"))
    with pytest.raises(CheckpointError, match="kind"):
        library.verify(tmp_path / "other")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        library.verify(tmp_path / "nothing")
