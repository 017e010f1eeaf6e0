"""What the ranks of a run share before they train: the text, through one cache or several."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import chargen
from chargen.errors import FollowerError
from chargen.runtime.distributed import Ranks
from chargen.text.config import CorpusConfig
from chargen.text.corpus import load_corpus
from chargen.training.corpora import corpus_on_all_ranks
from chargen.training.reporting import Reporter
from chargen.training.resume import read_run

from .lm.test_distributed import needs_ranks, on_ranks

SAVED: dict[str, Any] = {"arguments": ("fox.txt",), "config": {}}


def read(ranks: Ranks, folder: Path, text: str = "the quick brown fox. " * 20) -> list[int]:
    """The ids that a rank gets whose working folder holds `text`."""
    folder.mkdir(exist_ok=True)
    (folder / "fox.txt").write_text(text)
    os.chdir(folder)
    load = lambda: load_corpus(["fox.txt"], CorpusConfig())  # noqa: E731
    return corpus_on_all_ranks(ranks, load, SAVED, False).train.tolist()


@needs_ranks
@pytest.mark.parametrize("shared", [True, False])
def test_every_rank_has_the_text_of_rank_0(shared: bool, tmp_path: Path) -> None:
    def work(ranks: Ranks) -> list[int]:
        own = tmp_path / str(ranks.rank)
        os.environ["CHARGEN_CACHE_DIR"] = str(tmp_path if shared else own)
        return read(ranks, own)

    first, second = on_ranks(2, work)
    assert first == second
    assert len(first) > 300
    caches = list(tmp_path.rglob("ids.bin"))
    assert len(caches) == (1 if shared else 2)


@needs_ranks
def test_another_text_on_another_machine_is_told_by_rank_0(tmp_path: Path) -> None:
    def work(ranks: Ranks) -> list[int]:
        own = tmp_path / str(ranks.rank)
        os.environ["CHARGEN_CACHE_DIR"] = str(own)
        return read(ranks, own, f"text number {ranks.rank}. " * 20)

    first, second = on_ranks(2, work)
    assert str(first).startswith("rank 1: the corpus of rank 0 (fox.txt) has changed")
    assert isinstance(second, FollowerError)


@needs_ranks
@pytest.mark.parametrize("more", ["", "the quick brown fox, "])
def test_every_rank_of_a_resumed_run_reads_the_old_text_too(tmp_path: Path, more: str) -> None:
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_text("the quick brown fox. " * 40)
    new.write_text((more + "the lazy dog. ") * 20)  # with `more`, in a vocabulary of its own
    options: dict[str, Any] = {"steps": 1, "batch_size": 4, "window": 8, "precision": "float32"}
    chargen.train(old, tmp_path / "a", hidden_size=8, **options)
    replay: dict[str, Any] = {"start_from": tmp_path / "a", "replay": old, "replay_share": 0.5}
    chargen.train(new, tmp_path / "b", **replay, **options)
    run = read_run(tmp_path / "b")

    def work(ranks: Ranks) -> list[int]:
        os.environ["CHARGEN_CACHE_DIR"] = str(tmp_path / str(ranks.rank))  # another machine
        return run.text(ranks, Reporter()).train.tolist()

    first, second = on_ranks(2, work)
    assert first == second
    assert len(first) > 1.9 * len(load_corpus([str(new)], CorpusConfig()).train)
