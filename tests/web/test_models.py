"""Which models the page offers, and that it opens no others."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

import chargen
from chargen.errors import CheckpointError
from chargen.web.models import MOST_LOADED, Models

from .conftest import SMALL, TEXT


def test_offers_the_models_of_the_folder_and_the_shipped_ones(models: Path) -> None:
    offered = Models(models)
    assert offered.language_models()[0] == "fox"
    assert "reviews" in offered.language_models()
    assert offered.classifiers() == ["sentiment"]
    assert Models(models / "nowhere").classifiers() == ["sentiment"]


def test_a_folder_where_the_server_was_started_hides_no_shipped_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("reviews", "sentiment", "checkpoints/reviews"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    offered = Models("checkpoints")
    assert {"reviews", "reviews-backward"} <= set(offered.language_models())
    assert offered.classifiers() == ["sentiment"]


@pytest.mark.parametrize("name", ["", None, "nothing", "../fox", "/etc", ".", "sentiment"])
def test_opens_only_what_it_offers(models: Path, name: str | None) -> None:
    with pytest.raises(CheckpointError):
        Models(models / "fox").language_model(name)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of folders are text")
def test_a_folder_whose_name_is_no_text_is_offered_too(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "fox", os.fsdecode(os.fsencode(tmp_path) + b"/f\xffx"))
    offered = Models(tmp_path)
    name = offered.language_models()[0]
    assert name.encode() == "f\ufffdx".encode()
    assert offered.language_model(name).generate(max_chars=5)


def test_reads_a_model_once_until_it_changes(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "models")
    offered = Models(tmp_path / "models")
    first = offered.language_model("fox")
    assert offered.language_model("fox") is first
    (tmp_path / "text").write_text(TEXT)
    chargen.train(tmp_path / "text", tmp_path / "models" / "fox", force=True, steps=5, **SMALL)
    assert offered.language_model("fox") is not first


def test_keeps_few_in_memory(models: Path, tmp_path: Path) -> None:
    for number in range(MOST_LOADED + 1):
        shutil.copytree(models / "fox", tmp_path / f"fox{number}")
    offered = Models(tmp_path)
    first = offered.language_model("fox0")
    for number in range(1, MOST_LOADED):
        offered.language_model(f"fox{number}")
    assert offered.language_model("fox0") is first
    for number in range(1, MOST_LOADED + 1):
        offered.language_model(f"fox{number}")
    assert offered.language_model("fox0") is not first
