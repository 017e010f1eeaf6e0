"""Keyword options find the configuration that they belong to."""

from __future__ import annotations

import dataclasses

import pytest

from chargen.errors import ConfigError
from chargen.lm.config import ModelConfig, TrainConfig
from chargen.options import split_options
from chargen.sampling.config import SamplingConfig
from chargen.text.config import CorpusConfig


def test_each_option_goes_to_its_owner() -> None:
    train, model, corpus = split_options(
        {"minutes": 2, "hidden_size": 64, "level": "byte"}, TrainConfig, ModelConfig, CorpusConfig
    )
    assert train == TrainConfig(minutes=2)
    assert model == ModelConfig(hidden_size=64)
    assert corpus == CorpusConfig(level="byte")


def test_no_options_are_the_defaults() -> None:
    assert split_options({}, SamplingConfig) == (SamplingConfig(),)
    assert split_options({}) == ()


def test_a_mistyped_option_gets_advice() -> None:
    with pytest.raises(ConfigError, match="'hiden_size'; did you mean hidden_size"):
        split_options({"hiden_size": 3}, TrainConfig, ModelConfig)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no option 'zzzzzz'$"):
        split_options({"zzzzzz": 3}, TrainConfig)


def test_values_are_validated() -> None:
    with pytest.raises(ConfigError, match="--hidden-size"):
        split_options({"hidden_size": 0}, TrainConfig, ModelConfig)


def test_no_option_belongs_to_two_of_the_configurations_of_a_command() -> None:
    names = [
        field.name
        for config in (TrainConfig, ModelConfig, CorpusConfig)
        for field in dataclasses.fields(config)
    ]
    assert len(names) == len(set(names))
