"""Files come back byte for byte, take what the model says, or are refused."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chargen
from chargen.compression.files import compress, decompress
from chargen.errors import ChargenError, CompressionError, ConfigError
from chargen.language_model import LanguageModel
from chargen.lm.model import create_network
from chargen.sampling.decoder import Decoder as Stepper
from chargen.text.vocabulary import ByteVocabulary, CharVocabulary, RawVocabulary, Vocabulary
from tests.sampling.models import CELLS, small_model

LETTERS = "\n abcdefghijklmnopqrstuvwxyzßäöü"

VOCABULARIES = {
    "characters": CharVocabulary(LETTERS),
    "documents": CharVocabulary(LETTERS, documents=True),
    "bytes": ByteVocabulary(),
    "bytes and documents": ByteVocabulary(documents=True),
    "labels": CharVocabulary(LETTERS, documents=True, labels=["ann", "bob"]),
    "bytes and labels": ByteVocabulary(documents=True, labels=["ann", "bob"]),
    "raw bytes": RawVocabulary(),
    "raw bytes and documents": RawVocabulary(documents=True),
}

FILES = {
    "empty": b"",
    "one": b"a",
    "text": "der bär aß süßes\nund schlief\n".encode(),
    "lines of DOS": b"one\r\ntwo\r\n",
    "mixed ends of lines": b"one\r\ntwo\nthree\r",
    "unknown characters": "Ω, 日本 and \U0001f600".encode(),
    "no UTF-8": b"caf\xe9 \xff\xfe\x00",
    "surrogates in UTF-8": b"\xed\xa0\x80\xed\xb2\x80",
    "a mark": b"\xef\xbb\xbfabc",
    "noise": random.Random(0).randbytes(200),
}


def model_of(vocabulary: Vocabulary, cell: str = "lstm") -> LanguageModel:
    return LanguageModel(small_model(vocabulary.size, cell=cell), vocabulary)


@pytest.fixture(scope="module", params=[*VOCABULARIES, "counts"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    if request.param == "counts":
        return model_of(VOCABULARIES["characters"]).with_counts("der bär aß süßes\n" * 40)
    return model_of(VOCABULARIES[request.param])


@pytest.mark.parametrize("name", list(FILES))
def test_files_come_back(lm: LanguageModel, name: str) -> None:
    data = FILES[name]
    for packed in (compress(lm, data), compress(lm, data, 3), compress(lm, data, dynamic=True)):
        assert decompress(lm, packed) == data


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=40), streams=st.integers(1, 5))
def test_any_bytes_come_back(lm: LanguageModel, data: bytes, streams: int) -> None:
    assert decompress(lm, compress(lm, data, streams)) == data


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell(cell: str) -> None:
    lm = model_of(VOCABULARIES["characters"], cell)
    assert decompress(lm, compress(lm, FILES["text"], 2)) == FILES["text"]


@pytest.mark.parametrize("dynamic", [False, True])
def test_takes_what_the_score_says(lm: LanguageModel, dynamic: bool) -> None:
    # A model that learns on the way reads one character at a time.
    text = "".join(random.Random(1).choices(LETTERS, k=400 if dynamic else 1500))
    score = lm.score(text, as_is=True, dynamic=dynamic)
    said = -float(score.log_probs.sum(dtype=float)) / math.log(2) / 8
    data = text.encode("latin-1" if lm.raw else "utf-8")
    taken = len(compress(lm, data, 1, dynamic=dynamic))
    assert said <= taken <= 1.001 * said + 64


END = {"blank-lines": "\n", "~é~": "~é~\n"}


@pytest.mark.parametrize(
    ("documents", "level"),
    [(None, "char"), ("lines", "char"), ("blank-lines", "char"), ("~é~", "char"), ("~é~", "byte")],
)
def test_a_trained_model_of_either_direction(
    tmp_path: Path, documents: str | None, level: str
) -> None:
    text = ("a line of text\nand another one\n" + END.get(documents or "", "")) * 40
    (tmp_path / "text.txt").write_text(text)
    for direction in ("forward", "backward"):
        run = chargen.train(
            tmp_path / "text.txt", tmp_path / direction, steps=30, samples=False,
            hidden_size=16, batch_size=4, window=64, precision="float32",
            direction=direction, documents=documents, level=level, learning_rate=0.02, threads=1,
        )  # fmt: skip
        lm = chargen.load(run.directory)
        packed = compress(lm, text.encode())
        assert decompress(lm, packed) == text.encode()
        # No newline is escaped, as it would be if documents were not apart here too.
        assert len(packed) < len(text) / 2
        for data in (b"\n\n\n\n~\xc3\xa9~\n", "~é~\n\n~é~\n\n\n".encode(), b"\r\n\r\n\r\n"):
            assert decompress(lm, compress(lm, data)) == data


def test_what_changes_no_probability_makes_no_other_model() -> None:
    vocabulary = VOCABULARIES["characters"]
    model = small_model(vocabulary.size)
    packed = compress(LanguageModel(model, vocabulary), b"abc")
    config = replace(model.config, dropout=0.0, variational=True)
    for changes, same in (({}, True), ({"direction": "backward"}, False)):
        other = create_network(replace(config, **changes))
        other.load_state_dict(model.state_dict())
        if same:
            assert decompress(LanguageModel(other, vocabulary), packed) == b"abc"
        else:
            with pytest.raises(CompressionError, match="another model"):
                decompress(LanguageModel(other, vocabulary), packed)


def test_steering_changes_no_file() -> None:
    lm, steered = (model_of(VOCABULARIES["characters"]) for _ in range(2))
    steered.decoder = lm.decoder.steered(lambda outputs: outputs.add_(0.3))
    assert compress(steered, FILES["text"]) == compress(lm, FILES["text"])


def test_another_model_is_refused(lm: LanguageModel) -> None:
    packed = compress(lm, b"abc")
    changed = small_model(lm.vocabulary.size)
    with torch.no_grad():
        changed.embedding.weight[0, 0] += 1e-3
    with pytest.raises(CompressionError, match="another model"):
        decompress(LanguageModel(changed, lm.vocabulary), packed)


def test_every_damage_is_found() -> None:
    lm = model_of(VOCABULARIES["characters"])
    packed = compress(lm, FILES["text"])
    for place in range(0, len(packed), 3):
        for damaged in (
            packed[:place] + bytes([packed[place] ^ 0x10]) + packed[place + 1 :],
            packed[:place],
        ):
            with pytest.raises(CompressionError):
                decompress(lm, damaged)
    with pytest.raises(CompressionError):
        decompress(lm, packed + b"\0")


def test_a_machine_that_computes_otherwise_is_told() -> None:
    lm = model_of(VOCABULARIES["characters"])
    packed = compress(lm, FILES["text"])
    other = small_model(lm.vocabulary.size)
    with torch.no_grad():
        other.output.bias += torch.linspace(0, 1, lm.vocabulary.size)
    lm.decoder = Stepper(other)  # the same model, other products
    with pytest.raises(CompressionError, match="another version of torch or another processor"):
        decompress(lm, packed)


def test_streams_and_numbers_that_cannot_be() -> None:
    lm = model_of(VOCABULARIES["characters"])
    for streams in (0, 0x10000, 2.5, True, "2"):
        with pytest.raises(ConfigError, match="--streams must be"):
            compress(lm, b"abc", streams)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="one stream"):
        compress(lm, b"abc", 2, dynamic=True)
    with torch.no_grad():
        lm.model.output.bias.fill_(torch.nan)
    with pytest.raises(ChargenError, match="not numbers"):
        compress(lm, b"abc")
