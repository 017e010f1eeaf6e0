"""What holds for the probabilities of every kind of model: causality and normalisation.

That a text takes as many bits as it is said to have is in tests/compression/.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from chargen.language_model import LanguageModel
from chargen.lm.config import CountsConfig
from chargen.text.symbols import SEPARATOR
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary, Vocabulary
from tests.sampling.models import CELLS, small_model

LETTERS = "\n abcdefghijklmnopqrstuvwxyzäöü"

Kind = tuple[str, str, bool, str, int, int, bool]

KINDS: list[Kind] = [
    *((cell, level, True, "forward", 1, 1, False) for cell in CELLS for level in ("char", "byte")),
    *((cell, "char", False, "backward", 2, 1, False) for cell in CELLS),
    ("lstm", "byte", True, "backward", 1, 1, False),
    ("lstm", "char", True, "forward", 2, 3, False),
    ("lstm", "char", True, "forward", 1, 2, True),
    ("gru", "byte", True, "backward", 1, 1, True),
]
"""Cell, level, documents apart, direction, layers, networks of an ensemble, with counts or not."""


def make(
    cell: str,
    level: str,
    documents: bool,
    direction: str,
    layers: int,
    ensemble: int,
    counted: bool,
) -> tuple[LanguageModel, str]:
    """A model, and a text for it."""
    vocabulary: Vocabulary = CharVocabulary(LETTERS, documents)
    if level == "byte":
        vocabulary = ByteVocabulary(documents)
    shape = {"cell": cell, "layers": layers, "direction": direction, "ensemble": ensemble}
    model = small_model(vocabulary.size, **shape)
    # In bytes all symbols have one byte, so that a change moves nothing else.
    letters = LETTERS[:28] if level == "byte" else LETTERS + "Ω"
    symbols = letters + (SEPARATOR if documents else "")
    lm, text = LanguageModel(model, vocabulary), "".join(random.Random(3).choices(symbols, k=700))
    if counted:
        texts = (vocabulary.encode(part) for part in (text * 2, text[:99]))
        lm, _ = lm.count(*texts, CountsConfig(order=5))
    return lm, text


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
@pytest.mark.parametrize("way", ["exact", "bfloat16", "dynamic", "streams"])
def test_what_follows_changes_nothing_before_it(kind: Kind, way: str) -> None:
    lm, text = make(*kind)
    lm.precision = "bfloat16" if way == "bfloat16" else "float32"
    text = text if way == "streams" else text[:150]  # streams need long parts
    place = len(text) * 2 // 3
    changed = text[:place] + ("b" if text[place] != "b" else "c") + text[place + 1 :]
    options = {"dynamic": way == "dynamic", "streams": 2 if way == "streams" else 1}
    one = lm.score(text, as_is=True, **options).log_probs
    two = lm.score(changed, as_is=True, **options).log_probs
    before = place
    if lm.backward:
        one, two, before = one[::-1], two[::-1], len(text) - 1 - place
    assert before > 32
    np.testing.assert_array_equal(one[:before], two[:before])
    assert not np.array_equal(one, two)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
def test_probabilities_sum_to_one(kind: Kind) -> None:
    lm, text = make(*kind)
    ids = lm.vocabulary.encode(text)[:200].astype(np.int64)
    read = torch.from_numpy(ids)
    logits = [lm.decoder.clone().prefill(read[:1])]
    stepping = lm.decoder.clone()
    stepping.prefill(read[:1])
    logits += [stepping.step(symbol[None]).clone() for symbol in read[1:]]
    sums = torch.cat(logits).log_softmax(-1).exp().sum(-1)
    torch.testing.assert_close(sums, torch.ones(len(ids)), rtol=0, atol=1e-5)
    # All that can follow, by score: each symbol once, the unknown one by a character of it.
    vocabulary = lm.vocabulary
    if vocabulary.level == "char" and not lm.backward:
        following = [*LETTERS, "Ω", *([SEPARATOR] if vocabulary.separator_id is not None else [])]
        total = sum(float(np.exp(lm.score("ab" + c, as_is=True).log_probs[-1])) for c in following)
        assert total == pytest.approx(1, abs=1e-5)
