"""Options of a corpus are refused where they cannot work."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from chargen.errors import ConfigError
from chargen.text.config import CorpusConfig, is_text_encoding


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("level", {"level": "word"}),
        ("min-count", {"min_count": 0}),
        ("min-count", {"min_count": True}),
        ("min-count", {"min_count": 1.5}),
        ("valid-fraction", {"valid_fraction": 1.0}),
        ("valid-fraction", {"valid_fraction": -0.1}),
        ("valid-fraction", {"valid_fraction": float("nan")}),
        ("encoding", {"encoding": "klingon"}),
        ("encoding", {"encoding": "hex"}),
        ("encoding", {"encoding": "undefined"}),
        ("encoding", {"encoding": "utf-8\0"}),
        ("errors", {"errors": "ignore"}),
        ("normalize", {"normalize": "NFX"}),
        ("documents", {"documents": "pages"}),
        ("glob", {"glob": ""}),
        ("text-column", {"text_column": ""}),
        ("valid", {"valid": ""}),
        ("valid", {"valid": "-"}),
    ],
)
def test_impossible_values_name_the_option(option: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--{option} must"):
        CorpusConfig(**values)


def test_text_encodings() -> None:
    assert all(map(is_text_encoding, ("utf-8", "latin-1", "cp1252", "gb18030", "utf-7")))
    assert not any(map(is_text_encoding, ("rot13", "zlib", "idna", "punycode", "", "\0")))


def test_importing_the_options_needs_neither_numpy_nor_torch() -> None:
    code = "import sys, chargen.text.config; print({'numpy', 'torch'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
