"""ONNX graphs against the model they were made from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from chargen.errors import ChargenError, CheckpointError, ConfigError, CorpusError
from chargen.language_model import LanguageModel
from chargen.lm.config import ModelConfig
from chargen.lm.model import create_network
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.outputs import writing_lock
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary, Vocabulary

pytest.importorskip("onnx", reason="needs the extra chargen[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra chargen[onnx]")

from chargen.interchange.export import check, describe, export_onnx  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
TEXT = "The sea was grey, and \u00e9tonnant; nobody spoke.\n" * 4


def a_model(
    cell: str = "lstm", layers: int = 1, level: str = "char", **more: object
) -> LanguageModel:
    """A model with random weights that are large enough to matter."""
    vocabulary: Vocabulary
    if level == "char":
        vocabulary = CharVocabulary("".join(sorted(set(TEXT))))
    else:
        vocabulary = ByteVocabulary(documents=True)
    torch.manual_seed(3)
    config = ModelConfig(
        vocabulary_size=vocabulary.size,
        cell=cell,
        hidden_size=24,
        num_layers=layers,
        embedding_size=10,
        dropout=0.5,
        embedding_dropout=0.2,
        weight_dropout=0.2,
        **more,  # type: ignore[arg-type]
    )
    model = create_network(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # A plain RNN with larger weights is chaotic: it would make much of a rounding.
            parameter.normal_(std=0.15 if cell == "rnn" else 0.4)
    return LanguageModel(model, vocabulary)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_graphs_give_the_models_probabilities(tmp_path: Path, cell: str, layers: int) -> None:
    lm = a_model(cell, layers)
    export_onnx(lm, tmp_path / "out")
    assert check(tmp_path / "out", lm, TEXT) < 1e-4


@pytest.mark.parametrize("more", [{"tied": True}, {"direction": "backward"}, {"ensemble": 3}])
def test_other_shapes_of_model(tmp_path: Path, more: dict[str, object]) -> None:
    lm = a_model(**more)
    export_onnx(lm, tmp_path / "out")
    assert check(tmp_path / "out", lm, TEXT) < 1e-4


def test_bytes(tmp_path: Path) -> None:
    lm = a_model(level="byte")
    export_onnx(lm, tmp_path / "out")
    assert check(tmp_path / "out", lm, TEXT) < 1e-4
    description = json.loads((tmp_path / "out" / "model.json").read_text())
    assert description["symbols"][:256] == list(range(256))
    assert description["symbols"][256] is None
    assert description["start_id"] == description["separator_id"] == 256


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux alone")
def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    lm = a_model()
    export_onnx(lm, tmp_path / "caf\udce9")
    assert check(tmp_path / "caf\udce9", lm, TEXT) < 1e-5


def test_several_texts_at_once_and_a_state_that_is_carried(tmp_path: Path) -> None:
    lm = a_model("lstm", 2)
    export_onnx(lm, tmp_path / "out")
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "score.onnx"))
    ids = np.random.default_rng(0).integers(0, lm.vocabulary.size, (12, 5))
    after = np.roll(ids, -1, 0)
    zeros = {name: np.zeros((2, 5, 24), np.float32) for name in ("h", "c")}
    whole, h, _ = session.run(None, {"ids": ids, "next_ids": after, **zeros})
    first, h1, c1 = session.run(None, {"ids": ids[:7], "next_ids": after[:7], **zeros})
    rest, h2, _ = session.run(None, {"ids": ids[7:], "next_ids": after[7:], "h": h1, "c": c1})
    np.testing.assert_allclose(np.concatenate([first, rest]), whole, atol=1e-5)
    np.testing.assert_allclose(h2, h, atol=1e-5)
    with torch.no_grad():
        logits, state = lm.model(torch.from_numpy(ids), lm.model.initial_state(5))
    expected = logits.log_softmax(-1).gather(-1, torch.from_numpy(after)[..., None])[..., 0]
    np.testing.assert_allclose(whole, expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(h, state[0].numpy(), atol=1e-4)


def test_the_likeliest_text_is_the_same(tmp_path: Path) -> None:
    lm = a_model("gru")
    export_onnx(lm, tmp_path / "out")
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "step.onnx"))
    description = describe(lm)
    state = np.zeros((1, 1, 24), np.float32)
    id_, written = description["start_id"], ""
    for _ in range(60):
        scores, state = session.run(None, {"ids": np.array([id_]), "h": state})
        scores[0, description["unknown_id"]] = -np.inf
        id_ = int(scores[0].argmax())
        written += description["symbols"][id_]
    assert written == lm.generate(max_chars=60, temperature=0)


def test_how_text_was_read_in_training_is_described() -> None:
    lm = a_model()
    assert (describe(lm)["normalize"], describe(lm)["clean"]) == (None, None)
    corpus = {"config": {"normalize": "NFC", "clean": "html"}}
    lm.checkpoint = Checkpoint("language-model", documents={"config": {"corpus": corpus}})
    assert (describe(lm)["normalize"], describe(lm)["clean"]) == ("NFC", "html")


def test_a_wrong_graph_is_found_out(tmp_path: Path) -> None:
    export_onnx(a_model("lstm"), tmp_path / "out")
    other = a_model("lstm")
    with torch.no_grad():
        other.model.output.bias[3] += 0.01
    with pytest.raises(ChargenError, match="differs from its checkpoint by"):
        check(tmp_path / "out", other, TEXT)
    with pytest.raises(CorpusError, match="there is no text"):
        check(tmp_path / "out", other, "")


def test_nothing_of_the_users_is_replaced(tmp_path: Path) -> None:
    lm = a_model()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(ConfigError, match="is not an export"):
            export_onnx(lm, mine, force=force)
    export_onnx(lm, tmp_path / "out")
    before = (tmp_path / "out" / "step.onnx").read_bytes()
    with pytest.raises(ConfigError, match="--force"):
        export_onnx(a_model("gru"), tmp_path / "out")
    assert (tmp_path / "out" / "step.onnx").read_bytes() == before
    (tmp_path / "out" / "page").mkdir()
    (tmp_path / "out" / "page" / "index.html").write_text("mine")
    export_onnx(a_model("gru"), tmp_path / "out", force=True)
    assert (tmp_path / "out" / "step.onnx").read_bytes() != before
    assert (tmp_path / "out" / "page" / "index.html").read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} == {"mine", "out"}


def test_two_exports_into_one_folder_are_not_mixed(tmp_path: Path) -> None:
    with (
        writing_lock(tmp_path / "out"),
        pytest.raises(CheckpointError, match="another run is writing"),
    ):
        export_onnx(a_model(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_link_is_kept_and_its_target_is_replaced(tmp_path: Path) -> None:
    export_onnx(a_model(), tmp_path / "out")
    before = (tmp_path / "out" / "step.onnx").read_bytes()
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "out").symlink_to(tmp_path / "out")
    for cell in ("gru", "rnn"):
        export_onnx(a_model(cell), tmp_path / "links" / "out", force=True)
    assert [path.name for path in (tmp_path / "links").iterdir()] == ["out"]
    assert (tmp_path / "links" / "out").is_symlink()
    assert (tmp_path / "out" / "step.onnx").read_bytes() != before


def test_the_program_in_the_documents(tmp_path: Path) -> None:
    export_onnx(a_model(), tmp_path / "out")
    program = re.search(r"alone\n\n```python\n(.*?)```", DOCS.read_text("utf-8"), re.S)
    assert program is not None
    (tmp_path / "program.py").write_text(program[1], "utf-8")
    done = subprocess.run(
        [sys.executable, "-X", "utf8", tmp_path / "program.py", tmp_path / "out"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert len(done.stdout.removesuffix("\n")) == 200
    assert set(done.stdout) <= set(TEXT) | {"\n"}
