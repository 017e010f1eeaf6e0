"""The names that `import chargen` offers, used as the README does."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import chargen
from chargen.sampling.steering import fit_steering

from .sentiment.making import CHARS, DROPOUTS, QUICK, Recorder, make_lm, save_lm, separable
from .sentiment.models import tiny_classifier

SIZES = {"hidden_size": 24, "batch_size": 4, "window": 32, "precision": "float32"}


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


def written(lm: chargen.LanguageModel, **options: Any) -> dict[str, Callable[[], Any]]:
    """A call of everything that writes."""
    return {
        "generate": lambda: lm.generate("It was\t", **options),
        "sample": lambda: lm.sample("It was\t", **options)[0].text,
        "stream": lambda: lm.stream("It was\t", **options),
        "watch": lambda: lm.watch("It was\t", **options),
    }


@pytest.mark.parametrize("name", ["generate", "sample", "stream", "watch"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temprature": 1}, "'temprature'; did you mean temperature"),
        ({"max_char": 1}, "'max_char'; did you mean max_chars"),
        ({"top_k": 0}, "--top-k"),
        ({"unknown": "error", "max_chars": 5}, "never seen"),
    ],
)
def test_what_writes_refuses_options_at_the_call(
    lm: chargen.LanguageModel, name: str, direction: str, options: dict[str, Any], words: str
) -> None:
    if direction == "backward":
        lm = chargen.LanguageModel(make_lm(direction="backward"), CHARS)
    with pytest.raises(chargen.ConfigError, match=words):
        written(lm, **options)[name]()


def test_without_a_seed_each_text_is_another_one_and_tells_its_own(
    lm: chargen.LanguageModel,
) -> None:
    options = {"max_chars": 60, "temperature": 1.5}
    for call in written(lm, **options).values():
        first, second = call(), call()
        if not isinstance(first, str):
            first, second = list(first), list(second)
        assert first != second
    drawn = lm.sample("It was", 3, **options)
    assert [one.seed - drawn[0].seed for one in drawn] == [0, 1, 2]
    assert [lm.generate("It was", seed=one.seed, **options) for one in drawn] == [
        one.text for one in drawn
    ]
    *_, watched = lm.watch("It was", **options)
    assert lm.generate("It was", seed=watched.seed, **options) == watched.text


def test_the_samples_of_training_follow_its_seed(tmp_path: Path) -> None:
    texts = ["It was a dark and stormy night; the rain fell in torrents.\n" * 20]
    for seed in (0, 5):
        out = tmp_path / str(seed)
        run = chargen.train(texts=texts, out=out, steps=3, seed=seed, **SIZES)
        assert run.sample == chargen.load(out).generate(max_chars=200, seed=seed)


def test_a_run_leaves_the_settings_and_generators_of_torch_alone(tmp_path: Path) -> None:
    def settings() -> tuple[int, int]:
        return torch.get_num_threads(), torch.get_deterministic_debug_mode()

    inside: list[tuple[int, int]] = []
    reporter = Recorder(lambda _: inside.append(settings()))
    options: dict[str, Any] = {"threads": 2, "deterministic": True, "reporter": reporter}
    texts = ["It was a dark and stormy night; the rain fell in torrents.\n" * 20]
    encoder, examples = save_lm(tmp_path / "encoder"), separable(20)
    runs: list[Callable[[], Any]] = [
        lambda: chargen.train(texts=texts, out=tmp_path / "lm", steps=2, **SIZES, **options),
        lambda: chargen.resume(tmp_path / "lm", steps=3, reporter=reporter),
        lambda: chargen.finetune(
            examples, encoder, tmp_path / "mood", ngrams=False, **QUICK, **options
        ),
        lambda: chargen.resume_finetune(
            tmp_path / "mood", data=examples, epochs=3, reporter=reporter
        ),
    ]
    for run in runs:
        before, generator = settings(), torch.get_rng_state()
        inside.clear()
        run()
        assert set(inside) == {(2, 2)}
        assert settings() == before == (1, 0)
        assert torch.equal(torch.get_rng_state(), generator)


# ---------------------------------------------------------------- saving


def vocabulary_of(lm: chargen.LanguageModel) -> dict[str, Any]:
    return lm.vocabulary.to_json()


def test_a_language_model_is_saved_as_it_was_read(tmp_path: Path) -> None:
    texts = [f"text {number}: it was a dark and stormy night\n" for number in range(40)]
    chargen.train(texts=texts, out=tmp_path / "run", steps=3, tied=True, **SIZES)
    lm = chargen.load(tmp_path / "run")
    lm.save(tmp_path / "copy")
    copy = chargen.load(tmp_path / "copy")
    assert vocabulary_of(copy) == vocabulary_of(lm)
    np.testing.assert_array_equal(copy.score("a\nb").log_probs, lm.score("a\nb").log_probs)
    assert len(copy.score("night").log_probs) == 6  # the end of a document is still scored
    assert copy.checkpoint is not None
    assert copy.checkpoint.document("config") == lm.checkpoint.document("config")
    with pytest.raises(chargen.CheckpointError, match="cannot be resumed"):
        chargen.resume(tmp_path / "copy")
    bare = chargen.LanguageModel(make_lm(), CHARS)
    bare.save(tmp_path / "bare")
    np.testing.assert_array_equal(
        chargen.load(tmp_path / "bare").score("abc").log_probs, bare.score("abc").log_probs
    )


@pytest.mark.parametrize("kind", ["lm", "classifier"])
def test_saving_replaces_a_checkpoint_on_request_and_nothing_else_ever(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = chargen.LanguageModel(make_lm(), CHARS) if kind == "lm" else tiny_classifier()
    place = tmp_path / "new" / "model"
    model.save(place)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    with pytest.raises(chargen.ConfigError, match="model exists.*force=True"):
        model.save(place)
    model.save(place, force=True)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    (tmp_path / "file").write_text("dear diary")
    for other in ("mine", "file"):
        with pytest.raises(
            chargen.ConfigError, match=f"{other} (exists and is not a check|is a file)"
        ):
            model.save(tmp_path / other, force=True)
    assert (tmp_path / "mine" / "diary.txt").read_text() == "dear diary"
    assert (tmp_path / "file").read_text() == "dear diary"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model"]  # nothing half-written
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(chargen.CheckpointError, match="the working directory is in it"):
        model.save(".")


@pytest.mark.parametrize("kind", [chargen.LanguageModel, chargen.Classifier])
@pytest.mark.parametrize("precision", ["half", "", None])
def test_an_unknown_precision_is_refused(kind: Any, precision: Any, tmp_path: Path) -> None:
    model = tiny_classifier()
    if kind is chargen.LanguageModel:
        model = chargen.LanguageModel(make_lm(), CHARS)
    model.save(tmp_path / "model")
    with pytest.raises(chargen.ConfigError, match="--precision must be one of auto, float32"):
        kind.load(tmp_path / "model", precision=precision)


def test_score_sums_to_the_text(lm: chargen.LanguageModel) -> None:
    score = lm.score("It was a dark night")
    assert score.log_probs.shape == (19,)
    assert score.bits_per_char == pytest.approx(-score.log_probs.mean() / np.log(2), rel=1e-5)
    assert lm.score("It was a dark").nats_per_char < lm.score("krad a saw tI").nats_per_char
    with pytest.raises(chargen.CorpusError):
        lm.score("")


@pytest.mark.parametrize("value", [0, -3, 2.5, "4", None, True, np.float64(2)])
def test_numbers_of_samples_and_streams_are_checked_like_options(
    lm: chargen.LanguageModel, value: Any
) -> None:
    with pytest.raises(chargen.ConfigError, match="--num-samples must be"):
        lm.sample("It was", value)
    with pytest.raises(chargen.ConfigError, match="--streams must be"):
        lm.score("It was", streams=value)
    assert len(lm.sample("It was", np.int64(2), max_chars=1)) == 2
    with pytest.raises(chargen.ConfigError, match="chunk must be"):
        tiny_classifier().predict_batches(["a"], value)
    if value != 0:
        with pytest.raises(chargen.ConfigError, match="--replay must be"):
            chargen.verify("reviews", replay=value)


@pytest.mark.parametrize("value", [-1, math.nan, "4", None, True])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_seconds_of_watch_are_checked_at_the_call(direction: str, value: Any) -> None:
    lm = chargen.LanguageModel(make_lm(direction=direction), CHARS)
    with pytest.raises(chargen.ConfigError, match="seconds must be"):
        lm.watch("It was", seconds=value)
    *_, last = lm.watch("It was", seconds=0, max_chars=2, seed=1)
    assert last.text == lm.generate("It was", max_chars=2, seed=1)


def test_encode_gives_a_row_a_text_whatever_the_company(lm: chargen.LanguageModel) -> None:
    features = lm.encode(["dark", "a stormy night" * 200, ""])
    assert features.shape == (3, 3 * 24)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(lm.encode(["dark"])[0], features[0])


def test_a_model_that_its_owner_trains_is_read_without_dropout() -> None:
    model = make_lm(**DROPOUTS)
    lm = chargen.LanguageModel(model, CHARS)
    texts = ["a wow day", "the zap lamp"]

    def numbers() -> list[Any]:
        steering = fit_steering(lm, texts * 2, ["x", "y"] * 2, "mine")
        return [lm.encode(texts), lm.score(texts[0]).log_probs, steering.vectors]

    expected = numbers()
    model.train()
    for found, wanted in zip(numbers(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert model.training


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
        with pytest.raises(chargen.ConfigError, match=f"a {wanted}Config is needed, got Examples"):
            chargen.train("python-docs", tmp_path / "m", **{name: wrong})
    for name, wanted in (("config", "Finetune"), ("network", "Network")):
        with pytest.raises(chargen.ConfigError, match=f"a {wanted}Config is needed, got Examples"):
            chargen.finetune("opinions", "reviews", tmp_path / "m", **{name: wrong})
    with pytest.raises(chargen.ConfigError, match="a SamplingConfig is needed"):
        lm.generate(config=wrong)
