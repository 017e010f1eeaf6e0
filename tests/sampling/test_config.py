"""SamplingConfig refuses what cannot work and names the option."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest

from chargen.errors import ConfigError
from chargen.sampling.config import SamplingConfig


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"max_chars": -1}, "--length"),
        ({"max_chars": 1.5}, "--length"),
        ({"temperature": -0.1}, "--temperature"),
        ({"temperature": math.nan}, "--temperature"),
        ({"temperature": math.inf}, "--temperature"),
        ({"top_k": 0}, "--top-k"),
        ({"top_k": True}, "--top-k"),
        ({"top_p": 0.0}, "--top-p"),
        ({"top_p": 1.01}, "--top-p"),
        ({"top_p": math.nan}, "--top-p"),
        ({"min_p": 1.0}, "--min-p"),
        ({"min_p": -0.1}, "--min-p"),
        ({"repetition_penalty": 0.0}, "--repetition-penalty"),
        ({"repetition_penalty": math.nan}, "--repetition-penalty"),
        ({"stop": ("a", "")}, "--stop"),
        ({"stop": ""}, "--stop"),
        ({"seed": -1}, "--seed"),
        ({"seed": 2**63}, "--seed"),
        ({"unknown": "ignore"}, "--unknown"),
    ],
)
def test_impossible_values_name_their_option(values: dict, option: str) -> None:
    with pytest.raises(ConfigError, match=f"^{option} must "):
        SamplingConfig(**values)


def test_limits_are_allowed() -> None:
    config = SamplingConfig(
        max_chars=0, temperature=0, top_k=1, top_p=1.0, min_p=0.0, seed=2**63 - 1, stop="END"
    )
    assert config.stop == ("END",)
    assert SamplingConfig(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]


def test_every_field_has_help() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(SamplingConfig))


def test_importing_it_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, chargen.sampling.config;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
