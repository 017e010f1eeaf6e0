"""A run of a language model that is stopped and resumed ends as one that was not."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import chargen
from chargen.training.session import Run
from tests.sentiment.making import Recorder, separable, write_csv

SMALL: dict[str, Any] = {
    **{"hidden_size": 8, "num_layers": 1, "embedding_size": 4, "dropout": 0.2},
    **{"batch_size": 4, "window": 16, "eval_every": 3, "precision": "float32"},
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "labels": (
        "table.csv",
        {"label_column": "label", "level": "byte", "ensemble": 2, "ema": 0.9, "steps": 10},
    ),
    "patience": (
        "lines.txt",
        {
            **{"documents": "lines", "cell": "rnn", "direction": "backward", "optimizer": "adamw"},
            **{"window_jitter": True, "valid": "unlike.txt", "patience": 2, "steps": 90},
        },
    ),
    "replay": ("lines.txt", {"start_from": "model", "replay": "old.txt", "steps": 10}),
    "epochs": (
        "lines.txt",
        {
            **{"cell": "gru", "epochs": 0.7, "schedule": "constant-cooldown", "cooldown": 0.5},
            **{"tied": True, "variational": True, "weight_dropout": 0.2, "valid_fraction": 0.0},
        },
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, and a model to start from."""
    folder = tmp_path_factory.mktemp("texts")
    lines = "\n".join(separable(60).texts) + "\n"
    (folder / "lines.txt").write_text(lines)
    (folder / "old.txt").write_text(lines.upper())
    (folder / "unlike.txt").write_text("j" * 300)  # training makes it less likely
    write_csv(folder / "table.csv", separable(60))
    chargen.train(folder / "old.txt", folder / "model", steps=1, **SMALL)
    return folder


def stop_after(last_step: int) -> Recorder:
    return Recorder(lambda step: signal.raise_signal(signal.SIGINT) if step == last_step else None)


def figures(run: Run) -> dict[str, Any]:
    return {k: v for k, v in vars(run).items() if k not in ("directory", "seconds")}


def contents(directory: Path) -> tuple[dict[str, bytes], list[Any]]:
    """All tensors of a run, and the rows of its log without times."""
    paths = sorted(directory.rglob("*.safetensors"))
    rows = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    tensors = {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}
    return tensors, [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    corpus, options = CASES[case]
    options = SMALL | options
    whole = chargen.train(corpus, tmp_path / "whole", samples=False, **options)
    # Neither samples nor checkpoints on the way change what it learns.
    out = tmp_path / "part"
    part = chargen.train(corpus, out, checkpoint_every=2, reporter=stop_after(1), **options)
    assert (part.steps, part.finished) == (1, False)
    assert chargen.resume(out, reporter=stop_after(6)).steps == 6
    torch.manual_seed(99)
    ended = chargen.resume(out)
    assert ended.finished
    assert figures(ended) == figures(whole)
    assert contents(out) == contents(tmp_path / "whole")
    assert figures(chargen.resume(out)) == figures(whole)
    assert 8 <= ended.steps < 90  # patience ends a run of 90


def test_a_run_that_has_done_its_new_budget_ends(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    chargen.train(folder / "lines.txt", out, steps=9, reporter=stop_after(5), **SMALL)
    ended = chargen.resume(out, steps=4)
    assert (ended.steps, ended.finished) == (5, True)
    results = json.loads((out / "config.json").read_text())["results"]
    assert results["finished"]
    assert results["valid_nats_per_char"] == ended.valid_nats
    assert "final_nats" in contents(out)[1][-1]
    recorder = Recorder()
    assert chargen.resume(out, steps=4, reporter=recorder).valid_nats == ended.valid_nats
    assert any("nothing is left to do" in note for note in recorder.notes)
