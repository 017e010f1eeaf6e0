"""The names that `import chargen` offers, used as the README does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chargen


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> chargen.LanguageModel:
    folder = tmp_path_factory.mktemp("api")
    text = folder / "book.txt"
    text.write_text("It was a dark and stormy night; the rain fell in torrents.\n" * 60)
    run = chargen.train(
        text,
        folder / "model",
        config=chargen.TrainConfig(steps=1000, batch_size=4, window=32, precision="float32"),
        model=chargen.ModelConfig(hidden_size=24),
        steps=60,  # a keyword goes before the configuration
        samples=False,
    )
    assert run.finished
    assert run.steps == 60
    assert run.valid_nats is not None
    return chargen.load(folder / "model")


@pytest.mark.parametrize("code", ["import chargen", "import chargen.cli.main"])
def test_importing_is_cheap(code: str) -> None:
    check = f"{code}; import sys; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    for name in chargen.__all__:
        assert getattr(chargen, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = chargen.nonsense


def test_generate_and_stream_agree(lm: chargen.LanguageModel) -> None:
    options = {"max_chars": 50, "temperature": 0.8, "top_k": 5, "seed": 1}
    text = lm.generate("It was", **options)
    assert len(text) == 50
    assert "".join(lm.stream("It was", **options)) == text
    config = chargen.SamplingConfig(max_chars=9, temperature=0.8, top_k=5, seed=1)
    assert lm.generate("It was", config=config) == text[:9]
    assert "".join(lm.stream("It was", config=config, max_chars=50)) == text


def test_score_sums_to_the_text(lm: chargen.LanguageModel) -> None:
    score = lm.score("It was a dark night")
    assert score.log_probs.shape == (19,)
    assert score.bits_per_char == pytest.approx(-score.log_probs.mean() / np.log(2), rel=1e-5)
    assert lm.score("It was a dark").nats_per_char < lm.score("krad a saw tI").nats_per_char
    with pytest.raises(chargen.CorpusError):
        lm.score("")


def test_encode_gives_a_row_a_text_whatever_the_company(lm: chargen.LanguageModel) -> None:
    features = lm.encode(["dark", "a stormy night" * 200, ""])
    assert features.shape == (3, 3 * 24)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(lm.encode(["dark"])[0], features[0])


def test_mistyped_options_are_suggested(tmp_path: Path, lm: chargen.LanguageModel) -> None:
    with pytest.raises(chargen.ConfigError, match="hidden_size"):
        chargen.train("python-docs", tmp_path / "m", hiden_size=3)
    with pytest.raises(chargen.ConfigError, match="temperature"):
        lm.generate("a", temprature=1)


def test_configurations_of_another_kind_are_named(
    tmp_path: Path, lm: chargen.LanguageModel
) -> None:
    wrong: Any = chargen.ExamplesConfig()
    for name, wanted in (("config", "Train"), ("model", "Model"), ("reading", "Corpus")):
        with pytest.raises(chargen.ConfigError, match=f"a {wanted}Config is wanted, got Examples"):
            chargen.train("python-docs", tmp_path / "m", **{name: wrong})
    for name, wanted in (("config", "Finetune"), ("network", "Network")):
        with pytest.raises(chargen.ConfigError, match=f"a {wanted}Config is wanted, got Examples"):
            chargen.finetune("opinions", "reviews", tmp_path / "m", **{name: wrong})
    with pytest.raises(chargen.ConfigError, match="a SamplingConfig is wanted"):
        lm.generate(config=wrong)
