"""The task: it learns, skips what is no number, and goes on as if never stopped."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from chargen.errors import TrainingError
from chargen.sentiment import text_classification
from chargen.sentiment.config import FinetuneConfig
from chargen.sentiment.examples import Examples
from chargen.sentiment.network import MOMENTUM, EncodedTexts, TextEncoding
from chargen.sentiment.storage import weights_of
from chargen.sentiment.text_classification import LabelledTexts, TextClassification
from chargen.training.loop import Loop
from chargen.training.reporting import Reporter

from .making import CHARS, DROPOUTS, Recorder, make_lm, make_network, same, separable

DATA = separable(40)
TWELVE = DATA.select(range(12))
NOTHING = DATA.select([])

Tuner = Loop[TextClassification]


def labelled(examples: Examples) -> LabelledTexts:
    encoded = EncodedTexts(examples.texts, [TextEncoding(CHARS, False)])
    truth = torch.tensor([("bad", "good").index(label) for label in examples.labels], dtype=int)
    return LabelledTexts(encoded, truth, torch.ones(len(truth)))


def figures(examples: Examples, probabilities: NDArray[np.float32]) -> dict[str, Any]:
    if not len(examples):
        return {}
    truth = np.array([("bad", "good").index(label) for label in examples.labels])
    right = probabilities.argmax(-1) == truth
    chances = probabilities[np.arange(len(truth)), truth]
    return {
        "valid_accuracy": float(right.mean()),
        "valid_macro_f1": float(np.mean([right[truth == k].mean() for k in set(truth.tolist())])),
        "valid_log_loss": float(-np.log(chances.clip(1e-9)).mean()),
    }


def make(
    *,
    lm: dict[str, Any] | None = None,
    train: Examples = DATA,
    valid: Examples = TWELVE,
    reporter: Reporter | None = None,
    saved: list[int] | None = None,
    seed: int = 0,
    scores: Sequence[float] | None = None,
    **options: Any,
) -> Tuner:
    chosen: dict[str, Any] = {"epochs": 4.0, "batch_size": 8, "learning_rate": 0.01} | options
    network = make_network(make_lm(seed=seed, **(lm or {})), seed=seed)
    torch.manual_seed(seed)
    remaining = iter(scores or ())

    def measure(chances: NDArray[np.float32]) -> dict[str, Any]:
        found = figures(valid, chances)
        return found | ({"valid_macro_f1": next(remaining, 0.0)} if scores else {})

    def save(tuner: Tuner) -> None:
        if saved is not None:
            saved.append(tuner.progress.step)

    config = FinetuneConfig(**chosen)
    task = TextClassification(network, labelled(train), labelled(valid), config, "float32", measure)
    return Loop(task, save, reporter)


def averaged(tuner: Tuner) -> bool:
    """Whether what is kept is the running average of the weights."""
    assert tuner.average is not None
    return all(torch.equal(tuner.best[k], value) for k, value in tuner.average.average.items())


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize("from_scratch", [False, True])
def test_overfits_twenty_texts(from_scratch: bool) -> None:
    few = separable(20)
    tuner = make(
        lm={"hidden_size": 16},
        train=few,
        valid=few,
        epochs=40.0,
        batch_size=10,
        learning_rate=0.02,
        from_scratch=from_scratch,
        ema=0.5,
    )
    tuner.run()
    assert tuner.task.progress.best["valid_accuracy"] == 1
    assert tuner.task.progress.best["valid_log_loss"] < 0.1
    assert tuner.task.progress.texts == 40 * 20
    assert tuner.progress.step == 80


def test_a_step_tells_what_it_did() -> None:
    tuner = make()
    batch = [3, 4, 5]
    row = tuner.step(batch)
    assert row["step"] == 1
    assert row["texts"] == 3
    assert row["characters"] == sum(len(DATA.texts[i]) for i in batch)
    assert row["epoch"] == 3 / len(DATA)
    assert row["loss"] > 0
    assert row["lm_loss"] == pytest.approx(math.log(CHARS.size), abs=0.7)
    assert 0 <= row["train_accuracy"] <= 1
    assert row["gradient_norm"] > 0
    assert 0 < row["learning_rate"] < 0.01


def test_an_epoch_has_every_text_once() -> None:
    tuner = make()
    seen: Counter[int] = Counter()
    epochs = []
    for _ in range(3 * 5):
        seen.update(tuner.task.next_batch())
        epochs.append(tuner.task.progress.epoch)
    assert set(seen.values()) == {3}
    assert len(seen) == len(DATA)
    assert epochs == [0] * 5 + [1] * 5 + [2] * 5


def test_seeds_give_other_orders() -> None:
    assert make().task.batches(0) == make().task.batches(0)
    assert make().task.batches(0) != make().task.batches(1)
    other = make()
    other.task.config = replace(other.task.config, seed=5)
    assert other.task.batches(0) != make().task.batches(0)


def test_texts_count_as_much_as_their_weights_say() -> None:
    results = []
    for weights in ([1.0, 0.0], [5.0, 0.0], [1.0, 1.0]):
        tuner = make(lm_weight=0.0, weight_decay=0.0)
        tuner.task.train.weights[:2] = torch.tensor(weights)
        results.append(tuner.step([0, 1])["loss"])
    assert results[0] == pytest.approx(results[1])  # relative to one another
    assert results[0] != pytest.approx(results[2], rel=1e-3)


def test_the_first_step_moves_every_weight_that_the_loss_reaches() -> None:
    for lm_weight in (0.1, 0.0):
        tuner = make(lm_weight=lm_weight)
        before = {n: p.detach().clone() for n, p in tuner.task.model.named_parameters()}
        assert (tuner.step([0, 1, 2])["lm_loss"] is None) == (not lm_weight)
        same = {n for n, p in tuner.task.model.named_parameters() if torch.equal(p, before[n])}
        output = {"encoders.0.output.weight", "encoders.0.output.bias"}
        assert same == (set() if lm_weight else output)


# ---------------------------------------------------------------- budgets and stopping


def test_a_budget_in_epochs_ends() -> None:
    saved: list[int] = []
    recorder = Recorder()
    tuner = make(epochs=2.5, saved=saved, reporter=recorder)
    tuner.run()
    assert tuner.progress.step == 13  # of 5 a pass
    assert tuner.finished
    assert saved == [13]
    assert recorder.progress == sorted(recorder.progress)
    assert recorder.steps[-1]["learning_rate"] < 0.1 * max(
        r["learning_rate"] for r in recorder.steps
    )


@pytest.mark.parametrize(("epochs", "count"), [(0.5, 3), (1.0, 5), (4.0, 5), (0.1, 1)])
def test_evaluations_of_a_run(epochs: float, count: int) -> None:
    # No weights are measured twice, and the last are always.
    recorder = Recorder()
    tuner = make(epochs=epochs, reporter=recorder, evaluations=5)
    tuner.run()
    steps = [row["step"] for row in recorder.evaluations]
    assert len(steps) == len(set(steps)) == count
    assert steps[-1] == tuner.progress.step


@pytest.mark.parametrize("trusted", [1, 1000])
def test_patience_waits_for_a_better_score_than_the_best(
    trusted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_classification, "TRUSTED_VALIDATION", trusted)
    recorder = Recorder()
    scores = [0.5, 0.6, 0.3, 0.4, 0.45, 0.9, 0.9, 0.9, 0.9, 0.9]
    tuner = make(patience=3, evaluations=10, scores=scores, reporter=recorder)
    tuner.run()
    assert [row["valid_macro_f1"] for row in recorder.evaluations] == scores[:5]
    assert tuner.finished
    assert tuner.share_done == pytest.approx(0.5)


def test_without_validation_nothing_is_out_of_patience() -> None:
    recorder = Recorder()
    tuner = make(valid=NOTHING, patience=1, evaluations=10, reporter=recorder)
    tuner.run()
    assert tuner.share_done == 1
    assert averaged(tuner)
    assert all("valid_macro_f1" not in row for row in recorder.evaluations)


# ---------------------------------------------------------------- evaluation


@pytest.mark.parametrize(("trusted", "kept"), [(12, 2), (13, 4)])
def test_the_best_are_kept_where_validation_can_be_trusted_else_the_last(
    trusted: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_classification, "TRUSTED_VALIDATION", trusted)
    seen: list[dict[str, Tensor]] = []
    tuner = make(evaluations=4, scores=[0.5, 0.9, 0.7, 0.6])
    measure = tuner.task.figures

    def spy(*given: Any) -> dict[str, Any]:
        seen.append({k: v.clone() for k, v in tuner.task.model.state_dict().items()})
        return measure(*given)

    tuner.task.figures = spy
    tuner.run()
    assert same(tuner.best, seen[kept - 1])
    assert tuner.progress.best_step == tuner.task.progress.best["step"] == 5 * kept


def test_log_loss_decides_between_equal_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_classification, "TRUSTED_VALIDATION", 1)
    tuner = make(evaluations=4, scores=[0.8, 0.8, 0.8, 0.8], learning_rate=0.02)
    recorder = tuner.reporter = Recorder()
    tuner.run()
    losses = [row["valid_log_loss"] for row in recorder.evaluations]
    assert len(set(losses)) == 4
    assert tuner.progress.best_step == 5 * (1 + losses.index(min(losses)))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_evaluations_disturb_neither_weights_nor_generators(ema: float) -> None:
    results = []
    for evaluations in (1, 7):
        tuner = make(lm=DROPOUTS, ema=ema, evaluations=evaluations)
        tuner.run()
        results.append(tuner)
    once, often = results
    assert same(once.best, often.best)
    for group in ("model", "optimizer", "generators"):
        assert same(once.state()[1][group], often.state()[1][group]), group


def test_figures_are_those_of_the_weights_that_are_kept() -> None:
    tuner = make(ema=0.8, lm=DROPOUTS)
    tuner.run()
    network = make_network(make_lm(**DROPOUTS))
    tuner.task.model = network
    network.load_state_dict(tuner.best, strict=False)
    network.eval()
    found = figures(TWELVE, tuner.task.logits(tuner.task.valid.encoded).softmax(-1).numpy())
    assert found["valid_log_loss"] == pytest.approx(
        tuner.task.progress.best["valid_log_loss"], abs=1e-5
    )


def test_statistics_equal_those_of_one_big_batch() -> None:
    tuner = make(batch_size=100, lm=DROPOUTS)  # dropout is off while they are taken
    norm = tuner.task.model.head[0]
    assert isinstance(norm, nn.BatchNorm1d)
    tuner.task.refresh_statistics()
    tuner.task.model.eval()
    with torch.no_grad():
        features = tuner.task.model.features(
            tuner.task.train.encoded.inputs(range(len(DATA)), "cpu")
        )
    torch.testing.assert_close(norm.running_mean, features.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        norm.running_var, features.var(0, correction=0), atol=1e-5, rtol=1e-3
    )
    assert norm.momentum == MOMENTUM


def test_statistics_from_several_batches_are_nearly_those() -> None:
    tuner = make(train=separable(200), batch_size=24)
    norm = tuner.task.model.head[0]
    assert isinstance(norm, nn.BatchNorm1d)
    tuner.task.refresh_statistics()
    tuner.task.model.eval()
    with torch.no_grad():
        features = tuner.task.model.features(tuner.task.train.encoded.inputs(range(200), "cpu"))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    deviation = features.std(0).clamp(min=1e-4)
    assert ((norm.running_mean - features.mean(0)) / deviation).abs().max() < 0.2
    assert (norm.running_var.sqrt() / deviation - 1).abs().mean() < 0.2


def test_statistics_are_of_all_classes_also_in_a_sorted_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_classification, "STATISTICS_TEXTS", 12)
    tuner = make(train=DATA.select(sorted(range(40), key=lambda i: DATA.labels[i])))
    seen: list[int] = []
    inputs = tuner.task.train.encoded.inputs

    def spy(indices: Sequence[int], device: Any) -> Any:
        assert len(indices) > 1
        seen.extend(indices)
        return inputs(indices, device)

    monkeypatch.setattr(tuner.task.train.encoded, "inputs", spy)
    tuner.task.refresh_statistics()
    assert len(seen) == len(set(seen)) == 12
    assert {int(tuner.task.train.classes[i]) for i in seen} == {0, 1}


@pytest.mark.parametrize(("count", "batch_size"), [(2, 2), (3, 2), (9, 8), (17, 4)])
def test_no_batch_is_of_a_single_text(count: int, batch_size: int) -> None:
    tuner = make(train=separable(count), batch_size=batch_size, epochs=2.0)
    tuner.run()
    assert tuner.finished


# ---------------------------------------------------------------- what is no number


def test_a_text_that_spoils_the_loss_is_skipped() -> None:
    recorder = Recorder()
    tuner = make(reporter=recorder, batch_size=10, ema=0.9)
    tuner.task.train.weights[7] = math.nan
    before = weights_of(tuner.task.model)
    with_it = next(batch for batch in tuner.task.batches(0) if 7 in batch)
    row = tuner.step(with_it)
    assert math.isnan(row["loss"])
    names = dict(tuner.task.model.named_parameters())
    assert all(torch.equal(before[name], p) for name, p in names.items())
    tuner.run()
    assert tuner.progress.skipped == 4  # once an epoch
    assert all(value.isfinite().all() for value in tuner.best.values())
    assert recorder.evaluations[-1]["valid_accuracy"] >= 0.5


def poison(tuner: Tuner) -> None:
    with torch.no_grad():
        tuner.task.model.head[-1].bias.fill_(math.nan)


def test_weights_that_are_no_numbers_are_never_the_best() -> None:
    recorder = Recorder()
    tuner = make(reporter=recorder, evaluations=2, ema=0.0, epochs=2.0)
    recorder.at = lambda step: poison(tuner) if step == 6 else None
    tuner.run()  # too short for MAX_SKIPPED_STEPS
    assert tuner.finished
    assert [row.get("step") for row in recorder.evaluations] == [5, 10]
    assert "valid_accuracy" not in recorder.evaluations[1]
    assert tuner.task.progress.best["step"] == 5
    assert all(value.isfinite().all() for value in tuner.best.values())


@pytest.mark.parametrize("valid", [NOTHING, DATA])
def test_a_run_without_a_single_number_is_an_error(valid: Examples) -> None:
    recorder = Recorder()
    saved: list[int] = []
    tuner = make(
        reporter=recorder,
        evaluations=2,
        ema=0.0,
        epochs=1.5,
        valid=valid,
        saved=saved,
        batch_size=10,
    )
    recorder.at = lambda step: poison(tuner) if step == 1 else None
    with pytest.raises(TrainingError, match=r"not a finite number at any evaluation.*--learning"):
        tuner.run()
    assert saved == []


# ---------------------------------------------------------------- going on


def travel(tuner: Tuner) -> tuple[Any, dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """The training state as it comes back from files."""
    document, tensors = tuner.state()
    best = {name: value.clone() for name, value in tuner.best.items()}
    best = best or weights_of(tuner.task.model)  # a checkpoint has some in any case
    return (
        json.loads(json.dumps(document, allow_nan=False)),
        {name: read_tensors(write_tensors(group)) for name, group in tensors.items()},
        best,
    )


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {"ema": 0.0, "lm_weight": 0.0}),
    "everything": (
        {"num_layers": 2, "tied": True, "variational": True, **DROPOUTS},
        {"ema": 0.9, "clip": 0.5, "weight_decay": 0.1},
    ),
    "gru": ({"cell": "gru", **DROPOUTS}, {"ema": 0.5, "from_scratch": True}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stops", [[1], [3, 5, 9], [8]])
def test_interrupted_training_equals_uninterrupted(case: str, stops: list[int]) -> None:
    lm, options = CASES[case]
    options = {"lm": lm, "epochs": 2.0, "evaluations": 4, **options}
    whole = make(**options)
    whole.run()

    recorder = Recorder()
    part = make(reporter=recorder, **options)
    for number, stop in enumerate(stops):

        def ask(step: int, stop: int = stop, part: Tuner = part) -> None:
            part.stop_requested = step >= stop

        recorder.at = ask
        part.run()
        assert part.progress.step == stop
        kept = travel(part)
        # Another process: other weights, other generators.
        part = make(reporter=recorder, seed=100 + number, **options)
        part.restore(*kept)
    recorder.at = None
    part.run()

    wanted, wanted_tensors = whole.state()
    found, found_tensors = part.state()
    for state in (wanted, found):
        state["progress"].pop("seconds")
    assert found == wanted
    assert found_tensors.keys() == wanted_tensors.keys()
    for group in wanted_tensors:
        assert same(found_tensors[group], wanted_tensors[group]), group
    assert same(part.best, whole.best)
