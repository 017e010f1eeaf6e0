"""From labelled texts to a classifier on disk: learnt, repeatable, resumable, and safe."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import chargen
from chargen.errors import (
    CheckpointError,
    ConfigError,
    CorpusError,
    MissingExtraError,
    TrainingError,
)
from chargen.lm import storage as lm_storage
from chargen.lm.model import CharLM, create_network
from chargen.runtime import precision
from chargen.sentiment import metrics
from chargen.sentiment.classifier import Classifier
from chargen.sentiment.config import ExamplesConfig, FinetuneConfig
from chargen.sentiment.examples import Examples
from chargen.sentiment.finetune import finetune, resume_finetune
from chargen.sentiment.learning import FinetuneRun
from chargen.sentiment.splitting import read_training_texts, sample_texts, split
from chargen.storage import checkpoint
from chargen.text.vocabulary import CharVocabulary, RawVocabulary
from chargen.training.reporting import Reporter

from .making import (
    CHARS,
    LEARNING,
    QUICK,
    Recorder,
    make_lm,
    same,
    save_lm,
    separable,
    weights_in,
    write_csv,
)

Start = Callable[..., FinetuneRun]


@pytest.fixture
def start(tiny_lm: Path, separable_csv: Path, tmp_path: Path) -> Start:
    """A run that takes a fraction of a second."""

    def run(data: Any = separable_csv, encoder: Any = tiny_lm, **options: Any) -> FinetuneRun:
        out = options.pop("out", tmp_path / "mood")
        return finetune(data, encoder, out, **(QUICK | {"ngrams": False} | options))

    return run


def document(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return found


def encoders_of(classifier: Classifier) -> list[CharLM]:
    return classifier.require_network().network.lm_encoders()


# ---------------------------------------------------------------- what comes out


def test_a_run_leaves_a_classifier(start: Start, separable_csv: Path, tiny_lm: Path) -> None:
    recorder = Recorder()
    run = start(reporter=recorder, **LEARNING)
    assert run.finished
    assert run.labels_used == 54
    assert run.steps == 12 * 7
    assert run.valid["accuracy"] == 1
    unseen = separable(100, seed=7)
    together = run.classifier.predict_proba(unseen.texts)
    alone = np.concatenate([run.classifier.predict_proba([text]) for text in unseen.texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    found = run.classifier.predict(unseen.texts)
    assert np.mean([a == b for a, b in zip(found, unseen.labels, strict=True)]) > 0.9
    loaded = Classifier.load(run.directory)
    assert loaded.labels == run.classifier.labels == ("bad", "good")
    texts = ["a wow day", "the zap lamp", "."]
    np.testing.assert_array_equal(loaded.predict_proba(texts), run.classifier.predict_proba(texts))
    config = document(run.directory)
    assert config["encoder"] == [str(tiny_lm)]
    assert config["data"] == [str(separable_csv)]
    assert config["results"]["finished"] is True
    assert config["results"]["labels_used"] == 54
    assert config["finetune"]["epochs"] == 12
    assert any(
        "54 texts to learn from, 6 to validate on, 2 classes" in note for note in recorder.notes
    )
    assert recorder.closed == 1
    rows = [json.loads(row) for row in (run.directory / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(10, 81, 10))
    assert len([row for row in rows if "valid_accuracy" in row]) == 5


def test_figures_are_those_of_the_classifier_that_is_saved(start: Start, tmp_path: Path) -> None:
    valid = separable(200, seed=8)
    run = start(valid=str(write_csv(tmp_path / "valid.csv", valid)))
    classifier = Classifier.load(run.directory)
    found = metrics.evaluate(valid.labels, classifier.predict_proba(valid.texts), classifier.labels)
    for name in ("accuracy", "macro_f1", "log_loss"):
        # Each text is judged by the temperature of the others.
        assert run.valid[name] == pytest.approx(found[name], abs=0.01)
        assert document(run.directory)["results"][f"valid_{name}"] == run.valid[name]


@pytest.mark.parametrize("method", ["probe", "finetune"])
def test_who_votes_is_told_and_kept(start: Start, method: str) -> None:
    recorder = Recorder()
    run = start(ngrams=True, method=method, reporter=recorder)
    votes = document(run.directory)["results"]["votes"]
    assert set(votes) == {"network", "character n-grams", "word n-grams"}
    kept = [name for name, each in votes.items() if each["weight"]]
    assert any(note.startswith("accuracy on held-out texts: net") for note in recorder.notes)
    told = "".join(note for note in recorder.notes if note.startswith("left out"))
    for name, each in votes.items():
        assert (f"{name} ({each['accuracy']:.4f} alone)" in told) is (name not in kept)
    files = {"network": "model", "character n-grams": "ngrams", "word n-grams": "words"}
    for name, file in files.items():
        assert (run.directory / f"{file}.safetensors").exists() is (name in kept)
    loaded = Classifier.load(run.directory)
    assert len(loaded.members) == len(kept)
    texts = ["a wow day", "the zap lamp"]
    np.testing.assert_allclose(
        loaded.predict_proba(texts), run.classifier.predict_proba(texts), atol=1e-6
    )


@pytest.mark.parametrize("method", ["probe", "finetune"])
def test_the_classifier_predicts_as_what_is_saved_of_it(start: Start, method: str) -> None:
    run = start(method=method, precision="bfloat16", ngrams=False)
    texts = ["a wow day", "the zap lamp", "on a stone"]
    found = run.classifier.predict_proba(texts)
    np.testing.assert_array_equal(Classifier.load(run.directory).predict_proba(texts), found)
    np.testing.assert_allclose([run.classifier.trace(text)[-1] for text in texts], found, rtol=1e-4)


@pytest.mark.parametrize(
    "names",
    [["backward"], ["forward", "backward"], ["bytes"], ["tied"], ["gru"], ["tied", "bytes"]],
)
def test_every_kind_of_encoder(start: Start, models: Path, names: list[str]) -> None:
    run = start(encoder=[models / name for name in names])
    loaded = Classifier.load(run.directory)
    assert len(encoders_of(loaded)) == len(names)
    for name, encoder in zip(names, encoders_of(loaded), strict=True):
        trained, _, _ = lm_storage.load(models / name)
        assert encoder.config == trained.config
        before = trained.layers[-1].get_parameter("weight_hh_l0")
        after = encoder.layers[-1].get_parameter("weight_hh_l0")
        assert not torch.equal(before, after)
        torch.testing.assert_close(before, after, atol=0.1, rtol=0)
    np.testing.assert_array_equal(
        loaded.predict_proba(["a wow day"]), run.classifier.predict_proba(["a wow day"])
    )


def test_a_classifier_reads_with_the_first_network_of_an_ensemble(
    start: Start, tmp_path: Path
) -> None:
    lm = chargen.LanguageModel(create_network(replace(make_lm().config, ensemble=2)), CHARS)
    lm.save(tmp_path / "two")
    recorder = Recorder()
    run = start(encoder=tmp_path / "two", method="probe", reporter=recorder)
    [encoder] = encoders_of(run.classifier)
    assert same(encoder.state_dict(), lm.model.members[0].state_dict())
    assert f"{tmp_path / 'two'} has 2 networks: the classifier uses the first" in (recorder.notes)


def test_three_classes_with_labels_kept_as_they_are(start: Start, tmp_path: Path) -> None:
    examples = separable(45, ("10", "9", "so, so"))
    rows = [
        json.dumps({"text": text, "label": label})
        for text, label in zip(examples.texts, examples.labels, strict=True)
    ]
    (tmp_path / "three.jsonl").write_text("\n".join(rows))
    run = start(tmp_path / "three.jsonl")
    assert run.classifier.labels == ("10", "9", "so, so")
    assert Classifier.load(run.directory).predict_proba(["a"]).shape == (1, 3)


def test_examples_instead_of_a_file(start: Start) -> None:
    run = start(separable(30))
    assert run.finished
    assert document(run.directory)["data"] == []
    with pytest.raises(CorpusError, match="came from Python"):
        resume_finetune(run.directory)


def test_cleaning_is_remembered(start: Start, tmp_path: Path) -> None:
    examples = separable(30)
    dirty = tuple(text.replace(" ", "<br />", 1) for text in examples.texts)
    data = write_csv(tmp_path / "dirty.csv", Examples(dirty, examples.labels, examples.rows, ""))
    run = start(data, clean="html")
    loaded = Classifier.load(run.directory)
    assert loaded.clean == run.classifier.clean == "html"
    assert loaded.cleaned("a<br />b") == "a\nb"


def test_without_a_budget_few_labels_are_read_often(start: Start) -> None:
    recorder = Recorder()
    few = {"epochs": None, "method": "finetune", "valid_fraction": 0, "batch_size": 20}
    run = start(separable(20), reporter=recorder, **few)
    assert run.steps == 20
    assert any("no budget was given: 20 passes over 20 labelled texts" in n for n in recorder.notes)


def test_a_budget_of_time(start: Start) -> None:
    recorder = Recorder()
    run = start(epochs=None, minutes=0.005, reporter=recorder)
    assert run.finished
    assert 0.3 <= run.seconds < 10
    assert recorder.evaluations[-1]["step"] == run.steps


def test_unknown_characters_are_named(start: Start, tiny_lm: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    examples = separable(20)
    odd = Examples(
        tuple("★" + text + "ß" for text in examples.texts), examples.labels, examples.rows, "odd"
    )
    more = save_lm(tmp_path / "more", CharVocabulary(CHARS.characters.replace("z", "")), seed=1)
    assert start(odd, encoder=[tiny_lm, more], reporter=recorder).finished
    assert any("has never seen these characters: ★ ß z" in note for note in recorder.notes)


# ---------------------------------------------------------------- options


def test_more_labels_than_there_are_or_fewer_than_classes(start: Start) -> None:
    assert start(labels=20).labels_used == 18
    with pytest.raises(ConfigError, match=r"--labels 61 is too many"):
        start(labels=61, force=True)
    with pytest.raises(ConfigError, match="--labels 1 is too few"):
        start(labels=1, force=True)


def test_a_file_to_validate_on(start: Start, separable_csv: Path, tmp_path: Path) -> None:
    valid = write_csv(tmp_path / "valid.csv", separable(20, seed=9))
    recorder = Recorder()
    run = start(valid=str(valid), reporter=recorder)
    assert run.labels_used == 60
    assert any("20 to validate on" in note for note in recorder.notes)
    assert not any("also stand" in note for note in recorder.notes)
    recorder = Recorder()
    start(valid=str(separable_csv), reporter=recorder, force=True)
    assert any("also occur in" in note for note in recorder.notes)
    strange = write_csv(tmp_path / "strange.csv", separable(4, ("bad", "awful")))
    with pytest.raises(CorpusError, match="unknown label 'awful'"):
        start(valid=str(strange), force=True)


def test_without_validation(start: Start) -> None:
    run = start(valid_fraction=0, ngrams=True)
    assert run.labels_used == 60
    assert run.valid == {}
    assert len(run.classifier.members) == 3  # nothing tells who helps
    assert np.isfinite(Classifier.load(run.directory).predict_proba(["a", "."])).all()


def test_class_weights() -> None:
    examples = separable(60)
    rare = examples.select([i for i in range(60) if examples.labels[i] == "bad" or i % 6 == 1])
    texts = read_training_texts(rare, FinetuneConfig(labels=20), ExamplesConfig(), Reporter())
    even, balanced = (texts.targets(texts.train, each) for each in (False, True))
    assert np.bincount(even.classes).tolist() == [15, 5]  # stratified
    assert (even.weights == 1).all()
    assert float(balanced.weights.mean()) == pytest.approx(1)
    sums = np.bincount(balanced.classes, balanced.weights)
    assert sums[0] == pytest.approx(sums[1])  # each class counts as much


def test_from_scratch_takes_the_sizes_alone(start: Start, tiny_lm: Path) -> None:
    trained, _, _ = lm_storage.load(tiny_lm)
    run = start(from_scratch=True, epochs=1, seed=7)
    (encoder,) = encoders_of(run.classifier)
    assert encoder.config == trained.config
    difference = encoder.embedding.weight - trained.embedding.weight
    assert difference.abs().mean() > 0.3  # not one that fine-tuning could make


def test_seeds(start: Start, tmp_path: Path) -> None:
    runs = [
        start(out=tmp_path / str(number), seed=seed, ngrams=True)
        for number, seed in enumerate((3, 3, 4))
    ]
    first, again, other = (
        checkpoint.load(run.directory, training=True).tensors["training/model"] for run in runs
    )
    assert same(first, again)
    assert not same(first, other)
    assert (
        document(runs[0].directory)["results"]["votes"]
        == (document(runs[1].directory)["results"]["votes"])
    )
    for name in ("training/model.safetensors", "training/optimizer.safetensors"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def test_deterministic(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "choose_precision", lambda *_: pytest.fail("by stopwatch"))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # put back, whoever changes it
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    deterministic: list[bool] = []
    recorder = Recorder(
        lambda _: deterministic.append(torch.are_deterministic_algorithms_enabled())
    )
    options: dict[str, Any] = {"deterministic": True, "precision": "auto", "window": 12}
    runs = [start(out=tmp_path / str(k), reporter=recorder, **options) for k in range(2)]
    assert deterministic
    assert all(deterministic)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert same(*(weights_in(run.directory) for run in runs))
    assert document(runs[0].directory)["precision"] == "float32"


def test_the_lm_loss_moves_the_encoder(start: Start, tmp_path: Path) -> None:
    with_it = start(out=tmp_path / "with", lm_weight=5.0)
    without = start(out=tmp_path / "without", lm_weight=0.0)
    name = "encoders.0.output.weight"  # nothing else moves the output layer, and it decays
    first, second = weights_in(with_it.directory)[name], weights_in(without.directory)[name]
    assert not torch.equal(first, second)


def test_adapting_changes_the_encoder(
    start: Start, tmp_path: Path, tiny_lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each look at the clock takes a tenth of a second: a budget of time is one of steps.
    ticks = iter(range(10**6))
    for clock in ("perf_counter", "thread_time"):
        monkeypatch.setattr(time, clock, lambda: 0.1 * next(ticks))
    monkeypatch.setattr(precision, "reference_step", lambda device: lambda: None)
    unlabelled = tmp_path / "more.txt"
    unlabelled.write_text("\n".join(separable(100, seed=5).texts))
    recorder = Recorder()
    run = start(
        adapt=0.02,
        unlabelled=str(unlabelled),
        learning_rate=1e-9,
        reporter=recorder,
        ngrams=True,
        valid_fraction=0,
    )
    before, _, _ = lm_storage.load(tiny_lm)
    (after,) = encoders_of(run.classifier)
    moved = after.embedding.weight - before.embedding.weight
    assert moved.abs().max() > 1e-3  # at its own rate fine-tuning moves it by a millionth
    assert any("60 labelled and 100 unlabelled texts" in note for note in recorder.notes)
    assert "valid_nats" in recorder.evaluations[0]


def test_a_sample_of_texts_comes_from_all_of_them() -> None:
    texts = tuple(map(str, range(1000)))
    sample = sample_texts(texts, 100, seed=0)
    assert len(set(sample)) == 100
    assert list(sample) == sorted(sample, key=int)  # in their order
    assert 35 < sum(int(text) < 500 for text in sample) < 65  # not only the first
    assert sample == sample_texts(texts, 100, seed=0) != sample_texts(texts, 100, seed=1)
    assert sample_texts(texts, 1000, seed=0) == texts
    assert sample_texts(texts, 0, seed=0) == ()


def test_n_grams_learn_from_what_was_held_back_once_it_has_judged(
    start: Start, tmp_path: Path
) -> None:
    examples = separable(40)
    train, valid = split(examples, 0.5, seed=0)
    options = {"ngrams": True, "method": "finetune", "epochs": 1}
    files = [
        write_csv(tmp_path / name, part) for name, part in (("t.csv", train), ("v.csv", valid))
    ]
    held_back = start(examples, valid_fraction=0.5, **options)
    apart = start(files[0], valid=str(files[1]), out=tmp_path / "apart", **options)
    assert held_back.labels_used == apart.labels_used == 20
    assert held_back.valid == apart.valid  # judged before they are learnt from
    counts = [run.classifier.ngrams for run in (held_back, apart)]
    assert counts[0]
    for model, other in zip(*counts, strict=True):
        text = valid.texts[0]
        buckets = [set(model.features(each)[0].tolist()) for each in train.texts]
        new = sorted(set(model.features(text)[0].tolist()) - set.union(*buckets))
        assert model.weights[:, new].any()
        assert not other.weights[:, new].any()  # a file to validate on is for that alone


@pytest.mark.parametrize(
    ("options", "unused"),
    [
        (
            {"method": "probe", "epochs": 3, "head_size": 50, "penalty": "l1"},
            "--method probe: --epochs",
        ),
        (
            {"method": "probe", "clip": 0.5, "head_size": 0},
            "--method probe: --clip, --head-size",
        ),
        ({"penalty": "l1", "epochs": 0.1}, "--method finetune: --penalty"),
        (
            {"from_scratch": True, "encoder_rate": 0.1, "epochs": 0.1},
            "--from-scratch: --encoder-rate",
        ),
        ({"epochs": 0.1}, None),
    ],
)
def test_options_without_effect_are_told(
    tiny_lm: Path, options: dict[str, Any], unused: str | None
) -> None:
    recorder = Recorder()
    quick = {"ngrams": False, "device": "cpu", "precision": "float32", "labels": 12}
    finetune(separable(20), tiny_lm, reporter=recorder, **(quick | options))
    told = [note for note in recorder.notes if note.startswith("without effect")]
    assert told == ([f"without effect with {unused}"] if unused else [])


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_patience_needs_validation_texts(tiny_lm: Path, fraction: float) -> None:
    recorder = Recorder()
    quick = {"ngrams": False, "device": "cpu", "precision": "float32", "labels": 12, "epochs": 0.1}
    options = {"patience": 1, "valid_fraction": fraction}
    finetune(separable(20), tiny_lm, reporter=recorder, **quick, **options)
    told = "--patience has no effect: there is no validation text"
    assert (told in recorder.notes) is (fraction == 0)


# ---------------------------------------------------------------- the probe


def test_a_probe_has_no_steps_for_tensorboard(start: Start, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--tensorboard needs training steps"):
        start(method="probe", tensorboard=tmp_path / "events")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_the_probe(start: Start, tiny_lm: Path, tmp_path: Path, penalty: str) -> None:
    recorder = Recorder()
    valid = separable(40, seed=8)
    run = start(
        method="probe",
        penalty=penalty,
        reporter=recorder,
        valid=str(write_csv(tmp_path / "valid.csv", valid)),
    )
    assert run.finished
    assert run.steps == 0
    assert run.seconds > 0
    assert any(f"logistic regression ({penalty}) on 24 features" in note for note in recorder.notes)
    loaded = Classifier.load(run.directory)
    trained, _, _ = lm_storage.load(tiny_lm)
    (encoder,) = encoders_of(loaded)
    assert same(encoder.state_dict(), trained.state_dict())
    config = loaded.require_network().network.config
    assert config.detectors == config.head_size == 0
    found = metrics.evaluate(valid.labels, loaded.predict_proba(valid.texts), loaded.labels)
    assert run.valid["log_loss"] == pytest.approx(found["log_loss"], abs=1e-5)
    assert not (run.directory / "training").exists()
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        resume_finetune(run.directory)


def test_the_probe_of_two_encoders(start: Start, models: Path) -> None:
    run = start(
        encoder=[models / "forward", models / "backward"], method="probe", epochs=None, labels=12
    )
    assert run.classifier.require_network().network.head.num_features == 3 * (8 + 6)


# ---------------------------------------------------------------- going on


CONFIG = FinetuneConfig(valid_fraction=0.2)
EVERYTHING = {"epochs": 3, "ema": 0.9, "clip": 0.5, "ngrams": True, "evaluations": 4}


def stopping_at(step: int | None) -> Recorder:
    """A reporter that stops a run after a step as Ctrl-C does it."""
    return Recorder(lambda done: os.kill(os.getpid(), signal.SIGINT) if done == step else None)


def interrupted(start: Start, step: int, **options: Any) -> FinetuneRun:
    run = start(reporter=stopping_at(step), **options)
    assert not run.finished
    assert run.steps == step
    return run


def rows(directory: Path) -> list[dict[str, Any]]:
    """The log of a run without times."""
    lines = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if k != "seconds"} for row in lines]


@pytest.mark.parametrize("stops", [[2], [10], [1, 7]])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    start: Start, models: Path, tmp_path: Path, stops: list[int]
) -> None:
    options = {"encoder": [models / "tied", models / "backward"], **EVERYTHING}
    if len(stops) > 1:
        (tmp_path / "more.txt").write_text("\n".join(separable(20, seed=5).texts))
        options |= {"encoder": models / "bytes", "unlabelled": str(tmp_path / "more.txt")}
        options |= {"labels": 50, "class_weights": False, "lm_weight": 2.0, "window": 6}
    whole = start(out=tmp_path / "whole", **options)
    part = interrupted(start, stops[0], out=tmp_path / "part", checkpoint_every=1, **options)
    assert Classifier.load(part.directory).predict(["a wow day"])  # usable already
    for step, following in zip(stops, [*stops[1:], None], strict=True):
        torch.manual_seed(99)
        recorder = stopping_at(following)
        run = resume_finetune(part.directory, reporter=recorder)
        assert any(f"continuing from step {step}" in note for note in recorder.notes)
    assert run.finished
    assert run.steps == whole.steps
    assert run.valid == whole.valid
    for path in sorted(whole.directory.rglob("*.safetensors")):
        other = part.directory / path.relative_to(whole.directory)
        assert other.read_bytes() == path.read_bytes(), path.name
    assert rows(part.directory) == rows(whole.directory)
    np.testing.assert_array_equal(
        run.classifier.predict_proba(["a wow day"]), whole.classifier.predict_proba(["a wow day"])
    )


def test_a_finished_run_has_nothing_left_to_do(start: Start) -> None:
    done = start(ngrams=True)
    files = {p: p.read_bytes() for p in done.directory.rglob("*") if p.is_file()}
    recorder = Recorder()
    run = resume_finetune(done.directory, reporter=recorder)
    assert any("nothing is left to do" in note for note in recorder.notes)
    assert run.finished
    assert run.valid == done.valid
    assert files == {p: p.read_bytes() for p in done.directory.rglob("*") if p.is_file()}
    texts = ["a wow day", "the zap lamp"]
    np.testing.assert_allclose(
        run.classifier.predict_proba(texts), done.classifier.predict_proba(texts), atol=1e-6
    )


def test_other_texts_are_refused(start: Start, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv", separable(30))
    part = interrupted(start, 2, data=data)
    before = (part.directory / "model.safetensors").read_bytes()
    write_csv(data, separable(31))
    with pytest.raises(CorpusError, match=r"mood \(.*data.csv\) have changed"):
        resume_finetune(part.directory)
    swapped = separable(30)
    labels = ("good", "bad", *swapped.labels[2:])
    write_csv(data, Examples(swapped.texts, labels, swapped.rows, ""))
    with pytest.raises(CorpusError, match="have changed"):
        resume_finetune(part.directory)
    data.unlink()
    with pytest.raises(CorpusError, match=r"data\.csv"):
        resume_finetune(part.directory)
    assert (part.directory / "model.safetensors").read_bytes() == before
    write_csv(data, separable(30))
    assert resume_finetune(part.directory).finished


def test_a_finished_run_goes_on_with_a_longer_budget(start: Start) -> None:
    done = start(ngrams=True)
    epochs = json.loads((done.directory / "config.json").read_text())["finetune"]["epochs"]
    run = resume_finetune(done.directory, epochs=epochs + 1)
    assert run.finished
    assert run.steps > done.steps
    config = json.loads((done.directory / "config.json").read_text())
    assert config["finetune"]["epochs"] == epochs + 1
    rows = [json.loads(row) for row in (done.directory / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == run.steps
    with pytest.raises(ConfigError, match=r"epochs or minutes.*not steps"):
        resume_finetune(done.directory, steps=5)
    assert resume_finetune(done.directory, epochs=1).steps == run.steps


def test_figures_are_those_of_the_classifier_whenever_a_run_stops(start: Start) -> None:
    valid = read_training_texts(separable(60), CONFIG, ExamplesConfig(), Reporter()).valid

    def check(run: FinetuneRun, finished: bool) -> None:
        results = document(run.directory)["results"]
        assert results["finished"] is run.finished is finished
        assert ("votes" in results) is finished  # an unfinished run has only its network
        assert run.valid["log_loss"] == results["valid_log_loss"]
        if not finished:  # the n-grams of a finished one know the texts
            chances = Classifier.load(run.directory).predict_proba(valid.texts)
            found = metrics.evaluate(valid.labels, chances, run.classifier.labels)
            assert run.valid["log_loss"] == pytest.approx(found["log_loss"], abs=1e-4)

    options = {"ngrams": True, "valid_fraction": CONFIG.valid_fraction, "eval_every": 4}
    part = interrupted(start, 5, **options)
    check(part, finished=False)
    ended = resume_finetune(part.directory, epochs=0.5)  # of which more is done
    check(ended, finished=True)
    assert ended.steps == 5
    check(resume_finetune(part.directory, epochs=9, reporter=stopping_at(6)), finished=False)
    check(resume_finetune(part.directory), finished=True)


def test_a_run_that_patience_ended_goes_on_with_a_longer_budget(start: Start) -> None:
    ended = start(epochs=4, patience=2, evaluations=8, learning_rate=1e-12)  # nothing moves
    assert ended.finished
    assert ended.steps < 28
    recorder = Recorder()
    assert resume_finetune(ended.directory, reporter=recorder).steps == ended.steps
    assert any("nothing is left to do" in note for note in recorder.notes)
    assert resume_finetune(ended.directory, epochs=5).steps > ended.steps


def test_the_last_weights_go_on_not_the_best(start: Start) -> None:
    run = start(ema=0.9)
    stored = checkpoint.load(run.directory, training=True)
    best, last = stored.tensors["model"], stored.tensors["training/model"]
    assert not torch.equal(best["head.2.weight"], last["head.2.weight"])
    assert float(best["temperature"]) != float(last["temperature"]) == 1


def test_the_same_encoder_twice_is_refused(
    tiny_lm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tiny_lm)
    for names in ((tiny_lm, tiny_lm), (tiny_lm, "link"), ("reviews", "checkpoints/reviews")):
        with pytest.raises(ConfigError, match="is given twice"):
            finetune(separable(20), names, tmp_path / "mood")


def test_without_scikit_learn_no_run_begins(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    for begin in (start, lambda: resume_finetune(tmp_path / "mood")):
        with pytest.raises(MissingExtraError, match=r"fine-tuning .*chargen\[sentiment\]"):
            begin()


def test_what_cannot_be_resumed(tiny_lm: Path, tiny_classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        resume_finetune(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="language-model"):
        resume_finetune(tiny_lm)
    with pytest.raises(CheckpointError, match="tiny has no training state"):
        resume_finetune(tiny_classifier)


# ---------------------------------------------------------------- safety


def test_nothing_is_overwritten_unasked(start: Start, tmp_path: Path, tiny_lm: Path) -> None:
    run = start()
    before = weights_in(run.directory)
    with pytest.raises(ConfigError, match=r"mood exists: .*--resume.*--force"):
        start(seed=5)
    assert same(weights_in(run.directory), before)
    start(seed=5, force=True)
    assert not same(weights_in(run.directory), before)

    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    for force in (False, True):
        with pytest.raises(ConfigError, match="notes exists and is not a checkpoint"):
            start(out=tmp_path / "notes", force=force)
    (tmp_path / "file").write_text("text")
    with pytest.raises(ConfigError, match="file is a file"):
        start(out=tmp_path / "file", force=True)
    assert (tmp_path / "file").read_text() == "text"
    (tmp_path / "empty").mkdir()
    assert start(out=tmp_path / "empty").finished


def test_the_encoder_is_never_overwritten(start: Start, tmp_path: Path) -> None:
    encoder = save_lm(tmp_path / "lm")
    before = (encoder / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="--out .*lm is the folder of the encoder"):
        start(encoder=encoder, out=tmp_path / "." / "lm", force=True)
    start(encoder=encoder)
    assert (encoder / "model.safetensors").read_bytes() == before


def test_other_files_in_the_folder_survive(start: Start) -> None:
    run = start()
    (run.directory / "MODEL_CARD.md").write_text("# Mood")
    (run.directory / "curve.png").write_bytes(b"\x89PNG")
    start(seed=5, force=True)
    assert (run.directory / "MODEL_CARD.md").read_text() == "# Mood"
    assert (run.directory / "curve.png").read_bytes() == b"\x89PNG"
    assert Classifier.load(run.directory).labels == ("bad", "good")


def test_a_run_that_diverges_leaves_what_was_there(start: Start) -> None:
    run = start()
    before = weights_in(run.directory)
    with pytest.raises(TrainingError, match="--learning-rate"):
        start(force=True, learning_rate=1e30, clip=0.0)
    assert same(weights_in(run.directory), before)


def test_no_encoder(
    start: Start, tiny_lm: Path, tiny_classifier: Path, models: Path, tmp_path: Path
) -> None:
    cases: list[tuple[Any, type[Exception], str]] = [
        (tmp_path / "nothing", CheckpointError, "no checkpoint .*nothing"),
        (tiny_classifier, CheckpointError, r"tiny is a classifier checkpoint; a language-model"),
        ([tiny_lm] * 3, ConfigError, "--encoder takes one language model, or"),
        ([], ConfigError, "--encoder takes one"),
        ("x" * 300, CheckpointError, "cannot read x"),
        (None, ConfigError, "--encoder must be the path of a language model, got None"),
        (chargen.load(tiny_lm), ConfigError, "--encoder must be the path of a language model"),
        (save_lm(models / "raw", RawVocabulary()), ConfigError, "trained on raw bytes"),
    ]
    for encoder, error, words in cases:
        with pytest.raises(error, match=words):
            start(encoder=encoder)
    assert list(tmp_path.iterdir()) == []


def test_a_single_class(start: Start, tmp_path: Path) -> None:
    one = separable(10).select(range(0, 10, 2))
    with pytest.raises(CorpusError, match="two or more"):
        start(one)
    with pytest.raises(CorpusError, match="'bad'.*two or more"):
        start(write_csv(tmp_path / "one.csv", one))
    with pytest.raises(CorpusError, match="two or more"):
        start(one.select([]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 1, "minutes": 1}, "--minutes and --epochs"),
        ({"batch_size": 1}, "--batch-size must be at least 2"),
        ({"window": 1}, "--window must be at least 2"),
        ({"valid_fraction": 1.0}, "--valid-fraction must be below 1"),
        ({"valid_fraction": 0.2, "valid": "v.csv"}, "--valid and --valid-fraction exclude"),
        ({"method": "magic"}, "--method must be one of"),
        ({"method": "probe", "from_scratch": True}, "--from-scratch"),
        ({"learning_rate": 0}, "--learning-rate must be above 0"),
        ({"learning_rate": float("nan")}, "--learning-rate must be a number"),
        ({"labels": 2.5}, "--labels must be a whole number"),
        ({"head_dropout": 1}, "--head-dropout"),
        ({"detectors": -1}, "--detectors"),
        ({"clean": "markdown"}, "--clean"),
        ({"encoding": "klingon"}, "--encoding"),
        ({"device": "abacus"}, "--device abacus"),
        ({"learning_rat": 1}, "did you mean learning_rate"),
    ],
)
def test_options_that_cannot_work(
    start: Start, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        start(**options)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_write_one_folder(start: Start) -> None:
    recorder = Recorder()
    refused: list[str] = []

    def second(step: int) -> None:
        if step == 1:
            with pytest.raises(CheckpointError, match="another run is writing") as caught:
                start()
            refused.append(str(caught.value))

    recorder.at = second
    assert start(reporter=recorder).finished
    assert len(refused) == 1


def test_a_copied_checkpoint_goes_on_too(start: Start, tmp_path: Path) -> None:
    part = interrupted(start, 2)
    shutil.move(part.directory, tmp_path / "elsewhere")
    assert resume_finetune(tmp_path / "elsewhere").finished
