"""Generation: seeds, batches, streams, ends and characters of several bytes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.errors import ChargenError, ConfigError
from chargen.sampling.config import SamplingConfig
from chargen.sampling.decoder import Decoder
from chargen.sampling.generate import Sample, encode_prompt, generate, stream
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary, Vocabulary

from .models import CELLS, Scripted, small_model

CHARS = CharVocabulary.build(dict.fromkeys("\n abcdé€😀", 2), 1, False)
DOCUMENTS = CharVocabulary.build(dict.fromkeys("\n abcd", 2), 1, True)
BYTES = ByteVocabulary(documents=True)


def write(
    vocabulary: Vocabulary,
    prompt: str = "ab",
    *,
    samples: int = 1,
    cell: str = "lstm",
    **options: Any,
) -> list[Sample]:
    decoder = Decoder(small_model(vocabulary.size, cell=cell))
    config = SamplingConfig(**{"max_chars": 60, "seed": 0, **options})
    ids, _ = encode_prompt(vocabulary, prompt, config)
    return generate(decoder, vocabulary, ids, config, samples)


def script(vocabulary: Vocabulary, text: str, **options: Any) -> tuple[Sample, list[str]]:
    """What becomes of a text that the model is certain to write."""
    decoder: Any = Scripted(vocabulary, vocabulary.encode(text).tolist())
    config = SamplingConfig(temperature=0, **options)
    pieces = list(stream(decoder, vocabulary, [], config))
    return generate(decoder, vocabulary, [], config)[0], pieces


@pytest.mark.parametrize("vocabulary", [CHARS, DOCUMENTS, BYTES], ids=["char", "docs", "byte"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.3, "top_k": 5, "repetition_penalty": 1.3},
        {"temperature": 1.0, "top_p": 0.9, "min_p": 0.02, "stop": ("ab", "\n")},
        {"temperature": 0},
        {"ignore_end": True, "seed": 9},
    ],
)
def test_same_seed_same_text(vocabulary: Vocabulary, cell: str, options: dict) -> None:
    batch = write(vocabulary, samples=5, cell=cell, **options)
    seed = options.get("seed", 0)
    for i, sample in enumerate(batch):
        (alone,) = write(vocabulary, cell=cell, **{**options, "seed": seed + i})
        assert (alone.text, alone.seed, alone.ended) == (sample.text, seed + i, sample.ended)
        assert np.allclose(alone.log_probs, sample.log_probs, atol=1e-5)
        assert len(sample.log_probs) == len(sample.text) <= 60
    assert batch == write(vocabulary, samples=5, cell=cell, **options)
    config = SamplingConfig(**{"max_chars": 60, "seed": 0, **options})
    ids, _ = encode_prompt(vocabulary, "ab", config)
    pieces = stream(Decoder(small_model(vocabulary.size, cell=cell)), vocabulary, ids, config)
    assert "".join(pieces) == batch[0].text


@pytest.mark.parametrize("vocabulary", [CHARS, BYTES], ids=["char", "byte"])
def test_log_probs_are_the_unfiltered_model_s(vocabulary: Vocabulary) -> None:
    model = small_model(vocabulary.size)
    (sample,) = write(vocabulary, "ab", temperature=0.5, top_k=3, ignore_end=True, max_chars=25)
    text_ids = vocabulary.encode(sample.text)
    if "\n" in sample.text and vocabulary.separator_id is not None:
        pytest.skip("a newline may be a separator here")
    ids = np.concatenate([[vocabulary.start_id], vocabulary.encode("ab"), text_ids])
    tensor = torch.from_numpy(ids.astype(np.int64))
    with torch.no_grad():
        logits, _ = model(tensor[:-1, None], model.initial_state(1))
    each = logits[:, 0].log_softmax(-1).gather(1, tensor[1:, None])[-len(text_ids) :, 0]
    if vocabulary.level == "byte":
        sizes = [len(c.encode()) for c in sample.text]
        each = torch.stack([part.sum() for part in each.split(sizes)])
    assert np.allclose(each.numpy(), sample.log_probs, atol=1e-4)


def test_lengths_and_the_unknown_symbol() -> None:
    for sample in write(CHARS, samples=3, max_chars=200, temperature=2.0):
        assert len(sample.text) == 200
        assert sample.ended == "length"
        assert "\ufffd" not in sample.text
    assert write(CHARS, max_chars=0, samples=2)[1] == Sample("", (), 1, "length")


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), length=st.integers(0, 30), temperature=st.floats(0.5, 5))
def test_bytes_always_make_whole_characters(seed: int, length: int, temperature: float) -> None:
    samples = write(
        BYTES, "é", seed=seed, max_chars=length, temperature=temperature, ignore_end=True, samples=2
    )
    for sample in samples:
        assert len(sample.text) == length == len(sample.log_probs)
        assert "\ufffd" not in sample.text
        sample.text.encode("utf-8")


def test_bytes_stream_whole_characters() -> None:
    sample, pieces = script(BYTES, "a\u00e9\u20ac\U0001f600b", max_chars=4)
    assert pieces == ["a", "é", "€", "😀"]
    assert sample.text == "aé€😀"


@pytest.mark.parametrize("vocabulary", [DOCUMENTS, BYTES], ids=["char", "byte"])
def test_the_end_of_a_document(vocabulary: Vocabulary) -> None:
    text = "ab\ud800cd"
    sample, pieces = script(vocabulary, text, max_chars=5)
    assert (sample.text, sample.ended, pieces) == ("ab", "end", ["a", "b"])
    assert len(sample.log_probs) == 2
    sample, _ = script(vocabulary, text, max_chars=5, ignore_end=True)
    assert (sample.text, sample.ended) == ("ab\ncd", "length")


@pytest.mark.parametrize("vocabulary", [DOCUMENTS, BYTES], ids=["char", "byte"])
def test_stop_texts(vocabulary: Vocabulary) -> None:
    sample, pieces = script(vocabulary, "a bc\nd", stop=("bd", "c\n"), max_chars=6)
    assert (sample.text, sample.ended) == ("a b", "stop")
    assert len(sample.log_probs) == 3
    assert pieces == ["a", " ", "b"]
    # Half of a stop text is given out where nothing more comes.
    sample, pieces = script(vocabulary, "abc", stop=("bcd",), max_chars=3)
    assert (sample.text, sample.ended, pieces) == ("abc", "length", ["a", "bc"])
    sample, pieces = script(vocabulary, "ab\ud800", stop=("bcd",), max_chars=9)
    assert (sample.text, sample.ended, pieces) == ("ab", "end", ["a", "b"])


def test_streaming_yields_as_it_draws() -> None:
    vocabulary = DOCUMENTS
    decoder: Any = Scripted(vocabulary, vocabulary.encode("abcd").tolist())
    pieces = stream(decoder, vocabulary, [], SamplingConfig(temperature=0, max_chars=4))
    assert next(pieces) == "a"
    assert next(pieces) == "b"


def test_two_streams_of_one_decoder_do_not_meet() -> None:
    decoder = Decoder(small_model(CHARS.size))
    config = SamplingConfig(max_chars=20, seed=0)
    first, second = (stream(decoder, CHARS, [], config) for _ in range(2))
    assert all(a == b for a, b in zip(first, second, strict=True))


def test_unknown_characters_of_a_prompt() -> None:
    config = SamplingConfig(unknown="skip", max_chars=20)
    ids, unknown = encode_prompt(CHARS, "zZz", config)
    assert sorted(unknown) == ["Z", "z"]
    assert len(np.asarray(ids)) == 0
    assert write(CHARS, "zZz", unknown="skip") == write(CHARS, "")
    ids, _ = encode_prompt(CHARS, "az", dataclasses.replace(config, unknown="replace"))
    assert np.asarray(ids).tolist() == [*CHARS.encode("a"), CHARS.unknown_id]
    with pytest.raises(ConfigError, match=r"never seen.*'zZ'"):
        encode_prompt(CHARS, "azZ", dataclasses.replace(config, unknown="error"))
    assert encode_prompt(CHARS, "a", dataclasses.replace(config, unknown="error"))[1] == ""


def test_bad_requests() -> None:
    with pytest.raises(ConfigError, match="--num-samples"):
        write(CHARS, samples=0)
    with pytest.raises(ConfigError, match="--seed"):
        write(CHARS, samples=2, seed=2**63 - 1)


def test_a_broken_model_is_named() -> None:
    model = small_model(CHARS.size)
    with torch.no_grad():
        model.output.bias[2] = float("nan")
    with pytest.raises(ChargenError, match="NaN"):
        generate(Decoder(model), CHARS, CHARS.encode("ab"), SamplingConfig())
