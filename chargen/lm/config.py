"""The sizes of a model and the settings of a training run, as frozen and validated dataclasses.

Command-line options, their defaults and their help are derived from these fields. This module
imports neither torch nor numpy, so that `chargen --help` need not wait for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from chargen.errors import ConfigError, brief

CELLS = ("lstm", "gru", "rnn")
DIRECTIONS = ("forward", "backward")
PRECISIONS = ("auto", "float32", "bfloat16")
OPTIMIZERS = ("muon", "adamw")
SCHEDULES = ("cosine", "constant-cooldown")

MOST_LAYERS = 256
"""Making the modules of a layer takes a millisecond: ten thousand, which a file can ask for, ten
seconds."""

MOST_THREADS = 1024

Value = TypeVar("Value")


def settled(value: Value | None) -> Value:
    """The value, which a recipe or the user must have chosen by now.

    Raises
    ------
    ConfigError
        Where it is None.
    """
    if value is None:
        raise ConfigError("a size was left open: fill it in with chargen.lm.recipes.plan")
    return value


def option(default: Any, text: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": text, **metadata})


def check_number(
    owner: object,
    name: str,
    *,
    low: float | None = None,
    above: float | None = None,
    below: float | None = None,
    most: float | None = None,
    whole: bool = False,
) -> None:
    """Raise `ConfigError` unless the field is None or a number within the bounds."""
    value = getattr(owner, name)
    if value is None:
        return
    option = "--" + name.replace("_", "-")
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise ConfigError(f"{option} must be a number, got {brief(value)}")
    if whole and not isinstance(value, int):
        raise ConfigError(f"{option} must be a whole number, got {value}")
    bounds = [
        (low is not None and value < low, f"at least {low}"),
        (above is not None and value <= above, f"above {above}"),
        (below is not None and value >= below, f"below {below}"),
        (most is not None and value > most, f"at most {most}"),
    ]
    for broken, wanted in bounds:
        if broken:
            raise ConfigError(f"{option} must be {wanted}, got {value}")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def check_choice(owner: object, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(owner, name)
    if value not in choices:
        option = "--" + name.replace("_", "-")
        raise ConfigError(f"{option} must be one of {', '.join(choices)}; got {brief(value)}")


def check_flag(owner: object, name: str) -> None:
    value = getattr(owner, name)
    if not isinstance(value, bool):
        raise ConfigError(f"--{name.replace('_', '-')} must be true or false, got {brief(value)}")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a `CharLM`; a size of None is chosen by `chargen.lm.recipes`.

    Raises
    ------
    ConfigError
        Where a value cannot work; the message names the option.
    """

    heading: ClassVar[str] = "Model"

    vocabulary_size: int | None = None
    cell: str = option("lstm", "Recurrent cell.", choices=CELLS)
    hidden_size: int | None = option(None, "Units of each recurrent layer (H).")
    num_layers: int | None = option(None, "Recurrent layers.")
    embedding_size: int | None = option(None, "Width of the character embedding (E).")
    dropout: float | None = option(None, "Dropout between layers and on the output.")
    embedding_dropout: float | None = option(None, "Dropout on the embedded characters.")
    weight_dropout: float | None = option(
        None, "Dropout on the recurrent weights (DropConnect; Merity et al. 2018)."
    )
    variational: bool = option(
        False, "One dropout mask for a whole window (Gal & Ghahramani 2016)."
    )
    tied: bool = option(False, "Output weights are the embedding's (Press & Wolf 2017).")
    orthogonal: bool = option(False, "Orthogonal initial recurrent weights (Saxe et al. 2014).")
    direction: str = option(
        "forward", "Direction of reading; backward trains on reversed text.", choices=DIRECTIONS
    )

    def __post_init__(self) -> None:
        for name in ("vocabulary_size", "hidden_size", "embedding_size"):
            check_number(self, name, low=1, whole=True)
        check_number(self, "num_layers", low=1, below=MOST_LAYERS + 1, whole=True)
        for name in ("dropout", "embedding_dropout", "weight_dropout"):
            check_number(self, name, low=0, below=1)
        check_choice(self, "cell", CELLS)
        check_choice(self, "direction", DIRECTIONS)
        for name in ("variational", "tied", "orthogonal"):
            check_flag(self, name)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run; what is None is chosen by `chargen.lm.recipes`.

    At most one of `minutes`, `epochs` and `steps` is the budget.

    Raises
    ------
    ConfigError
        Where a value cannot work; the message names the option.
    """

    heading: ClassVar[str] = "Optimisation"

    minutes: float | None = option(
        None, "Train for this long; the schedule ends with it.", heading="Budget"
    )
    epochs: float | None = option(
        None, "Train for this many passes over the text.", heading="Budget"
    )
    steps: int | None = option(
        None, "Train for this many steps of the optimizer.", heading="Budget"
    )
    seed: int = option(0, "Seed of every random choice.")
    batch_size: int | None = option(None, "Parallel streams of text (B).")
    window: int | None = option(None, "Time steps of truncated BPTT (T).")
    window_jitter: bool = option(
        False, "Vary the window's length from step to step (Merity et al. 2018)."
    )
    shuffle_documents: bool = option(
        True, "Read documents that are kept apart in a new order in each pass (see --documents)."
    )
    optimizer: str = option(
        "muon",
        "Muon on the matrices of recurrent layers and AdamW on the rest, or AdamW on all.",
        choices=OPTIMIZERS,
    )
    learning_rate: float | None = option(None, "Highest learning rate of the schedule.")
    schedule: str = option(
        "cosine",
        "Learning rate after the warm-up: a cosine to zero over the budget, or constant and then "
        "down to zero, so that the budget can be lengthened on the way.",
        choices=SCHEDULES,
    )
    cooldown: float = option(
        0.2, "Last share of the budget, over which a constant-cooldown schedule falls to zero."
    )
    warmup_steps: int | None = option(
        None, "Steps over which the learning rate rises (default: 50, at most a tenth of a run)."
    )
    weight_decay: float | None = option(None, "Decoupled decay of matrices (not embeddings).")
    clip: float = option(1.0, "Largest norm of the gradient; 0 turns clipping off.")
    ema: float | None = option(
        None, "Decay of the running average of the weights that is evaluated; 0 is off."
    )
    patience: int | None = option(
        None,
        "Stop after this many evaluations without a better one (default: never).",
        heading="Evaluation",
    )
    eval_every: int | None = option(
        None, "Steps between evaluations (default: 12 in a run).", heading="Evaluation"
    )
    checkpoint_every: int | None = option(
        None, "Steps between checkpoints (default: every minute).", heading="Output"
    )
    samples: bool = option(True, "Show a short sample at each evaluation.", heading="Evaluation")
    device: str = option(
        "auto", "Where to compute: auto, cpu, cuda, cuda:1, mps.", heading="Machine"
    )
    precision: str = option(
        "auto", "Precision of the products.", choices=PRECISIONS, heading="Machine"
    )
    threads: int | None = option(
        None, "Processor threads (default: torch's own choice).", heading="Machine"
    )
    deterministic: bool = option(
        False,
        "Only deterministic kernels, and float32 unless --precision says otherwise.",
        heading="Machine",
    )

    def __post_init__(self) -> None:
        budgets = [n for n in ("minutes", "epochs", "steps") if getattr(self, n) is not None]
        if len(budgets) > 1:
            given = " and ".join("--" + name for name in budgets)
            raise ConfigError(f"{given} are both budgets; give one of them")
        for name in ("minutes", "epochs", "learning_rate"):
            check_number(self, name, above=0)
        for name in ("steps", "batch_size", "eval_every", "checkpoint_every", "patience"):
            check_number(self, name, low=1, whole=True)
        check_number(self, "window", low=2, whole=True)
        check_number(self, "threads", low=1, below=MOST_THREADS + 1, whole=True)
        check_number(self, "warmup_steps", low=0, whole=True)
        check_number(self, "weight_decay", low=0)
        check_number(self, "clip", low=0)
        check_number(self, "ema", low=0, below=1)
        check_number(self, "cooldown", above=0, most=1)
        check_number(self, "seed", low=0, below=2**63, whole=True)
        for name in ("window_jitter", "shuffle_documents", "samples", "deterministic"):
            check_flag(self, name)
        check_choice(self, "precision", PRECISIONS)
        check_choice(self, "optimizer", OPTIMIZERS)
        check_choice(self, "schedule", SCHEDULES)
