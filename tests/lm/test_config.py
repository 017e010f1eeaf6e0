"""Settings that cannot work are refused with the option's name."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.errors import ConfigError
from chargen.lm.config import ModelConfig, TrainConfig

quick = settings(max_examples=60, deadline=None, derandomize=True)

WHOLE = [
    *((ModelConfig, n, 1) for n in ("hidden_size", "num_layers", "embedding_size")),
    *(
        (TrainConfig, n, 1)
        for n in ("steps", "batch_size", "eval_every", "checkpoint_every", "patience", "threads")
    ),
    (TrainConfig, "window", 2),
    (TrainConfig, "warmup_steps", 0),
    (TrainConfig, "seed", 0),
]
ABOVE_ZERO = [(TrainConfig, name) for name in ("minutes", "epochs", "learning_rate")]
NOT_NEGATIVE = [(TrainConfig, name) for name in ("weight_decay", "clip", "ema")]
RATES = [(ModelConfig, name) for name in ("dropout", "embedding_dropout", "weight_dropout")]
NUMBERS = [(c, n) for c, n, _ in WHOLE] + ABOVE_ZERO + NOT_NEGATIVE + RATES


def refused(config: type, name: str, value: Any) -> None:
    option = "--" + name.replace("_", "-")
    with pytest.raises(ConfigError) as caught:
        config(**{name: value})
    assert option in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, "3", True, [1]])
@pytest.mark.parametrize(("config", "name"), NUMBERS)
def test_no_number_or_negative(config: type, name: str, value: Any) -> None:
    refused(config, name, value)


@pytest.mark.parametrize(("config", "name", "low"), WHOLE)
def test_whole_numbers(config: type, name: str, low: int) -> None:
    refused(config, name, low - 1)
    refused(config, name, low + 0.5)
    assert getattr(config(**{name: low}), name) == low


@pytest.mark.parametrize(("config", "name"), ABOVE_ZERO)
def test_zero_of_what_must_be_above_it(config: type, name: str) -> None:
    refused(config, name, 0)
    refused(config, name, -0.0)
    assert getattr(config(**{name: 1e-9}), name) == 1e-9


@pytest.mark.parametrize(("config", "name"), [*RATES, (TrainConfig, "ema")])
def test_shares_lie_below_one(config: type, name: str) -> None:
    refused(config, name, 1)
    refused(config, name, 1.5)
    assert getattr(config(**{name: 0}), name) == 0
    assert getattr(config(**{name: 0.999}), name) == 0.999


@quick
@given(
    st.sampled_from(NUMBERS),
    st.one_of(st.floats(max_value=-1e-9), st.integers(max_value=-1), st.just(math.nan), st.text()),
)
def test_any_negative_or_text(option: tuple[type, str], value: Any) -> None:
    refused(*option, value)


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (ModelConfig, "cell", "transformer"),
        (ModelConfig, "cell", "LSTM"),
        (ModelConfig, "direction", "sideways"),
        (TrainConfig, "precision", "float16"),
    ],
)
def test_choices_are_listed(config: type, name: str, value: str) -> None:
    refused(config, name, value)
    with pytest.raises(ConfigError, match=r"one of .+, .+; got"):
        config(**{name: value})


@pytest.mark.parametrize(
    ("first", "second"), [("minutes", "epochs"), ("minutes", "steps"), ("epochs", "steps")]
)
def test_one_budget(first: str, second: str) -> None:
    with pytest.raises(ConfigError, match=f"--{first} and --{second}"):
        TrainConfig(**{first: 1, second: 1})


@pytest.mark.parametrize("config", [ModelConfig, TrainConfig])
def test_frozen_with_help_for_every_option(config: type) -> None:
    instance = config()
    for field in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(instance, field.name, None)
        if field.name != "vocabulary_size":  # the corpus decides it, not a person
            assert field.metadata["help"], field.name


def test_seeds_are_what_torch_takes() -> None:
    assert TrainConfig(seed=2**63 - 1).seed == 2**63 - 1
    refused(TrainConfig, "seed", 2**63)
