"""Memory that runs out: one sentence. The long form is `benchmarks/memory_limits.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from chargen.cli.main import main
from chargen.errors import ChargenError, OutOfMemoryError, convert_memory_errors, is_out_of_memory
from chargen.language_model import LanguageModel
from chargen.lm.storage import convert_restore_errors
from chargen.storage import checkpoint
from chargen.storage.checkpoint import Checkpoint
from chargen.training.loop import Loop
from chargen.training.run import train

from .loading import ROOT, benchmark

TOO_MUCH = 1 << 50


def test_torch_says_it_in_words() -> None:
    with (
        pytest.raises(OutOfMemoryError, match="not enough memory") as caught,
        convert_memory_errors(),
    ):
        torch.empty(TOO_MUCH)
    assert isinstance(caught.value, ChargenError)
    assert isinstance(caught.value, MemoryError)
    assert caught.value.exit_code == 1
    kept = pytest.raises(OutOfMemoryError, match=r"--batch-size or --window\); it is kept$")
    with kept, convert_memory_errors(lambda: "it is kept"):
        bytearray(TOO_MUCH)
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried"))
    assert is_out_of_memory(ImportError("x.so: failed to map segment from shared object"))


def test_what_is_something_else_stays_what_it_is() -> None:
    for error in (RuntimeError("shapes differ"), ValueError("out of memory"), OSError(28, "full")):
        assert not is_out_of_memory(error)
        with pytest.raises(type(error)) as caught, convert_memory_errors():
            raise error
        assert caught.value is error
    told = OutOfMemoryError("told already")
    with pytest.raises(OutOfMemoryError, match="^told already$"), convert_memory_errors():
        raise told


def test_it_is_not_told_as_a_training_state_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError), convert_memory_errors(), convert_restore_errors(tmp_path):
        torch.empty(TOO_MUCH)


def test_every_command_and_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "fox.txt"
    text.write_text("the quick brown fox jumps over the lazy dog.\n" * 30)
    sizes = {"hidden_size": 8, "batch_size": 2, "window": 8, "precision": "float32"}
    step = Loop.step

    def failing(loop: Loop, batch: object) -> object:  # type: ignore[type-arg]
        if loop.progress.step == 3:
            torch.empty(TOO_MUCH)
        return step(loop, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", failing)
        with pytest.raises(OutOfMemoryError, match="step 2, is kept"):
            train(text, tmp_path / "run", steps=6, checkpoint_every=2, samples=False, **sizes)
    stored = checkpoint.load(tmp_path / "run", training=True)
    assert stored.document("training/state")["progress"]["step"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fox.txt", "run"]

    monkeypatch.setattr(LanguageModel, "stream", lambda *_, **__: [str(torch.empty(TOO_MUCH))])
    with pytest.raises(SystemExit) as stopped:
        main(["sample", str(tmp_path / "run"), "--seed", "1"])
    assert stopped.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("chargen: there is not enough memory")
    assert len(told.splitlines()) == 1


def test_a_save_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stored(number: int) -> Checkpoint:
        return Checkpoint("x", documents={"config": {"number": number}})

    def full(*_: object) -> None:
        bytearray(TOO_MUCH)

    checkpoint.save(tmp_path / "run", stored(1))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "sync_file", full)
        with pytest.raises(OutOfMemoryError):
            checkpoint.save(tmp_path / "run", stored(2))
    assert checkpoint.load(tmp_path / "run").documents["config"] == {"number": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
def test_commands_under_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARGEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(ROOT)
    found = benchmark("memory_limits").run([0.0, 4.0, 20.0], tmp_path)
    assert found["failures"] == []
    # How much is free within the process depends on what ran before.
    assert found["counts"]["train: told"] > 0
    assert found["counts"]["resume: told"] > 0
