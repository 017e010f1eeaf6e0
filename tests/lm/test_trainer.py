"""The loop: it learns, stops, skips what is no number, and goes on as if never interrupted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from chargen.errors import OutOfMemoryError, TrainingError
from chargen.lm.config import ModelConfig, TrainConfig
from chargen.lm.evaluation import log_probs, mean_nats
from chargen.lm.model import CharLM
from chargen.lm.recipes import Plan, plan
from chargen.training import language_modelling, loop
from chargen.training.language_modelling import LanguageModelling
from chargen.training.loop import MAX_SKIPPED_STEPS, Loop
from chargen.training.reporting import Log, Reporter
from chargen.training.task import Evaluation, Progress, Settings, Task

Trainer = Loop[LanguageModelling]

SENTENCE = np.frombuffer(b"the quick brown fox jumps over the lazy dog. ", np.uint8) - 32
V = 96
RANDOM = np.random.default_rng(0).integers(0, V, 2000).astype(np.uint8)


def planned(model: dict[str, Any], train: dict[str, Any], count: int) -> Plan:
    sizes: dict[str, Any] = {"hidden_size": 12, "num_layers": 1, "embedding_size": 6}
    rates: dict[str, Any] = {"dropout": 0.0, "embedding_dropout": 0.0, "weight_dropout": 0.0}
    options: dict[str, Any] = {"batch_size": 2, "window": 8, "warmup_steps": 0, "samples": False}
    return plan(
        ModelConfig(vocabulary_size=V, **(sizes | rates | model)),
        TrainConfig(**(options | train)),
        count,
        1e11,
    )


class Ears(Reporter):
    """Keeps what it hears; `at` runs after each step."""

    def __init__(self, at: Callable[[int], object] | None = None) -> None:
        self.at = at
        self.progress: list[float] = []
        self.steps: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []
        self.texts: list[str | None] = []

    def step(self, progress: float, metrics: Mapping[str, Any]) -> None:
        self.progress.append(progress)
        self.steps.append(dict(metrics))
        if self.at:
            self.at(metrics["step"])

    def evaluated(self, metrics: Mapping[str, Any], sample: str | None) -> None:
        self.evaluations.append(dict(metrics))
        self.texts.append(sample)


def make(
    *,
    model: dict[str, Any] | None = None,
    train_ids: np.ndarray = RANDOM,
    valid_ids: np.ndarray = RANDOM[:300],
    reporter: Reporter | None = None,
    sample: Callable[[CharLM], str] | None = None,
    saved: list[int] | None = None,
    seed: int = 0,
    **train: Any,
) -> Trainer:
    made = planned(model or {}, train, len(train_ids))
    torch.manual_seed(seed)

    def save(trainer: Trainer) -> None:
        if saved is not None:
            saved.append(trainer.progress.step)

    task = LanguageModelling(CharLM(made.model), made, train_ids, valid_ids, 0, "float32", sample)
    return Loop(task, save, reporter)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.task.model.state_dict().items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_overfits_a_sentence(cell: str) -> None:
    ids = np.tile(SENTENCE, 12)
    model = {"cell": cell, "hidden_size": 48, "embedding_size": 24}
    trainer = make(
        model=model,
        train_ids=ids,
        valid_ids=ids,
        steps=120,
        learning_rate=0.02,
        batch_size=4,
        window=24,
        eval_every=120,
    )
    trainer.run()
    assert trainer.task.progress.best_nats is not None
    assert trainer.task.progress.best_nats < 0.2
    scores = log_probs(trainer.task.model, ids, 0)
    assert -scores[len(SENTENCE) :].mean() < 0.1
    assert trainer.progress.step == 120
    assert trainer.progress.characters == 120 * 4 * 24


def test_a_step_tells_what_it_did() -> None:
    trainer = make(steps=5, clip=1e-3, learning_rate=0.01)
    row = trainer.step(trainer.task.streams.next())
    assert row["step"] == 1
    assert row["epoch"] == pytest.approx(8 / 1000, rel=0.01)  # passes, of two streams of 1,000
    assert row["characters"] == 2 * 8
    assert row["loss"] == pytest.approx(math.log(V), abs=0.7)
    assert row["gradient_norm"] > 1e-3
    assert row["clipped_share"] == 1
    assert row["skipped"] == 0
    assert row["learning_rate"] == pytest.approx(0.01)
    trainer.progress.seconds = 1 / 3
    row = trainer.step(trainer.task.streams.next())
    assert row["clipped_share"] == 1
    assert row["seconds"] == 0.333
    assert row.keys() == {
        *("step", "epoch", "characters", "seconds", "loss", "learning_rate", "gradient_norm"),
        *("clipped_share", "skipped"),
    }


def test_labels_do_not_count_in_the_loss_of_a_step() -> None:
    ids = np.tile([V - 1, 1, 2, 3], 100).astype(np.uint8)  # a label before three symbols
    made = planned({}, {"steps": 1}, len(ids))
    model = CharLM(made.model)
    for parameter in model.output.parameters():
        nn.init.zeros_(parameter)
    task = LanguageModelling(model, made, ids, ids[:0], 0, "float32", first_label_id=V - 1)
    row = Loop(task, lambda _: None).step(task.next_batch())
    assert row["loss"] == pytest.approx(math.log(V))


def test_steps_without_clipping_are_not_counted_as_clipped() -> None:
    for clip in (0.0, 1e9):
        trainer = make(steps=3, clip=clip)
        trainer.run()
        assert trainer.progress.clipped == 0


def test_state_is_carried_and_reset_where_an_epoch_starts() -> None:
    trainer = make(train_ids=RANDOM[:120], steps=100)
    seen = []
    forward = trainer.task.model.forward

    def spy(ids: Tensor, state: tuple[Tensor, ...]) -> Any:
        seen.append(bool(state[0].any()))
        assert not state[0].requires_grad
        return forward(ids, state)

    trainer.task.model.forward = spy  # type: ignore[method-assign]
    fresh = []
    for _ in range(20):
        window = trainer.task.streams.next()
        fresh.append(window.starts_epoch)
        trainer.step(window)
    assert seen == [not starts for starts in fresh]
    assert sum(fresh) > 1


def test_rows_are_json_and_the_rate_falls_to_its_end() -> None:
    ears = Ears()
    trainer = make(steps=40, eval_every=10, learning_rate=0.01, reporter=ears)
    trainer.run()
    rows = [json.loads(row) for row in trainer.log.lines]
    assert [row["step"] for row in rows if "loss" in row] == [10, 20, 30, 40]
    assert [row["step"] for row in rows if "valid_nats" in row] == [10, 20, 30, 40]
    assert [row["step"] for row in rows if "final_nats" in row] == [40]
    rates = [row["learning_rate"] for row in ears.steps]
    assert rates[0] == pytest.approx(0.01)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.01 * 0.01
    assert ears.progress == sorted(ears.progress)
    assert ears.progress[-1] == 1


def test_jitter_scales_the_rate_with_the_length() -> None:
    trainer = make(steps=50, window=32, window_jitter=True, learning_rate=0.01)
    for _ in range(10):
        window = trainer.task.streams.next()
        full = 0.01 * 0.5 * (1 + math.cos(math.pi * trainer.share_done))
        row = trainer.step(window)
        assert row["learning_rate"] == pytest.approx(full * len(window.inputs) / 32)


# ---------------------------------------------------------------- budgets and stopping


def test_a_budget_in_steps_ends() -> None:
    trainer = make(steps=7)
    trainer.run()
    assert trainer.progress.step == 7
    assert trainer.finished


def test_a_budget_in_epochs_ends() -> None:
    trainer = make(epochs=2.5, train_ids=RANDOM[:400])
    trainer.run()
    per_epoch = 399 // 2 // 8
    assert trainer.progress.step == round(2.5 * per_epoch)
    assert trainer.task.streams.epoch == 2


def test_a_budget_in_minutes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(clock)))
    ears = Ears()
    trainer = make(minutes=1, eval_every=10**6, reporter=ears)
    trainer.run()
    assert 20 < trainer.progress.step < 80
    assert trainer.progress.seconds >= 60
    assert ears.steps[-1]["learning_rate"] < 0.1 * ears.steps[0]["learning_rate"]


def test_a_stop_that_is_asked_for_ends_after_the_step_and_saves() -> None:
    saved: list[int] = []
    ears = Ears()
    trainer = make(steps=50, reporter=ears, saved=saved, eval_every=10)

    def stop(step: int) -> None:
        trainer.stop_requested = step == 5

    ears.at = stop
    trainer.run()
    assert trainer.progress.step == 5
    assert saved == [5]
    assert not trainer.finished
    assert ears.evaluations == []


def test_patience_stops() -> None:
    # Training makes the validation text, which is of one symbol never trained on, less likely.
    valid = np.full(300, 95, np.uint8)
    train = np.tile(SENTENCE, 12)
    ears = Ears()
    trainer = make(
        train_ids=train, valid_ids=valid, steps=1000, eval_every=5, patience=3, reporter=ears
    )
    trainer.run()
    assert trainer.finished
    assert trainer.progress.best_step == 5
    # No weights are measured twice, and the last are always.
    assert [row["step"] for row in ears.evaluations] == [5, 10, 15, 20]
    assert trainer.progress.step == 20


def test_the_best_is_kept_and_the_last_goes_on() -> None:
    scores = {10: 3.0, 20: 2.0, 30: 2.5, 40: 2.6}
    trainer = make(steps=40, eval_every=10)
    kept: dict[int, dict[str, Tensor]] = {}
    with pytest.MonkeyPatch.context() as patch:

        def fake(*_: object) -> float:
            kept.setdefault(trainer.progress.step, weights(trainer))
            return scores[trainer.progress.step]

        patch.setattr(language_modelling, "mean_nats", fake)
        trainer.run()
    assert trainer.progress.best_step == 20
    assert trainer.task.progress.best_nats == 2.0
    assert same(trainer.best, kept[20])
    assert not same(trainer.best, weights(trainer))


def test_evaluations_of_different_lengths_are_not_compared() -> None:
    # The end reads more validation text than the way there. Where that text is harder, the last
    # weights, the best on any text, must not lose to earlier ones for it.
    trainer = make(steps=40, eval_every=10, valid_ids=np.resize(RANDOM, 20_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plan, "evaluation_characters", 1000)

        def fake(model: CharLM, ids: np.ndarray, *_: object) -> float:
            return (1.0 if len(ids) <= 1000 else 2.0) - trainer.progress.step / 1000

        patch.setattr(language_modelling, "mean_nats", fake)
        trainer.run()
    assert trainer.progress.best_step == 40
    assert same(trainer.best, weights(trainer))


def test_without_validation_the_last_weights_are_the_best() -> None:
    ears = Ears()
    trainer = make(steps=20, eval_every=5, valid_ids=RANDOM[:0], reporter=ears, patience=2)
    trainer.run()
    assert trainer.progress.step == 20
    assert same(trainer.best, weights(trainer))
    assert trainer.task.progress.best_nats is None
    assert all("valid_nats" not in row for row in ears.evaluations)


def test_without_validation_spoilt_weights_are_not_kept() -> None:
    ears = Ears()
    trainer = make(
        steps=6, eval_every=1, valid_ids=RANDOM[:0], learning_rate=1e38, clip=0.0, reporter=ears
    )
    with pytest.raises(TrainingError, match="was not a finite number at any evaluation"):
        trainer.run()
    assert trainer.best == {}
    assert ears.texts == [None] * 6


def test_checkpoints_at_their_interval() -> None:
    saved: list[int] = []
    trainer = make(steps=20, eval_every=100, checkpoint_every=6, saved=saved)
    trainer.run()
    assert saved[:3] == [6, 12, 18]
    assert saved[-1] == 20


def test_a_checkpoint_that_is_finished_has_had_its_last_evaluation() -> None:
    # Nothing would be left to do on resuming, so it must not be written before.
    evaluated: list[tuple[int, int]] = []
    ears = Ears()
    trainer = make(steps=20, eval_every=100, checkpoint_every=5, reporter=ears)
    trainer.save = lambda t: evaluated.append((t.progress.step, len(ears.evaluations)))
    trainer.run()
    assert [count for step, count in evaluated if step == 20] == [1]


def test_a_checkpoint_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: 5.0 * next(clock))
    saved: list[int] = []
    make(steps=30, eval_every=100, saved=saved).run()
    assert saved == [12, 24, 30]


def test_samples_are_drawn_from_the_evaluated_model() -> None:
    modes: list[bool] = []

    def sample(model: CharLM) -> str:
        modes.append(model.training)
        return "text"

    ears = Ears()
    trainer = make(steps=10, eval_every=5, reporter=ears, sample=sample)
    trainer.run()
    assert ears.texts == ["text", "text"]
    assert modes == [False, False]
    assert trainer.task.model.training


# ---------------------------------------------------------------- evaluation disturbs nothing


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_evaluations_disturb_neither_weights_nor_generators(ema: float) -> None:
    model = {"dropout": 0.3, "weight_dropout": 0.2, "embedding_dropout": 0.1}
    results = []
    for every in (3, 1000):
        trainer = make(model=model, steps=30, eval_every=every, ema=ema, window_jitter=True, seed=1)
        trainer.run()
        _, tensors = trainer.state()
        results.append(tensors)
    often, never = results
    assert often.keys() == never.keys()
    for group in often:
        assert same(often[group], never[group]), group


def test_the_average_is_what_is_evaluated_and_kept() -> None:
    trainer = make(steps=30, eval_every=30, ema=0.9)
    trainer.run()
    assert trainer.average is not None
    average = trainer.average.average
    assert all(torch.equal(trainer.best[name], value) for name, value in average.items())
    assert not same(trainer.best, weights(trainer))
    trainer.task.model.load_state_dict(trainer.best)
    nats = mean_nats(trainer.task.model, trainer.task.valid_ids, 0)
    assert trainer.task.progress.best_nats == pytest.approx(nats, abs=1e-3)


# ---------------------------------------------------------------- going on


CASES = {
    "plain": ({}, {}),
    "everything": (
        {
            "num_layers": 2,
            "dropout": 0.3,
            "weight_dropout": 0.3,
            "embedding_dropout": 0.1,
            "variational": True,
            "tied": True,
        },
        {"ema": 0.9, "window_jitter": True, "clip": 0.5, "warmup_steps": 5},
    ),
    "gru": ({"cell": "gru", "dropout": 0.2}, {"weight_decay": 0.1, "window_jitter": True}),
}


def travel(trainer: Trainer) -> tuple[Any, dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """The training state as it comes back from files."""
    document, tensors = trainer.state()
    best = {name: value.clone() for name, value in trainer.best.items()}
    return (
        json.loads(json.dumps(document)),
        {name: read_tensors(write_tensors(group)) for name, group in tensors.items()},
        best,
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stops", [[1], [7, 8, 23], [10, 20], [29]])
def test_interrupted_training_equals_uninterrupted(case: str, stops: list[int]) -> None:
    model, train = CASES[case]
    options: dict[str, Any] = {
        "model": model,
        "steps": 30,
        "eval_every": 10,
        "train_ids": RANDOM[:250],
        **train,
    }
    whole = make(**options)
    whole.run()

    ears = Ears()
    part = make(reporter=ears, **options)
    for number, stop in enumerate(stops):

        def ask(step: int, stop: int = stop, part: Trainer = part) -> None:
            part.stop_requested = step >= stop

        ears.at = ask
        part.run()
        assert part.progress.step == stop
        kept = travel(part)
        # Another process: other weights, other generators.
        part = make(reporter=ears, seed=100 + number, **options)
        part.restore(*kept)
    ears.at = None
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


def test_a_run_in_epochs_goes_on_exactly() -> None:
    options: dict[str, Any] = {"epochs": 3.0, "train_ids": RANDOM[:250], "eval_every": 7}
    whole = make(**options)
    whole.run()
    ears = Ears()
    part = make(reporter=ears, **options)

    def ask(step: int) -> None:
        part.stop_requested = step >= 17

    ears.at = ask
    part.run()
    kept = travel(part)
    part = make(seed=9, **options)
    part.restore(*kept)
    part.run()
    assert part.progress.step == whole.progress.step
    assert same(weights(part), weights(whole))


def test_a_run_that_was_never_evaluated_has_no_best_weights_when_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: dict[str, Any] = {"steps": 20, "eval_every": 10}
    ears = Ears()
    part = make(reporter=ears, **options)
    ears.at = lambda step: setattr(part, "stop_requested", step == 3)
    part.run()
    document, tensors, _ = travel(part)
    gone_on = make(seed=9, **options)
    gone_on.restore(document, tensors, weights(part))  # a checkpoint has some in any case
    assert gone_on.best == {}
    assert gone_on.saved_step == 3
    monkeypatch.setattr(language_modelling, "mean_nats", lambda *_: math.nan)
    with pytest.raises(
        TrainingError, match="was not a finite number at any evaluation [(]step 20[)]"
    ):
        gone_on.run()


def test_patience_goes_on_counting() -> None:
    valid, train = np.full(300, 95, np.uint8), np.tile(SENTENCE, 12)
    options: dict[str, Any] = {
        "train_ids": train,
        "valid_ids": valid,
        "steps": 1000,
        "eval_every": 5,
        "patience": 3,
    }
    ears = Ears()
    part = make(reporter=ears, **options)

    def ask(step: int) -> None:
        part.stop_requested = step >= 12

    ears.at = ask
    part.run()
    kept = travel(part)
    part = make(seed=9, **options)
    part.restore(*kept)
    part.run()
    assert part.progress.step == 20
    assert part.progress.best_step == 5


# ---------------------------------------------------------------- losses that are no number


def spoil(trainer: Trainer, steps: set[int]) -> None:
    """Make the logits of these steps (counted from 1) not a number."""
    forward = trainer.task.model.forward

    def broken(ids: Tensor, state: tuple[Tensor, ...]) -> Any:
        logits, after = forward(ids, state)
        if trainer.task.model.training and trainer.progress.step + 1 in steps:
            logits, after = logits * math.nan, tuple(part * math.nan for part in after)
        return logits, after

    trainer.task.model.forward = broken  # type: ignore[method-assign]


def test_a_step_without_a_number_is_skipped_and_counted() -> None:
    ears = Ears()
    trainer = make(steps=20, eval_every=100, ema=0.5, reporter=ears)
    spoil(trainer, {4, 5, 11})
    before: dict[int, dict[str, Tensor]] = {}
    ears.at = lambda step: before.update({step: weights(trainer)})
    trainer.run()
    assert trainer.progress.step == 20
    assert trainer.progress.skipped == 3
    assert trainer.progress.skipped_in_row == 0
    assert same(before[3], before[4])
    assert same(before[3], before[5])
    assert not same(before[5], before[6])
    assert all(torch.isfinite(value).all() for value in weights(trainer).values())
    assert all(torch.isfinite(part).all() for part in trainer.task.hidden)
    assert trainer.average is not None
    assert all(torch.isfinite(value).all() for value in trainer.average.average.values())
    assert [row["skipped"] for row in ears.steps[:6]] == [0, 0, 0, 1, 2, 2]


def test_an_infinite_gradient_is_skipped_too() -> None:
    trainer = make(steps=5, eval_every=100)
    before = weights(trainer)
    trainer.task.model.output.weight.register_hook(lambda gradient: gradient * math.inf)
    trainer.step(trainer.task.streams.next())
    assert trainer.progress.skipped == 1
    assert same(before, weights(trainer))


def test_many_in_a_row_end_the_run_with_advice_and_the_best_is_kept() -> None:
    saved: list[int] = []
    trainer = make(steps=100, eval_every=5, checkpoint_every=10, saved=saved)
    spoil(trainer, set(range(13, 100)))
    with pytest.raises(TrainingError) as caught:
        trainer.run()
    assert trainer.progress.step == 12 + MAX_SKIPPED_STEPS
    assert trainer.progress.skipped_in_row == MAX_SKIPPED_STEPS == 10
    assert saved[0] == 10
    assert str(caught.value) == (
        "the loss was not a finite number for 10 steps in a row (step 22): try a smaller "
        f"--learning-rate than {trainer.settings.learning_rate:g}, or --precision float32; "
        "the last good checkpoint, step 20, is kept"
    )
    assert trainer.task.progress.best_nats is not None
    assert all(torch.isfinite(value).all() for value in trainer.best.values())
    assert all(torch.isfinite(value).all() for value in weights(trainer).values())


def test_nine_in_a_row_do_not() -> None:
    trainer = make(steps=40, eval_every=100)
    spoil(trainer, {*range(3, 12), *range(13, 22)})
    trainer.run()
    assert trainer.progress.skipped == 18


def test_the_error_says_where_there_is_no_checkpoint_yet() -> None:
    trainer = make(steps=100, eval_every=50)
    spoil(trainer, set(range(1, 100)))
    with pytest.raises(TrainingError, match="no checkpoint had been written"):
        trainer.run()


def test_an_evaluation_without_a_number_is_not_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {10: math.nan, 20: 2.0, 30: math.nan, 40: math.inf}
    trainer = make(steps=40, eval_every=10)
    monkeypatch.setattr(language_modelling, "mean_nats", lambda *_: scores[trainer.progress.step])
    trainer.run()
    assert trainer.progress.best_step == 20
    assert trainer.progress.stale == 2


# ---------------------------------------------------------------- any task


class Parabola(Task):
    """One number p, 1 in the beginning, whose loss is p^2: a step takes 0.2 p from it.

    Only the first evaluation finds weights to keep, and each changes a buffer.
    """

    def __init__(self, **settings: Any) -> None:
        self.config = {"budget": ("step", 10), **settings}
        self.model = nn.Module()
        self.model.p = nn.Parameter(torch.ones(()))
        self.model.register_buffer("steps", torch.zeros(()))
        self.optimizers = [torch.optim.SGD(self.model.parameters(), lr=0.1)]
        self.progress = Progress()
        self.told: list[Any] = []
        self.concluded: list[tuple[float, bool]] = []

    def settings(self) -> Settings:
        plain: dict[str, Any] = {"schedule": lambda *given: given, "learning_rate": 0.1}
        plain |= {"clip": 0.0, "ema": None, "patience": None, "checkpoint_every": None}
        return Settings(**{**plain, "eval_every": None, "evaluations": 4, **self.config})

    def next_batch(self) -> None:
        return None

    def loss(self, batch: Any, factor: Any) -> tuple[Tensor, dict[str, Any]]:
        self.told.append(factor)
        self.model.steps += 1
        return self.model.p**2, {}

    def skipped(self) -> None:
        pass

    def evaluate(self) -> Evaluation:
        self.model.steps += 100
        first = not self.progress.best_step
        return Evaluation({}, first, first)

    def conclude(self, best: dict[str, Tensor]) -> dict[str, Any]:
        assert torch.equal(best["p"], self.model.p)
        self.concluded.append((self.model.p.item(), self.model.training))
        return {"end": 1}

    def state(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        return {}, {}

    def restore(self, document: dict[str, Any], tensors: dict[str, dict[str, Tensor]]) -> None:
        pass


def test_a_task_is_told_how_far_it_is_and_learns_by_its_optimizer() -> None:
    task = Parabola()
    Loop(task, lambda _: None).run()
    assert task.told == [(k / 10, k) for k in range(10)]
    assert task.model.p.item() == pytest.approx(0.8**10)
    clipped = Loop(Parabola(clip=0.5), lambda _: None)
    rows = [clipped.step(None) for _ in range(3)]
    assert clipped.task.model.p.item() == pytest.approx(1 - 3 * 0.1 * 0.5)
    assert [row["gradient_norm"] for row in rows] == pytest.approx([2, 1.9, 1.8])


def test_evaluations_are_spread_over_the_budget() -> None:
    ears = Ears()
    Loop(Parabola(), lambda _: None, ears).run()
    assert [row["step"] for row in ears.evaluations] == [3, 5, 8, 10]
    Loop(Parabola(budget=("step", 1)), lambda _: None, ears).run()
    assert [row["step"] for row in ears.evaluations[4:]] == [1]


def test_evaluations_leave_buffers_and_the_end_is_told_of_the_best_weights() -> None:
    log = Log()
    trainer = Loop(Parabola(), lambda _: None, log=log)
    trainer.run()
    assert trainer.task.model.steps.item() == 10
    assert trainer.best["steps"].item() == 103
    ((p, training),) = trainer.task.concluded
    assert (p, training) == (pytest.approx(0.8**3), False)
    assert trainer.task.model.p.item() == pytest.approx(0.8**10)
    assert trainer.task.model.training
    assert json.loads(log.lines[-1]) == {"step": 10, "end": 1}
    trainer.progress.seconds = 1 / 3
    trainer.evaluate()
    assert json.loads(log.lines[-1]) == {"step": 10, "seconds": 0.333}


def test_a_run_goes_on_with_another_budget() -> None:
    trainer = Loop(Parabola(patience=2, eval_every=3), lambda _: None)
    trainer.run()
    assert (trainer.progress.step, trainer.progress.stale) == (9, 2)
    trainer.set_budget({"budget": ("step", 20), "eval_every": 30})
    assert trainer.progress.stale == 0
    trainer.run()
    assert trainer.progress.step == 20


def test_the_time_before_an_interruption_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.time, "perf_counter", lambda: 7.0)
    trainer = Loop(Parabola(), lambda _: None)
    trainer.progress.seconds = 100.0
    trainer.run()
    assert trainer.progress.seconds == 100.0


@pytest.mark.parametrize(
    ("every", "kept"),
    [(2, "the last good checkpoint, step 4, is kept"), (9, "no checkpoint had been written")],
)
def test_memory_that_runs_out_is_told_with_what_is_kept(every: int, kept: str) -> None:
    def fill(step: int) -> None:
        if step == 5:
            raise MemoryError

    trainer = Loop(Parabola(checkpoint_every=every), lambda _: None, Ears(fill))
    with pytest.raises(OutOfMemoryError, match=f"--batch-size or --window[)]; {kept}$"):
        trainer.run()
