"""What a model gives back of a text, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chargen.errors import ChargenError, CorpusError
from chargen.lm.model import CharLM
from chargen.sampling.config import MemorizationConfig
from chargen.sampling.decoder import Decoder
from chargen.sampling.memorization import STREAMS, memorization
from tests.sampling.models import small_model


def agreeing(
    model: CharLM,
    ids: np.ndarray,
    start: int,
    length: int,
    context: int,
    first_label: int | None = None,
) -> int:
    """Ids from `start` on that the likeliest ids after the context equal."""
    read = ids[start - context : start].tolist()
    for count in range(length):
        with torch.no_grad():
            logits, _ = model(torch.tensor(read)[:, None], model.initial_state(1))
        likeliest = int(logits[-1, 0, :first_label].argmax())
        if likeliest != ids[start + count]:
            return count
        read.append(likeliest)
    return length


def test_against_a_plain_loop() -> None:
    model = small_model(2)
    ids = np.random.default_rng(0).integers(0, 2, 400).astype(np.uint8)
    config = MemorizationConfig(passages=STREAMS + 20, length=4, context=6, seed=1)
    found = memorization(Decoder(model), ids, config)
    wanted = [agreeing(model, ids, int(start), 4, 6) for start in found.starts]
    assert found.agreeing.tolist() == wanted
    assert len(set(wanted)) == 5  # none, some and all of a passage
    assert found.share == wanted.count(4) / len(wanted)
    assert found.mean_agreeing == sum(wanted) / len(wanted)


def test_places_are_all_of_a_short_text_and_follow_the_seed() -> None:
    model, ids = small_model(3), np.zeros(60, np.uint8)
    found = memorization(Decoder(model), ids, MemorizationConfig(context=8))
    assert found.starts.tolist() == [8, 9, 10]
    configs = [MemorizationConfig(passages=5, length=2, context=2, seed=seed) for seed in (1, 1, 2)]
    one, same, other = (memorization(Decoder(model), np.zeros(5000, np.uint8), c) for c in configs)
    assert one.starts.tolist() == same.starts.tolist() != other.starts.tolist()


END, FIRST_LABEL = 2, 3


def test_a_passage_lies_in_one_document_and_holds_no_label() -> None:
    model = small_model(5)
    with torch.no_grad():
        model.output.bias[FIRST_LABEL:] += 9  # never learnt, so it may be anything
        model.output.bias[END] -= 9
    draw = np.random.default_rng(0)
    documents = [
        np.concatenate([[draw.integers(3, 5)], draw.integers(0, 2, draw.integers(1, 9)), [END]])
        for _ in range(200)
    ]
    ids = np.concatenate(documents).astype(np.uint8)
    config = MemorizationConfig(passages=10_000, length=4, context=6)
    apart = {"separator_id": END, "first_label_id": FIRST_LABEL}
    found = memorization(Decoder(model), ids, config, **apart)
    places = [i for i in range(6, len(ids) - 3) if (ids[i : i + 4] < END).all()]
    assert found.starts.tolist() == places
    wanted = [agreeing(model, ids, start, 4, 6, FIRST_LABEL) for start in places]
    assert found.agreeing.tolist() == wanted
    assert len(set(wanted)) == 5
    same = memorization(
        Decoder(model), ids, MemorizationConfig(passages=20, length=4, context=6), **apart
    )
    assert set(same.starts.tolist()) < set(places)
    with pytest.raises(CorpusError, match="no document has 9 characters after a context of 6"):
        memorization(Decoder(model), ids, MemorizationConfig(length=9, context=6), **apart)


def test_unknown_characters_are_never_given_back() -> None:
    model = small_model(3)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(torch.tensor([9.0, 0.0, 5.0]))  # 0: unknown
    ids = np.array([0, 2] * 200, np.uint8)
    config = MemorizationConfig(passages=400, length=1, context=5)
    assert memorization(Decoder(model), ids, config).share == pytest.approx(0.5, abs=0.01)
    told = memorization(Decoder(model), ids, config, unknown_id=0)
    assert (told.agreeing == (ids[told.starts] == 2)).all()


def test_a_text_that_is_too_short() -> None:
    with pytest.raises(CorpusError, match="149 characters; a context and a passage need 150"):
        memorization(Decoder(small_model(3)), np.zeros(149, np.uint8))


def test_predictions_that_are_no_numbers_are_refused() -> None:
    model = small_model(3)
    with torch.no_grad():
        model.output.bias[1] = torch.nan
    with pytest.raises(ChargenError, match="not numbers"):
        memorization(Decoder(model), np.zeros(500, np.uint8))
