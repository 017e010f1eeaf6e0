"""Real texts in 388 languages, where they lie beside the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargen.text.config import CorpusConfig
from chargen.text.corpus import load_corpus
from chargen.text.sources import read_all

UDHR = Path(__file__).parents[2] / "shared" / "corpora" / "udhr"

pytestmark = pytest.mark.skipif(not UDHR.is_dir(), reason="needs ../shared/corpora/udhr")


@pytest.mark.parametrize("level", ["char", "byte"])
def test_every_language_survives(level: str) -> None:
    config = CorpusConfig(level=level, valid_fraction=0.0)  # else a part of each file is apart
    corpus = load_corpus([str(UDHR)], config)
    assert corpus.vocabulary.decode(corpus.train) == read_all([str(UDHR)], config)
