"""With --json each command prints one JSON document, or one a line, and nothing else on stdout."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from chargen.cli.groups import contexts
from chargen.cli.main import cli
from tests.sentiment.making import DROPOUTS, save_lm, separable, write_csv
from tests.sentiment.models import save_classifier, tiny_classifier

from .conftest import SMALL, Command

QUICK = "--epochs 1 --detectors 0 --head-size 0 --no-ngrams --precision float32 --device cpu"

# Arguments, how many documents they give, and some of their keys.
COMMANDS: dict[str, tuple[str, int, set[str]]] = {
    "train": (f"CORPUS --out OUT --steps 2 {' '.join(SMALL)}", 1, {"directory", "steps"}),
    "sample": ("MODEL --num-samples 3 --length 20", 3, {"text", "log_probs", "seed"}),
    "evaluate": ("MODEL CORPUS --dynamic", 1, {"bits_per_char", "dynamic_bits_per_char"}),
    "score": ("MODEL CORPUS --html OUT", 1, {"text", "log_probs"}),
    "count": ("MODEL CORPUS --out OUT", 1, {"directory", "weight", "bits_per_char"}),
    "encode": ("MODEL CORPUS --output OUT.npy", 1, {"documents", "numbers"}),
    "verify": ("MODEL", 1, {"directory", "kind"}),
    "info": ("MODEL", 1, {"kind", "parameters", "model", "train"}),
    "memorization": (
        "MODEL CORPUS --passages 5 --length 9 --show 2",
        1,
        {"share", "held_out", "longest"},
    ),
    "plot": ("MODEL --out OUT.png", 1, {"file", "runs"}),
    "corpus list": ("", 1, {"name", "here", "licence"}),
    "corpus fetch": ("opinions", 1, {"paths", "sha256"}),
    "corpus info": ("CORPUS", 1, {"entropy", "xz", "suggested_minutes"}),
    "corpus clean": ("", 1, {"folder", "bytes", "removable_bytes", "freed_bytes", "encodings"}),
    "export": ("MODEL --out OUT", 1, {"directory", "files", "largest_difference_nats"}),
    "sentiment train": (f"DATA --encoder LM --out OUT {QUICK}", 1, {"labels", "valid"}),
    "sentiment predict": ("CLASSIFIER fine dull", 2, {"text", "label", "probabilities"}),
    "sentiment evaluate": ("CLASSIFIER DATA", 1, {"accuracy", "confusion"}),
    "sentiment explain": ("CLASSIFIER fine", 1, {"label", "probabilities"}),
    "sentiment compare": ("DATA --test DATA --models tfidf", 1, {"rows", "seed"}),
}
NEEDED = {"plot": "matplotlib", "export": "onnxruntime"}
NEEDED |= dict.fromkeys(("sentiment train", "sentiment evaluate", "sentiment compare"), "sklearn")


@pytest.fixture(scope="module")
def places(
    trained: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("json")
    examples = separable(40)
    return {
        "MODEL": trained,
        "CORPUS": corpus,
        "LM": save_lm(folder / "lm", **DROPOUTS),
        "CLASSIFIER": save_classifier(tiny_classifier(examples.classes), folder / "classifier"),
        "DATA": write_csv(folder / "moods.csv", examples),
    }


def test_every_command_that_has_it_is_tried() -> None:
    leaves = [ctx for ctx in contexts(cli, "chargen") if not isinstance(ctx.command, click.Group)]
    having = {
        ctx.command_path.removeprefix("chargen ")
        for ctx in leaves
        if any("--json" in parameter.opts for parameter in ctx.command.params)
    }
    assert having == set(COMMANDS) | {"push", "pull"}  # those: tests/interchange/test_hub.py


@pytest.mark.parametrize("name", COMMANDS)
def test_documents(name: str, chargen: Command, places: dict[str, Path], tmp_path: Path) -> None:
    if name in NEEDED:
        pytest.importorskip(NEEDED[name], reason=f"needs {NEEDED[name]}")
    words, count, keys = COMMANDS[name]
    replaced = [
        str(places.get(word, word)).replace("OUT", str(tmp_path / "o")) for word in words.split()
    ]
    result = chargen(*name.split(), *replaced, "--json")
    assert result.code == 0, result.err
    assert result.out.endswith("\n")
    lines = result.out.splitlines()
    assert len(lines) == count
    for line in lines:
        found: Any = json.loads(line, parse_constant=lambda text: pytest.fail(f"{text} in JSON"))
        assert keys <= (found[0] if isinstance(found, list) else found).keys()


def test_what_was_written(chargen: Command, places: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra chargen[plot]")
    picture = tmp_path / "curves.svg"
    facts = json.loads(chargen("plot", places["MODEL"], "--out", picture, "--json").out)
    assert facts["file"] == str(picture)
    assert picture.exists()
    (run,) = facts["runs"]
    assert (run["name"], run["steps"]) == ("fox", 150)
    assert 0 < run["best_valid_nats"] < 1
    refused = chargen("plot", places["MODEL"], "--terminal", "--json")
    assert (refused.code, refused.out) == (2, "")


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_a_document_is_one_line_whatever_ends_lines(
    end: str, chargen: Command, places: dict[str, Path], tmp_path: Path
) -> None:
    text = f"a{end}b"
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    for arguments in (
        ("sample", places["LM"], "--prompt", text, "--length", 1),
        ("score", places["LM"], tmp_path / "t.txt"),
        ("sentiment", "predict", places["CLASSIFIER"], text),
    ):
        result = chargen(*arguments, "--json")
        (line,) = result.out.splitlines()
        assert text in json.loads(line).values()
    assert len(chargen("score", places["LM"], tmp_path / "t.txt").out.splitlines()) == 3


def test_info_of_a_classifier(chargen: Command, places: dict[str, Path]) -> None:
    facts = json.loads(chargen("info", places["CLASSIFIER"], "--json").out)
    assert facts["kind"] == "classifier"
    assert facts["labels"] == ["bad", "good"]
    assert facts["parameters"] > 100
    assert re.search(r"^labels +bad; good$", chargen("info", places["CLASSIFIER"]).out, re.M)


def test_passages_that_came_back(chargen: Command, places: dict[str, Path]) -> None:
    arguments = ("--length", 20, "--context", 30, "--passages", 50, "--show", 2, "--json")
    found = json.loads(chargen("memorization", places["MODEL"], places["CORPUS"], *arguments).out)
    text = places["CORPUS"].read_text()
    assert len(found["longest"]) == 2
    for row in found["longest"]:
        assert row["text"] in text
        assert len(row["text"]) == row["characters"]
