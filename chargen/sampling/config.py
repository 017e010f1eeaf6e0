"""Options of sampling, and of measuring how much of its text a model repeats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chargen.options import SEED, Options, like, option


@dataclass(frozen=True)
class SamplingConfig(Options):
    """Options of sampling; every field is an option of ``chargen sample`` with the same meaning."""

    heading: ClassVar[str] = "Drawing"

    max_chars: int = option(500, "Largest number of characters to write.", low=0, option="--length")
    temperature: float = option(
        0.8,
        "Below 1, likely characters become likelier; above 1, the text is more varied; 0 always "
        "takes the likeliest character.",
        low=0,
    )
    top_k: int | None = option(
        None, "Draw only from the K likeliest characters.", low=1, metavar="K"
    )
    top_p: float | None = option(
        None,
        "Draw only from the smallest set of likeliest characters whose probabilities sum to P.",
        above=0,
        most=1,
        metavar="P",
    )
    min_p: float | None = option(
        None,
        "Exclude characters that are less likely than P times the likeliest.",
        low=0,
        below=1,
        metavar="P",
    )
    repetition_penalty: float = option(
        1.0, "Above 1, recently used characters become less likely.", above=0
    )
    stop: tuple[str, ...] = option((), "Stop before this text; may be given several times.")
    seed: int | None = like(
        SEED,
        default=None,
        help="Seed of every random choice (default: a new one, which is printed).",
    )
    unknown: str = option(
        "replace",
        "What to do with characters of the prompt that the model has never seen.",
        choices=("replace", "skip", "error"),
        heading="Prompt",
    )
    label: str | None = option(
        None,
        "Write a document of this label (of a model trained with --label-column).",
        metavar="NAME",
        heading="Prompt",
    )
    ignore_end: bool = option(False, "Continue the text where the model would end the document.")


@dataclass(frozen=True)
class MemorizationConfig(Options):
    """Options for measuring how much of its training text a model repeats."""

    heading: ClassVar[str] = "Measure"

    passages: int = option(1000, "Number of passages to try.", low=1)
    length: int = option(50, "Length of a passage, in characters (or bytes).", low=1)
    context: int = option(
        100, "Characters (or bytes) that the model reads before a passage.", low=1
    )
    seed: int = SEED
