"""Files that are no text, byte for byte: learnt, measured and written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import chargen as package
from chargen.errors import ConfigError, CorpusError, VocabularyError
from chargen.text.config import CorpusConfig
from tests.processes import start

from .conftest import SMALL, Command

RAW = ("--level", "byte", "--raw-bytes")
TUNE = b"MThd\0\0\0\x06\r\n" + bytes(range(256)) + b"\r\xff\0\x90" * 300


@pytest.fixture(scope="module")
def tunes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tunes")
    for name in ("one.mid", "two.mid", "three.csv"):
        (folder / name).write_bytes(TUNE)
    return folder


@pytest.fixture(scope="module", params=[None, "files"])
def model(request: pytest.FixtureRequest, tunes: Path) -> Path:
    sizes = {"hidden_size": 16, "batch_size": 4, "window": 16, "precision": "float32"}
    reading = CorpusConfig(level="byte", raw_bytes=True, documents=request.param)
    out = tunes.with_name(f"model-{request.param}")
    package.train(tunes, out, steps=3, reading=reading, valid_fraction=0.3, **sizes)
    return out


def test_every_byte_is_read_as_it_is(
    chargen: Command, model: Path, tunes: Path, tmp_path: Path
) -> None:
    ends = package.load(model).vocabulary.separator_id is not None
    figures = json.loads(chargen("evaluate", model, tunes / "one.mid", "--json").out)
    assert figures["chars"] == len(TUNE) + ends
    scored = json.loads(chargen("score", model, tunes / "three.csv", "--json").out)
    assert scored["text"].encode("latin-1") == TUNE + b"\n" * ends
    text = TUNE.decode("latin-1")
    np.testing.assert_allclose(
        package.load(model).score(text).log_probs, scored["log_probs"], atol=1e-5
    )
    output = tmp_path / "one.npy"
    assert chargen("encode", model, tunes / "one.mid", "--output", output).code == 0
    np.testing.assert_array_equal(np.load(output), package.load(model).encode([text]))
    unlike = package.load(model).encode([text.replace("\r\n", "\n")])
    assert not np.array_equal(np.load(output), unlike)
    told = json.loads(chargen("corpus", "info", tunes / "one.mid", *RAW, "--json").out)
    assert told["characters"] == len(TUNE)
    assert told["distinct"] == 256
    assert told["suspicions"] == []
    if not ends:
        assert told["xz"] == figures["xz_bits_per_char"]


def test_bytes_come_out_as_they_are(chargen: Command, model: Path, tmp_path: Path) -> None:
    (tmp_path / "head").write_bytes(TUNE[:20])
    lm = package.load(model)
    text = lm.generate(TUNE[:20].decode("latin-1"), max_chars=50, seed=1, ignore_end=True)
    assert max(text.encode("latin-1")) > 127
    options = ("--prompt-file", str(tmp_path / "head"), "--length", "50", "--seed", "1")
    out, _ = start("sample", model, *options, "--ignore-end").communicate(timeout=120)
    assert out == TUNE[:20] + text.encode("latin-1")
    (tmp_path / "pairs.tsv").write_text("a\tb\n\u00e9\te\n")
    for refused in (
        ("sample", model, "--num-samples", 2),
        ("sample", model, "--interactive"),
        ("sample", model, "--steer", "good"),
        ("score", model, "--pairs", tmp_path / "pairs.tsv"),
    ):
        result = chargen(*refused)
        assert (result.code, result.out) == (2, "")
        assert "raw bytes" in result.err
    row = json.loads(chargen("sample", model, *options, "--ignore-end", "--json").out)
    assert row["text"] == text


def test_a_stop_text_is_bytes_like_a_prompt(chargen: Command, model: Path) -> None:
    common = ("--length", 1500, "--seed", 1, "--temperature", 1, "--ignore-end", "--json")
    whole = json.loads(chargen("sample", model, *common).out)["text"]
    assert "\xe9" in whole
    stopped = json.loads(chargen("sample", model, *common, "--stop", "é").out)["text"]
    assert stopped == whole.partition("é".encode().decode("latin-1"))[0]


def test_what_is_no_byte(model: Path) -> None:
    lm = package.load(model)
    with pytest.raises(VocabularyError, match=r"character 1, '\\u732b', is not a byte"):
        lm.score("a猫")
    with pytest.raises(ConfigError, match="never seen"):
        lm.generate("猫", unknown="error")
    assert lm.encode_prompt("a猫", package.SamplingConfig())[1] == "猫"


def test_binary_files_are_refused_with_a_hint(
    chargen: Command, tunes: Path, tmp_path: Path
) -> None:
    result = chargen("train", tunes / "one.mid", "--out", tmp_path / "out", *SMALL)
    assert result.code == 1
    assert "looks binary" in result.err
    assert "--level byte --raw-bytes" in result.err


@pytest.mark.parametrize(
    "options",
    [
        {"documents": "lines"},
        {"documents": "~~~"},
        {"normalize": "NFC"},
        {"clean": "html"},
        {"text_column": "text"},
        {"quoting": "none"},
        {"encoding": "auto"},
        {"errors": "replace"},
    ],
)
def test_options_of_text_do_not_fit(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="--raw-bytes"):
        CorpusConfig(raw_bytes=True, **options)


def test_texts_from_python_are_no_bytes(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="--raw-bytes reads files"):
        package.train(texts=["a" * 100], out=tmp_path / "out", level="byte", raw_bytes=True)
