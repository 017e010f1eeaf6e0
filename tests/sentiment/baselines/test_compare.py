from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chargen.errors import ConfigError, CorpusError
from chargen.sentiment import finetune as finetuning
from chargen.sentiment.baselines.compare import compare
from chargen.sentiment.baselines.config import OURS, TEXTBOOK, CompareConfig, WordConfig
from chargen.training.reporting import Reporter

from ..models import save_classifier, tiny_classifier
from .reviews import reviews

TRAIN, TEST = reviews(80), reviews(40, seed=1)
QUICK = WordConfig(embedding_size=8, hidden_size=8, num_layers=1, epochs=2, seed=3, device="cpu")


def test_one_row_a_system_from_the_labels_asked_for() -> None:
    rows = compare(TRAIN, TEST, CompareConfig(labels=40), QUICK)
    assert [row.model for row in rows] == list(TEXTBOOK)
    for row in rows:
        assert row.labels == 40
        assert 0 <= row.accuracy <= 1
        assert row.parameters > 0
        assert row.train_seconds is not None
        assert row.train_seconds > 0
        assert row.texts_per_second > 0
    assert rows[0].accuracy > 0.8


def test_test_texts_change_nothing_but_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CompareConfig(models="gru")
    (whole,) = compare(TRAIN, TEST, config, QUICK)
    half = TEST.select(range(20))
    (first,) = compare(TRAIN, half, config, QUICK)
    (second,) = compare(TRAIN, TEST.select(range(20, 40)), config, QUICK)
    assert whole.accuracy == pytest.approx((first.accuracy + second.accuracy) / 2)
    assert whole.parameters == first.parameters


def test_trained_classifiers_are_only_evaluated(tmp_path: Path) -> None:
    saved = save_classifier(tiny_classifier(labels=("bad", "good")), tmp_path / "mood")
    config = CompareConfig(models="tfidf", classifier=(str(saved),))
    rows = compare(TRAIN, TEST, config, QUICK)
    assert [row.model for row in rows] == ["tfidf", str(saved)]
    assert rows[1].labels is None
    assert rows[1].train_seconds is None
    assert rows[1].parameters > 0
    other = save_classifier(tiny_classifier(labels=("no", "yes")), tmp_path / "other")
    with pytest.raises(CorpusError, match=r"'bad', 'good'.*other.*'no', 'yes'"):
        compare(TRAIN, TEST, CompareConfig(models="tfidf", classifier=(str(other),)), QUICK)


@dataclass
class Run:
    classifier: Any
    seconds: float = 1.5
    finished: bool = True


def test_ours_are_given_the_same_labels_and_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def finetune(data: Any, encoder: Any, out: Any, **options: Any) -> Run:
        assert not Path(out).exists()
        calls.append({"texts": data.texts, "encoder": encoder, **options})
        return Run(tiny_classifier(labels=("bad", "good")))

    monkeypatch.setattr(finetuning, "finetune", finetune)
    config = CompareConfig(models="tfidf", encoder=("reviews",), labels=40, valid_fraction=0.2)
    rows = compare(TRAIN, TEST, config, QUICK)
    assert [row.model for row in rows] == ["tfidf", *(f"ours, {name}" for name in OURS)]
    assert [row.labels for row in rows] == [40] * 4
    assert rows[1].train_seconds == 1.5
    assert {len(call["texts"]) for call in calls} == {40}
    assert [(c["method"], c["from_scratch"]) for c in calls] == [
        ("finetune", True),
        ("probe", False),
        ("finetune", False),
    ]
    for call in calls:
        assert call["encoder"] == ("reviews",)
        assert (call["epochs"], call["minutes"], call["seed"]) == (2, None, 3)
        assert call["valid_fraction"] == 0.2
        assert isinstance(call["reporter"], Reporter)


def test_an_interrupted_run_of_ours_is_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "finetune", lambda *_, **__: Run(None, finished=False))
    with pytest.raises(KeyboardInterrupt):
        compare(TRAIN, TEST, CompareConfig(models="probe", encoder=("reviews",)), QUICK)


def test_names_of_systems() -> None:
    assert CompareConfig(models=" LSTM,tfidf,lstm").systems == ("lstm", "tfidf")
    assert CompareConfig(encoder=("dir",)).systems == (*TEXTBOOK, *OURS)
    assert CompareConfig(models="gru,probe", encoder=("dir",)).systems == ("gru", "probe")
    assert CompareConfig(models="", classifier=("dir",)).systems == ()
    with pytest.raises(ConfigError, match="--models .*'ltsm'; did you mean lstm"):
        CompareConfig(models="ltsm")
    with pytest.raises(ConfigError, match="--models probe .* give --encoder DIR"):
        CompareConfig(models="probe")
    with pytest.raises(ConfigError, match="--labels"):
        CompareConfig(labels=1)
