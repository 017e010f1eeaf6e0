"""Every option stands once: what a field says is what is checked, offered and documented."""

from __future__ import annotations

import inspect
import itertools
import math
import runpy
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import chargen
from chargen.cli.groups import contexts
from chargen.cli.main import cli  # all commands, and with them all configurations
from chargen.cli.options import MachineConfig
from chargen.errors import ConfigError
from chargen.lm.config import MAX_BUDGET, ModelConfig, TrainConfig
from chargen.options import FieldType, Options, flag, split_options
from chargen.sampling.config import SamplingConfig
from chargen.sentiment.config import CompareConfig, ExamplesConfig, FinetuneConfig
from chargen.text.config import CorpusConfig, is_text_encoding


def below(config: type[Options]) -> set[type[Options]]:
    """The configurations that build on one."""
    return set(config.__subclasses__()).union(*map(below, config.__subclasses__()))


CONFIGS = sorted(below(Options), key=lambda config: config.__name__)
OPTIONS = [(config, *each) for config in CONFIGS for each in config.typed_fields()]
SHARED = ("device", "precision", "threads", "seed", "deterministic")
BESIDE: dict[str, dict[str, Any]] = {"CompareConfig": {"encoder": ("reviews",)}}
"""Other fields without which some of these cannot be."""
Owner = type[Options]


Test = Callable[[Owner, Field[Any], FieldType], None]


def every(which: Any) -> Callable[[Test], Any]:
    """For each configuration: every field of which this is true, one after the other."""

    def decorate(test: Test) -> Any:
        owners = {config for config, field, kind in OPTIONS if which(field.metadata, kind)}

        @pytest.mark.parametrize("config", sorted(owners, key=lambda owner: owner.__name__))
        def of_each(config: Owner) -> None:
            for field, kind in config.typed_fields():
                if which(field.metadata, kind):
                    test(config, field, kind)

        return of_each

    return decorate


def number(_facts: Any, kind: FieldType) -> bool:
    return kind.value_type in (int, float)


def text(facts: Any, kind: FieldType) -> bool:
    return kind.value_type is str and "choices" not in facts


def made(config: Owner, field: Field[Any], value: Any) -> Options:
    return config(**{**BESIDE.get(config.__name__, {}), field.name: value})


def refused(config: Owner, field: Field[Any], value: Any) -> str:
    """The sentence about a value that cannot work."""
    with pytest.raises(ConfigError) as caught:
        made(config, field, value)
    message = str(caught.value)
    assert message.startswith(f"{flag(field)} must ")
    assert "\n" not in message
    assert len(message) < 400
    assert caught.value.exit_code == 2
    return message


def accepted(config: Owner, field: Field[Any], value: Any) -> None:
    assert getattr(made(config, field, value), field.name) == value


def beside(bound: float, kind: FieldType, up: bool) -> float:
    """The nearest value above or below."""
    if kind.value_type is int:
        return bound + (1 if up else -1)
    return math.nextafter(bound, math.inf if up else -math.inf)


# ---------------------------------------------------------------- every field


def test_all_configurations_are_looked_at() -> None:
    public = {getattr(chargen, name) for name in chargen.__all__ if name.endswith("Config")}
    assert public < set(CONFIGS)


@every(number)
def test_what_is_no_number(config: Owner, field: Field[Any], kind: FieldType) -> None:
    for value in (math.nan, math.inf, -math.inf, 10**400, 10**5000, "3", True, [1], 1j):
        assert "must be a number, got " in refused(config, field, value)
    if kind.value_type is int:
        refused(config, field, field.metadata["low"] + 0.5)


@every(lambda _, kind: kind.value_type in (int, float, bool))
def test_numbers_of_numpy_are_numbers(config: Owner, field: Field[Any], kind: FieldType) -> None:
    if field.default not in (None, MISSING):
        value = np.array(field.default)[()]
        found = getattr(made(config, field, value), field.name)
        assert (found, type(found)) == (field.default, type(field.default))


