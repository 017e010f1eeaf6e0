"""TF-IDF and ours on the same texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chargen.errors import ConfigError, CorpusError, MissingExtraError
from chargen.sentiment import compare as comparison
from chargen.sentiment import metrics
from chargen.sentiment.compare import compare, tfidf
from chargen.sentiment.config import TFIDF, CompareConfig, ExamplesConfig
from chargen.text.html import clean_html
from chargen.training.reporting import Reporter

from .making import Recorder, separable
from .models import save_classifier, tiny_classifier

TRAIN, TEST = separable(120), separable(40, seed=1)


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_one_row_a_system_from_the_labels_asked_for(seed: int) -> None:
    rows = compare(TRAIN, TEST, CompareConfig(labels=80, seed=seed))
    assert [row.model for row in rows] == list(TFIDF)
    for row in rows:
        assert row.labels == 80
        assert row.accuracy > 0.9
        assert row.parameters > 0
        assert row.train_seconds is not None
        assert row.texts_per_second > 0


def test_its_threads_are_those_asked_for() -> None:
    before, threads = torch.get_num_threads(), []
    recorder = Recorder()
    recorder.note = lambda _: threads.append(torch.get_num_threads())  # type: ignore[method-assign]
    compare(TRAIN, TEST, CompareConfig(models="tfidf", threads=2), recorder)
    assert set(threads) == {2}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", TFIDF)
def test_test_texts_change_nothing_but_the_figures(name: str) -> None:
    config = CompareConfig(models=name)
    parts = [TEST, TEST.select(range(20)), TEST.select(range(20, 40))]
    whole, first, second = (compare(TRAIN, part, config)[0] for part in parts)
    assert whole.accuracy == pytest.approx((first.accuracy + second.accuracy) / 2)
    assert whole.log_loss == pytest.approx((first.log_loss + second.log_loss) / 2)
    assert whole.parameters == first.parameters


def test_trained_classifiers_are_only_evaluated(tmp_path: Path) -> None:
    saved = save_classifier(tiny_classifier(labels=("bad", "good")), tmp_path / "mood")
    config = CompareConfig(models="tfidf", classifier=(str(saved),))
    rows = compare(TRAIN, TEST, config)
    assert [row.model for row in rows] == ["tfidf", str(saved)]
    assert rows[1].labels is None
    assert rows[1].train_seconds is None
    assert rows[1].parameters > 0
    recorder = Recorder()
    more = save_classifier(tiny_classifier(labels=("bad", "good", "odd")), tmp_path / "more")
    config = CompareConfig(models="", classifier=(str(saved), str(more)))
    compare(TRAIN, TEST, config, recorder)
    (note,) = (note for note in recorder.notes if "macro-F1 is a mean" in note)
    assert note.startswith(f"{more} has 3 labels and separable.csv has 2, and they differ")
    other = save_classifier(tiny_classifier(labels=("no", "yes")), tmp_path / "other")
    with pytest.raises(CorpusError, match=r"'bad', 'good'.*other.*'no', 'yes'"):
        compare(TRAIN, TEST, CompareConfig(models="tfidf", classifier=(str(other),)))


@pytest.mark.parametrize("clean", [None, "html"])
@pytest.mark.parametrize("own", [None, "html"])
def test_a_trained_classifier_reads_what_its_evaluation_reads(
    tmp_path: Path, clean: str | None, own: str | None
) -> None:
    marked = tuple(f"<b>{text}</b> a &amp;lt;i&amp;gt;zap&amp;lt;/i&amp;gt;" for text in TEST.texts)
    plain = clean_html if clean else str
    test = replace(TEST, texts=tuple(map(plain, marked)))
    classifier = tiny_classifier(labels=("bad", "good"), clean=own)
    saved = save_classifier(classifier, tmp_path / "mood")
    config = CompareConfig(models="", classifier=(str(saved),))
    (row,) = compare(TRAIN, test, config, reading=ExamplesConfig(clean=clean))
    read = [clean_html(text) if clean or own else text for text in marked]
    chances = classifier.predict_proba(read, cleaned=True)
    figures = metrics.evaluate(test.labels, chances, classifier.labels)
    assert row.log_loss == pytest.approx(figures["log_loss"], abs=1e-6)


def test_a_text_that_a_trained_classifier_cleans_away_is_judged_too(tmp_path: Path) -> None:
    saved = save_classifier(tiny_classifier(("bad", "good"), "html"), tmp_path / "mood")
    test = replace(TEST, texts=("<br>", *TEST.texts[1:]))
    config = CompareConfig(models="tfidf", classifier=(str(saved),))
    assert len(compare(TRAIN, test, config)) == 2


@dataclass
class Run:
    classifier: Any
    seconds: float = 1.5
    finished: bool = True


def test_ours_are_given_the_same_labels_and_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def finetune(data: Any, encoder: Any, **options: Any) -> Run:
        calls.append({"texts": data.texts, "encoder": encoder, **options})
        return Run(tiny_classifier(labels=("bad", "good")))

    monkeypatch.setattr(comparison, "finetune", finetune)
    names = ("scratch", "probe", "finetuned")
    budget = {"labels": 40, "valid_fraction": 0.2, "epochs": 2, "seed": 3, "device": "cpu"}
    config = CompareConfig(models=",".join(names), encoder=("reviews",), unlabelled="u", **budget)
    reading = ExamplesConfig(text_column=("body",), clean="html")
    rows = compare(TRAIN, TEST, config, reading=reading)
    assert [row.model for row in rows] == [f"ours, {name}" for name in names]
    assert {(row.labels, row.train_seconds) for row in rows} == {(40, 1.5)}
    assert [(c["method"], c["from_scratch"], c["unlabelled"]) for c in calls] == [
        ("finetune", True, None),
        ("probe", False, "u"),
        ("finetune", False, "u"),
    ]
    for call in calls:
        assert len(call["texts"]) == 40
        assert call["encoder"] == ("reviews",)
        assert call["reading"] == reading
        assert (call["minutes"], call["seed"], call["device"]) == (None, 3, "cpu")
        probed = call["method"] == "probe"  # it has no steps, and cross-validation
        assert (call["valid_fraction"], call["epochs"]) == ((None, None) if probed else (0.2, 2))
        assert isinstance(call["reporter"], Reporter)


def test_an_interrupted_run_of_ours_is_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "finetune", lambda *_, **__: Run(None, finished=False))
    with pytest.raises(KeyboardInterrupt):
        compare(TRAIN, TEST, CompareConfig(models="probe", encoder=("reviews",)))


def test_names_of_systems() -> None:
    assert CompareConfig(models=" TFIDF-chars,tfidf,tfidf").systems == ("tfidf-chars", "tfidf")
    assert CompareConfig(encoder=("dir",)).systems == (*TFIDF, "probe", "finetuned")
    assert CompareConfig(models="scratch", encoder=("dir",)).systems == ("scratch",)
    assert CompareConfig(models="", classifier=("dir",)).systems == ()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"models": "tfdif"}, "--models .*'tfdif'; did you mean tfidf"),
        ({"models": "probe"}, "--models probe .* give --encoder DIR"),
        ({"minutes": 1.0}, "--minutes needs --encoder: give --encoder DIR"),
        ({"valid_fraction": 0.2}, "--valid-fraction needs --encoder"),
        ({"models": "probe", "minutes": 1.0}, "--minutes is for scratch and finetuned"),
        ({"models": "probe,tfidf", "epochs": 1}, "--epochs is for scratch and finetuned"),
        ({"models": "probe", "valid_fraction": 0.2}, "--valid-fraction is for scratch and"),
        ({"models": "scratch", "unlabelled": "u"}, "--unlabelled is for probe and finetuned"),
        ({"epochs": 1, "minutes": 1.0}, "--minutes and --epochs"),
        ({"epochs": 0}, "--epochs"),
        ({"labels": 1}, "--labels"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], said: str) -> None:
    encoder = () if " --encoder" in said else ("reviews",)
    with pytest.raises(ConfigError, match=said):
        CompareConfig(encoder=encoder, **options)


@pytest.mark.parametrize("characters", [False, True])
def test_tfidf_of_three_classes_and_texts_that_say_nothing(characters: bool) -> None:
    train = separable(90, ("bad", "good", "odd"))
    model = tfidf(train.texts, train.labels, characters=characters, seed=0)
    assert list(model.classes_) == ["bad", "good", "odd"]
    probabilities = model.predict_proba(["", "☃", "on the jq."])
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    assert probabilities[2].argmax() == 2


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["up", "in"], ["p", "n"]),  # no term in two texts, a class of one text
        (["up", "in", "ok", "my"], ["p", "n", "p", "n"]),
        (["!", "?"], ["p", "n"]),  # no letters
        (["可", "不"], ["p", "n"]),
    ],
)
@pytest.mark.parametrize("characters", [False, True])
def test_tfidf_of_texts_without_a_common_term_keeps_all_of_them(
    texts: list[str], labels: list[str], characters: bool
) -> None:
    model = tfidf(texts, labels, characters=characters, seed=0)
    assert model.predict(texts).tolist() == labels


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    for work in (
        lambda: tfidf(["a", "b"], ["p", "n"], characters=False, seed=0),
        lambda: compare(TRAIN, TEST, CompareConfig()),
    ):
        with pytest.raises(MissingExtraError, match=r"pip install 'chargen\[sentiment\]'"):
            work()
