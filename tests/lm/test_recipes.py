"""What is left open is chosen so that it works, the same way each time."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.errors import ConfigError
from chargen.lm import recipes
from chargen.lm.batching import Streams
from chargen.lm.cells import CELLS
from chargen.lm.config import MAX_BUDGET, ModelConfig, TrainConfig
from chargen.lm.recipes import Plan, flops_per_character, plan

MODEL = ModelConfig(vocabulary_size=65)

characters = st.one_of(st.integers(64, 5000), st.integers(64, 10**9))
speeds = st.floats(1e8, 1e15)
budgets = st.one_of(
    st.builds(lambda n: {"epochs": n}, st.floats(1e-4, 1e4)),
    st.builds(lambda n: {"steps": n}, st.integers(1, 10**7)),
    st.builds(lambda n: {"minutes": n}, st.floats(1e-3, 1e5)),
    st.just({}),
)
quick = settings(max_examples=150, deadline=None, derandomize=True)


def make(budget: dict[str, Any], count: int, speed: float = 1e11, **model: Any) -> Plan:
    return plan(replace(MODEL, **model), TrainConfig(**budget), count, speed)


@quick
@given(budgets, characters, speeds)
def test_everything_is_chosen_and_fits_the_text(
    budget: dict[str, Any], count: int, speed: float
) -> None:
    made = make(budget, count, speed)
    for name, value in vars(made.model).items():
        assert value is not None, name
    batch, window = made.train.batch_size, made.train.window
    assert batch is not None
    assert window is not None
    assert batch >= 1
    assert window >= 2
    assert batch * window <= count - 1  # a window fits into each stream
    assert made.characters_read > 0
    assert made.evaluation_characters >= 10_000
    for name in ("learning_rate", "weight_decay", "ema", "eval_every"):
        assert getattr(made.train, name) is not None, name
    assert made.train.eval_every is not None
    assert made.train.eval_every >= 1
    assert sum(getattr(made.train, n) is not None for n in ("minutes", "epochs", "steps")) == 1
    assert made.reasons
    assert all(made.reasons)


@quick
@given(
    st.integers(1, 10**7),
    characters,
    st.one_of(st.none(), st.integers(1, 300), st.just(10**300)),
    st.one_of(st.none(), st.integers(2, 600), st.just(10**300)),
)
def test_what_a_number_of_steps_reads_is_told_as_it_is(
    steps: int, count: int, batch_size: int | None, window: int | None
) -> None:
    made = plan(MODEL, TrainConfig(steps=steps, batch_size=batch_size, window=window), count)
    batch, time_steps = made.train.batch_size, made.train.window
    assert batch is not None
    assert time_steps is not None
    assert made.characters_read == steps * batch * time_steps
    read = make({"epochs": made.characters_read / count}, count)
    assert made.model.dropout == read.model.dropout  # by the passes that there are


def test_the_largest_budgets_have_a_plan() -> None:
    largest = math.nextafter(MAX_BUDGET, 0)
    for budget in ({"minutes": largest}, {"epochs": largest}, {"steps": MAX_BUDGET - 1}):
        assert make(budget, 10**12).train.eval_every
    for name in ("minutes", "epochs", "steps"):
        with pytest.raises(ConfigError, match=f"--{name} must be below"):
            TrainConfig(**{name: MAX_BUDGET})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(budgets, st.integers(64, 3000))
def test_small_texts_can_be_read_with_the_plan(budget: dict[str, Any], count: int) -> None:
    train = make(budget, count).train
    assert train.batch_size is not None
    assert train.window is not None
    streams = Streams(np.zeros(count, np.uint8), train.batch_size, train.window, 0)
    assert streams.window == train.window
    assert streams.next().inputs.shape == (train.window, train.batch_size)


@quick
@given(
    st.one_of(
        st.builds(lambda n: {"epochs": n}, st.floats(1e-4, 1e4)),
        st.builds(lambda n: {"steps": n}, st.integers(1, 10**7)),
    ),
    characters,
    speeds,
    speeds,
)
def test_a_plan_for_epochs_or_steps_is_the_same_everywhere(
    budget: dict[str, Any], count: int, one: float, other: float
) -> None:
    assert make(budget, count, one) == make(budget, count, other)
    assert make(budget, count, one) == plan(MODEL, TrainConfig(**budget), count)


@quick
@given(characters, speeds, st.floats(1e-3, 1e4), st.floats(1, 1e3))
def test_a_longer_budget_never_chooses_a_smaller_model(
    count: int, speed: float, amount: float, times: float
) -> None:
    for name, scale in (("minutes", 1.0), ("epochs", 1.0), ("steps", 1000.0)):
        short, long = amount * scale, amount * scale * times
        if name == "steps":
            short, long = max(1, int(short)), max(1, int(long))
        first = make({name: short}, count, speed)
        second = make({name: long}, count, speed)
        assert first.model.hidden_size is not None
        assert second.model.hidden_size is not None
        assert second.model.hidden_size >= first.model.hidden_size
        # A larger model may read less in the longer time.
        if second.model.hidden_size == first.model.hidden_size:
            assert second.characters_read >= first.characters_read


@quick
@given(characters, st.floats(1e9, 1e14), st.floats(1, 1e4), st.floats(0.01, 1e3))
def test_a_faster_machine_never_chooses_a_smaller_model(
    count: int, speed: float, times: float, minutes: float
) -> None:
    slow = make({"minutes": minutes}, count, speed).model.hidden_size
    fast = make({"minutes": minutes}, count, speed * times).model.hidden_size
    assert slow is not None
    assert fast is not None
    assert fast >= slow


def test_more_passes_never_mean_less_dropout() -> None:
    rates = [make({"epochs": n}, 1_000_000).model for n in (0.5, 1, 2, 5, 10, 20, 50)]
    for name in ("dropout", "embedding_dropout", "weight_dropout"):
        values = [getattr(model, name) for model in rates]
        assert values == sorted(values)
    assert rates[0].dropout == 0


user_model = st.fixed_dictionaries(
    {},
    optional={
        "cell": st.sampled_from(tuple(CELLS)),
        "hidden_size": st.integers(1, 3000),
        "num_layers": st.integers(1, 4),
        "embedding_size": st.integers(1, 500),
        "dropout": st.floats(0, 0.9),
        "embedding_dropout": st.floats(0, 0.9),
        "weight_dropout": st.floats(0, 0.9),
        "variational": st.booleans(),
        "tied": st.booleans(),
        "orthogonal": st.booleans(),
        "direction": st.sampled_from(["forward", "backward"]),
    },
)
user_train = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 100),
        "batch_size": st.integers(1, 300),
        "window": st.integers(2, 600),
        "window_jitter": st.booleans(),
        "learning_rate": st.floats(1e-6, 1),
        "warmup_steps": st.integers(0, 1000),
        "weight_decay": st.floats(0, 1),
        "clip": st.floats(0, 10),
        "ema": st.floats(0, 0.9999),
        "patience": st.integers(1, 10),
        "eval_every": st.integers(1, 10_000),
        "checkpoint_every": st.integers(1, 10_000),
        "samples": st.booleans(),
    },
)


@quick
@given(user_model, user_train, budgets, st.integers(200_000, 10**9))
def test_what_the_user_says_holds(
    model: dict[str, Any], train: dict[str, Any], budget: dict[str, Any], count: int
) -> None:
    # 300 streams of 600 fit into 200,000 characters: nothing forces another choice.
    made = plan(replace(MODEL, **model), TrainConfig(**train, **budget), count, 1e11)
    for config, said in ((made.model, model), (made.train, train | budget)):
        for name, value in said.items():
            assert getattr(config, name) == value, name


@quick
@given(user_model, user_train, budgets, st.integers(64, 3000))
def test_a_text_that_is_too_short_overrides_only_batch_and_window(
    model: dict[str, Any], train: dict[str, Any], budget: dict[str, Any], count: int
) -> None:
    made = plan(replace(MODEL, **model), TrainConfig(**train, **budget), count, 1e11)
    for config, said in ((made.model, model), (made.train, train | budget)):
        for name, value in said.items():
            if name not in ("batch_size", "window"):
                assert getattr(config, name) == value, name
    batch, window = made.train.batch_size, made.train.window
    assert batch is not None
    assert window is not None
    if train.get("batch_size", 0) <= count // 4:
        assert batch == train.get("batch_size", batch)
        if window != train.get("window", window):
            assert batch * train["window"] > count - 1
            told = f"window {window}: the text is too short for {train['window']}"
            assert told in made.reasons
    else:
        assert any("too short" in reason for reason in made.reasons)
    assert batch * window <= count - 1


@pytest.mark.parametrize(("epochs", "told"), [(0.04, "0.04"), (1.52, "1.5"), (9.4, "9.4")])
def test_a_part_of_a_pass_is_not_called_none(epochs: float, told: str) -> None:
    assert any(f"is read {told} times" in r for r in make({"epochs": epochs}, 1_000_000).reasons)


@pytest.mark.parametrize("epochs", [0.1, 3, 30, 300])
def test_asking_for_the_size_that_would_be_chosen_changes_nothing(epochs: float) -> None:
    chosen = make({"epochs": epochs}, 1_000_000)
    asked = make({"epochs": epochs}, 1_000_000, hidden_size=chosen.model.hidden_size)
    assert asked.model == chosen.model
    assert asked.train == chosen.train


def test_warm_up_is_part_of_a_short_run() -> None:
    warmup = make({"steps": 100}, 1_000_000).train.warmup_steps
    assert warmup is not None
    assert warmup <= 10


def test_tinyshakespeare_gets_a_model_within_its_limit() -> None:
    made = make({"epochs": 10}, 1_003_854)
    assert made.model.hidden_size == 512
    assert made.model.num_layers == 1
    hidden, embedding = made.model.hidden_size, made.model.embedding_size
    assert embedding is not None
    parameters = 65 * embedding + 4 * hidden * (embedding + hidden + 2) + 65 * (hidden + 1)
    assert parameters <= 1_500_000


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_operations_are_six_for_each_weight_of_a_product(cell: str, gates: int) -> None:
    sizes = ModelConfig(
        vocabulary_size=10, cell=cell, hidden_size=7, embedding_size=3, num_layers=2
    )
    recurrent = gates * 7 * (3 + 7) + gates * 7 * (7 + 7)
    assert flops_per_character(sizes) == 6 * (recurrent + 7 * 10)
    assert flops_per_character(replace(sizes, tied=True)) == 6 * (recurrent + 7 * 3 + 3 * 10)


def test_plans_hold_every_field_as_json_would() -> None:
    made = make({"epochs": 1}, 10_000)
    for config in (made.model, made.train):
        for field in fields(config):
            value = getattr(config, field.name)
            assert value is None or isinstance(value, bool | int | float | str), field.name


@quick
@given(characters, speeds, st.floats(1e-3, 1e4))
def test_networks_are_added_where_one_would_read_the_text_too_often(
    count: int, speed: float, minutes: float
) -> None:
    made = make({"minutes": minutes}, count, speed)
    networks = made.model.num_networks
    assert 1 <= networks <= recipes.LARGEST_ENSEMBLE
    passes = made.characters_read / count
    if networks > 1:
        # Each still reads it about as often as pays, and together as much as one would alone.
        size = made.model.hidden_size
        usual = make({"minutes": minutes}, count, speed, ensemble=1).model.hidden_size
        useful = recipes.passes_before_ensemble(count)
        if size == usual:
            assert passes >= 0.7 * useful
        else:
            assert size > usual
            assert networks == recipes.LARGEST_ENSEMBLE
            assert passes >= max(5, 0.4 * useful)
        alone = make({"minutes": minutes}, count, speed, hidden_size=size, ensemble=1)
        assert passes * networks == pytest.approx(alone.characters_read / count)
    for other in ({"steps": 10_000}, {"epochs": 1000}):
        assert make(other, count).model.num_networks == 1


def test_ten_minutes_on_a_megabyte_are_for_two_networks_and_an_hour_for_more() -> None:
    speed = 2.5e11  # of two cores of an ordinary processor
    chosen = [make({"minutes": n}, 1_000_000, speed).model for n in (1, 3, 10, 30, 60, 120)]
    assert [model.num_networks for model in chosen] == [1, 1, 2, 6, 8, 8]
    assert [model.hidden_size for model in chosen] == [256, 512, 512, 512, 512, 768]
    assert make({"minutes": 60}, 100_000_000, speed).model.num_networks == 1