@every(number)
def test_bounds(config: Owner, field: Field[Any], kind: FieldType) -> None:
    facts = field.metadata
    unbounded = field.name == "strength"  # steering goes both ways
    assert ("low" in facts) + ("above" in facts) == (not unbounded)
    for name, up, inside in (
        ("low", False, True),
        ("above", False, False),
        ("below", True, False),
        ("most", True, True),
    ):
        if name in facts:
            bound = facts[name]
            outer, inner = beside(bound, kind, up), beside(bound, kind, not up)
            words = {"low": "at least", "most": "at most"}.get(name, name)
            assert f"{words} {bound}, got {outer}" in refused(config, field, outer)
            accepted(config, field, inner)
            (accepted if inside else refused)(config, field, bound)


@every(lambda _facts, kind: kind.value_type is bool)
def test_flags(config: Owner, field: Field[Any], kind: FieldType) -> None:
    for value in (0, 1, "true", "", None, [True]):
        assert "must be true or false, got " in refused(config, field, value)
    for value in (True, False):
        accepted(config, field, value)


@every(lambda facts, _kind: "choices" in facts)
def test_choices(config: Owner, field: Field[Any], kind: FieldType) -> None:
    choices = field.metadata["choices"]
    for value in ("", "nonsense", choices[0].swapcase(), 3, [choices[0]], True):
        message = refused(config, field, value)
        assert all(choice in message for choice in choices)
    for choice in choices:
        accepted(config, field, choice)


@every(text)
def test_texts(config: Owner, field: Field[Any], kind: FieldType) -> None:
    for value in (3, b"x", True, ["x", 3]):
        refused(config, field, value)
    if not field.metadata.get("empty"):
        refused(config, field, "")
        refused(config, field, "" if not kind.multiple else ["x", ""])


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (CorpusConfig, "valid"),
        (FinetuneConfig, "valid"),
        (FinetuneConfig, "unlabelled"),
        (CompareConfig, "unlabelled"),
        (CompareConfig, "encoder"),
        (CompareConfig, "classifier"),
    ],
)
def test_a_path_may_be_a_path(config: Owner, name: str) -> None:
    path = Path("some", "path")
    others = BESIDE.get(config.__name__, {})
    expected = getattr(config(**{**others, name: str(path)}), name)
    for given in (path, [path]) if isinstance(expected, tuple) else (path,):
        assert getattr(config(**{**others, name: given}), name) == expected


@every(lambda _facts, kind: kind.multiple)
def test_several_are_a_tuple(config: Owner, field: Field[Any], kind: FieldType) -> None:
    for given in ("ab", ["ab"], ("ab",)):
        assert getattr(config(**{field.name: given}), field.name) == ("ab",)


@every(lambda _facts, _kind: True)
def test_nothing_is_only_what_may_be_left_open(
    config: Owner, field: Field[Any], kind: FieldType
) -> None:
    assert field.default is not MISSING
    assert (field.default is not None) or kind.optional
    if kind.optional:
        accepted(config, field, None)
    elif not kind.multiple:
        refused(config, field, None)


@pytest.mark.parametrize("config", CONFIGS)
def test_defaults_work_and_stay(config: Owner) -> None:
    made = config()
    for field in fields(config):
        with pytest.raises(FrozenInstanceError):
            setattr(made, field.name, None)


def test_all_but_what_the_data_or_an_earlier_version_decides_has_a_help() -> None:
    without = {
        f"{c.__name__}.{field.name}" for c, field, _ in OPTIONS if not field.metadata["help"]
    }
    data = {
        "ModelConfig.vocabulary_size",
        "NetworkConfig.num_classes",
        "CountsConfig.weight",  # the best one on held-out text
    }
    assert without == data | {"CorpusConfig.valid_of_each"}


