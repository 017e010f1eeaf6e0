"""How text is drawn from a model: `SamplingConfig`, from which the command's options are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

from chargen.errors import ConfigError

UNKNOWN_CHOICES = ("replace", "skip", "error")


@dataclass(frozen=True)
class SamplingConfig:
    """Options of sampling; every field is an option of ``chargen sample`` with the same meaning.

    Raises
    ------
    ConfigError
        If a value cannot work; the message names the option.
    """

    heading: ClassVar[str] = "Drawing"

    max_chars: int = field(
        default=500,
        metadata={"option": "--length", "help": "Characters to write (at most)."},
    )
    temperature: float = field(
        default=0.8,
        metadata={"help": "Below 1 plays safe, above 1 takes risks; 0 always takes the likeliest."},
    )
    top_k: int | None = field(
        default=None,
        metadata={"help": "Draw only from the K likeliest characters.", "metavar": "K"},
    )
    top_p: float | None = field(
        default=None,
        metadata={
            "help": "Draw only from the fewest characters that together have probability P.",
            "metavar": "P",
        },
    )
    min_p: float | None = field(
        default=None,
        metadata={
            "help": "Leave out characters less likely than P times the likeliest.",
            "metavar": "P",
        },
    )
    repetition_penalty: float = field(
        default=1.0,
        metadata={"help": "Above 1 makes characters that were just used less likely."},
    )
    stop: tuple[str, ...] = field(
        default=(),
        metadata={"help": "End before this text; may be given several times.", "multiple": True},
    )
    seed: int | None = field(
        default=None,
        metadata={
            "help": "The same seed gives the same text; sample i takes seed + i (default: a new "
            "one, which is told)."
        },
    )
    unknown: str = field(
        default="replace",
        metadata={
            "help": "What to do with characters of the prompt that the model has never seen.",
            "choices": UNKNOWN_CHOICES,
            "heading": "Prompt",
        },
    )
    ignore_end: bool = field(
        default=False, metadata={"help": "Write on where the model would end the document."}
    )

    def __post_init__(self) -> None:
        given: Any = self.stop  # a lone text or a list is taken too
        stop: tuple[str, ...] = (given,) if isinstance(given, str) else tuple(given)
        object.__setattr__(self, "stop", stop)
        _require_int("--length", self.max_chars, 0, "a whole number, 0 or more")
        if self.top_k is not None:
            _require_int("--top-k", self.top_k, 1, "a whole number, 1 or more")
        if self.seed is not None:
            _require_int("--seed", self.seed, 0, "a whole number from 0 to 2**63 - 1")
        if self.seed is not None and self.seed >= 2**63:
            raise ConfigError(f"--seed must be a whole number from 0 to 2**63 - 1, got {self.seed}")
        _require("--temperature", self.temperature, "0 or more", self.temperature >= 0)
        if self.top_p is not None:
            _require("--top-p", self.top_p, "above 0 and at most 1", 0 < self.top_p <= 1)
        if self.min_p is not None:
            _require("--min-p", self.min_p, "0 or more and below 1", 0 <= self.min_p < 1)
        penalty = self.repetition_penalty
        _require("--repetition-penalty", penalty, "above 0", penalty > 0)
        if self.unknown not in UNKNOWN_CHOICES:
            choices = ", ".join(UNKNOWN_CHOICES)
            raise ConfigError(f"--unknown must be one of {choices}, got {self.unknown!r}")
        if any(not text for text in stop):
            raise ConfigError("--stop must be a text of at least one character, got an empty one")


def _require_int(option: str, value: object, least: int, wanted: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{option} must be {wanted}, got {value}")


def _require(option: str, value: float, wanted: str, holds: bool) -> None:
    # NaN fails every comparison, so `holds` is already False for it.
    if not (holds and math.isfinite(value)):
        raise ConfigError(f"{option} must be {wanted}, got {value}")
