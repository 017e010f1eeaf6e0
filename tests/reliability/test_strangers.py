"""Checkpoints from strangers: the short form of `benchmarks/fuzz_checkpoints.py`, and no pickle."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from chargen import checkpoint
from chargen.errors import ChargenError, CheckpointError
from chargen.language_model import LanguageModel
from chargen.sentiment import ngrams
from chargen.sentiment.classifier import Classifier

from .loading import ROOT, benchmark

UNPICKLES = re.compile(
    r"\b(c?[pP]ickle|cloudpickle|dill|joblib|shelve|marshal)\b|(?<!safetensors\.)torch\.(load|save)\(|allow_pickle"
)


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    return benchmark("fuzz_checkpoints")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_damage_is_refused_or_harmless(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrams, "BITS", fuzz.SMALL_NGRAMS)  # put back afterwards
    found = fuzz.run(300, 1, tmp_path)
    assert found["failures"] == []
    assert found["ends"]["refused"] > 200
    assert found["ends"]["works"] > 10
    assert all(counts["refused"] for counts in found["kinds"].values())


def test_floats_that_torch_cannot_judge_are_read_as_float32(
    fuzz: ModuleType, tmp_path: Path
) -> None:
    stored = fuzz.language_model(fuzz.CharVocabulary("\n abc"))
    weights = stored.tensors["model"]
    weights["output.bias"] = weights["output.bias"].to(torch.float8_e4m3fn)
    checkpoint.save(tmp_path / "small", stored)
    LanguageModel.load(tmp_path / "small")
    # More than a float32 holds.
    weights["output.bias"] = torch.full(weights["output.bias"].shape, 1e300, dtype=torch.float64)
    checkpoint.save(tmp_path / "large", stored)
    with pytest.raises(CheckpointError, match=r"output\.bias"):
        LanguageModel.load(tmp_path / "large")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_weights_that_overflow_are_told(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrams, "BITS", fuzz.SMALL_NGRAMS)
    stored = fuzz.classifier()
    stored.tensors["ngrams"]["biases"].fill_(3e38)
    stored.tensors["ngrams"]["weights"].fill_(3e38)
    checkpoint.save(tmp_path / "classifier", stored)
    with pytest.raises(ChargenError, match="not numbers"):
        Classifier.load(tmp_path / "classifier").predict_proba(["a bad day"])
    stored = fuzz.language_model(fuzz.CharVocabulary("\n abc"))
    stored.tensors["model"]["layers.0.bias_ih_l0"].fill_(20)  # all outputs are near 1
    stored.tensors["model"]["output.weight"].fill_(3e38)
    checkpoint.save(tmp_path / "lm", stored)
    with pytest.raises(ChargenError, match="not numbers"):
        LanguageModel.load(tmp_path / "lm").score("abc")


def test_no_line_of_the_package_unpickles() -> None:
    for path in sorted((ROOT / "chargen").rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            code = line.split("#")[0]
            if UNPICKLES.search(code):
                pytest.fail(f"{path.name}, line {number}: {line.strip()}")


TRACED = """
import pickle, sys, torch

def refuse(*arguments, **options):
    raise AssertionError("unpickles")

for owner, names in ((pickle, ("load", "loads", "Unpickler", "_Unpickler")), (torch, ("load",))):
    for name in names:
        setattr(owner, name, refuse)
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event == "pickle.find_class" else None)
import chargen
lm = chargen.load("reviews")
lm.generate(max_chars=3)
chargen.Classifier.load("sentiment").predict_proba(["a fine film"])
assert not seen, seen
print("loaded")
"""


def test_no_load_unpickles() -> None:
    script = TRACED.replace('"reviews"', repr(str(ROOT / "checkpoints/reviews"))).replace(
        '"sentiment"', repr(str(ROOT / "checkpoints/sentiment"))
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "loaded", done.stderr