@pytest.mark.parametrize(
    ("config", "values", "sentence"),
    [
        (TrainConfig, {"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        (TrainConfig, {"minutes": 0}, "--minutes must be above 0, got 0"),
        (TrainConfig, {"minutes": -0.0}, "--minutes must be above 0, got -0.0"),
        (TrainConfig, {"clip": math.nan}, "--clip must be a number, got nan"),
        (TrainConfig, {"seed": 0.5}, "--seed must be a whole number, got 0.5"),
        (TrainConfig, {"seed": -1}, "--seed must be at least 0, got -1"),
        (TrainConfig, {"device": 3}, "--device must be a text, got 3"),
        (ModelConfig, {"dropout": 1}, "--dropout must be below 1, got 1"),
        (ModelConfig, {"tied": 1}, "--tied must be true or false, got 1"),
        (ModelConfig, {"cell": "LSTM"}, "--cell must be one of lstm, gru, rnn; got 'LSTM'"),
        (CorpusConfig, {"clean": "xml"}, "--clean must be 'html', got 'xml'"),
        (CorpusConfig, {"glob": ""}, "--glob must not be empty, got ''"),
        (SamplingConfig, {"top_p": 2}, "--top-p must be at most 1, got 2"),
        (SamplingConfig, {"max_chars": -1}, "--length must be at least 0, got -1"),
        (SamplingConfig, {"stop": ("a", "")}, "--stop must not be empty, got ''"),
    ],
)
def test_sentences(config: Owner, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**values)
    assert str(caught.value) == sentence


def test_a_budget_has_an_upper_limit() -> None:
    # Of one that is infinite in seconds no share is ever used: the rate would stay where it begins.
    budgets = {"minutes", "epochs", "steps", "adapt"}
    found = [(config, field) for config, field, _ in OPTIONS if field.name in budgets]
    assert len(found) == 8
    for config, field in found:
        assert f"{flag(field)} must be below {MAX_BUDGET}, got " in refused(config, field, 10**300)


# ---------------------------------------------------------------- rules between fields


@pytest.mark.parametrize("config", [TrainConfig, FinetuneConfig])
def test_one_budget(config: Owner) -> None:
    budgets = [f.name for f in fields(config) if f.name in ("minutes", "epochs", "steps")]
    assert len(budgets) >= 2
    for first, second in itertools.combinations(budgets, 2):
        with pytest.raises(ConfigError, match=f"^--{first} and --{second} exclude each other"):
            config(**{first: 1, second: 1})


@pytest.mark.parametrize("config", [CorpusConfig, ExamplesConfig])
def test_encodings(config: Owner) -> None:
    for name in ("auto", "utf-8", "latin-1", "cp1252", "gb18030", "utf-7"):
        config(encoding=name)
        assert name == "auto" or is_text_encoding(name)
    for name in ("klingon", "hex", "rot13", "zlib", "idna", "punycode", "undefined", "utf-8\0"):
        assert not is_text_encoding(name)
        with pytest.raises(ConfigError, match="^--encoding must be 'auto' or a text encoding"):
            config(encoding=name)


def test_validation_text_is_no_pipe() -> None:
    with pytest.raises(ConfigError, match="^--valid must be a file, a folder or a name, got '-'"):
        CorpusConfig(valid="-")


def test_what_finetuning_cannot_combine() -> None:
    for values in ({"ngrams": False}, {"ngrams": False, "method": "probe"}):
        with pytest.raises(ConfigError, match="^--unlabelled needs --adapt or the n-grams"):
            FinetuneConfig(unlabelled="more.txt", **values)
        FinetuneConfig(unlabelled="more.txt", adapt=1, **values)
    with pytest.raises(ConfigError, match="^--method probe needs .* leave --from-scratch out"):
        FinetuneConfig(method="probe", from_scratch=True)


# ---------------------------------------------------------------- keywords


def test_each_option_goes_to_its_owner() -> None:
    train, model, corpus = split_options(
        {"minutes": 2, "hidden_size": 64, "level": "byte"}, TrainConfig, ModelConfig, CorpusConfig
    )
    assert train == TrainConfig(minutes=2)
    assert model == ModelConfig(hidden_size=64)
    assert corpus == CorpusConfig(level="byte")
    assert split_options({}, SamplingConfig) == (SamplingConfig(),)


def test_options_go_before_the_values_of_a_configuration() -> None:
    given = (TrainConfig(steps=5, seed=3), None)
    train, model = split_options({"seed": 4}, TrainConfig, ModelConfig, given_configs=given)
    assert train == TrainConfig(steps=5, seed=4)
    assert model == ModelConfig()
    with pytest.raises(ConfigError, match="--minutes and --steps"):
        split_options({"minutes": 1}, TrainConfig, ModelConfig, given_configs=given)


@pytest.mark.parametrize(
    ("options", "given", "words"),
    [
        ({"hiden_size": 3}, (), "no option 'hiden_size'; did you mean hidden_size"),
        ({"zzzzzz": 3}, (), "no option 'zzzzzz'$"),
        ({"hidden_size": 0}, (), "^--hidden-size must"),
        ({"vocabulary_size": 5}, (), "no option 'vocabulary_size'"),  # the corpus decides it
        ({}, (ModelConfig(), None), r"^a TrainConfig is needed, got ModelConfig\("),
    ],
)
def test_mistakes(options: dict[str, Any], given: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        split_options(options, TrainConfig, ModelConfig, given_configs=given)


def test_the_types_of_keywords_are_what_the_tool_makes() -> None:
    tool = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "keywords.py"))
    assert tool["PLACE"].read_text("utf-8") == tool["keywords"](), (
        "chargen/keywords.py is not what the configurations say: run `python tools/keywords.py`"
    )
    for function, name in (
        (chargen.train, "TrainOptions"),
        (chargen.finetune, "FinetuneOptions"),
        *((getattr(chargen.LanguageModel, n), "SamplingOptions") for n in ("generate", "stream")),
    ):
        assert inspect.signature(function).parameters["options"].annotation == f"Unpack[{name}]"
        assert name in tool["FUNCTIONS"]


# ---------------------------------------------------------------- the command line


@pytest.mark.parametrize("name", SHARED)
def test_what_is_the_same_everywhere(name: str) -> None:
    """Name, help and bounds are one; so is the default, but that reading is float32.

    Drawing takes a new seed unless one is given, and says so.
    """
    drawing = (SamplingConfig, "seed")
    found = [(c, field) for c, field, _ in OPTIONS if field.name == name and (c, name) != drawing]
    one = next(field for config, field in found if config is TrainConfig)
    for config, field in found:
        facts = dict(field.metadata) | {"heading": ""}
        assert facts == dict(one.metadata) | {"heading": ""}
        if (config, name) != (MachineConfig, "precision"):
            assert field.default == one.default
    for ctx in contexts(cli, "chargen"):
        for option in ctx.command.params:
            if isinstance(option, click.Option) and option.name == name:
                assert option.opts == [flag(one)]
                assert str(option.help).startswith(one.metadata["help"].removesuffix("."))


def test_no_command_has_an_option_twice() -> None:
    for ctx in contexts(cli, "chargen"):
        names = [name for option in ctx.command.params for name in option.opts]
        assert len(names) == len(set(names)), ctx.command_path


def test_the_help_shows_the_bounds() -> None:
    (context,) = (ctx for ctx in contexts(cli, "chargen") if ctx.command_path == "chargen sample")
    records = {o.name: o.get_help_record(context) for o in context.command.params if o.name}
    for name, shown in (("top_k", "[x>=1]"), ("top_p", "[0<x<=1]"), ("min_p", "[0<=x<1]")):
        assert shown in str(records[name])
