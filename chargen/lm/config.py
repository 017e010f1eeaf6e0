"""The sizes of a model and the settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from chargen.errors import ConfigError
from chargen.lm.cells import CELLS
from chargen.options import DETERMINISTIC, DEVICE, PRECISION, SEED, THREADS, Options, option

DIRECTIONS = ("forward", "backward")
OPTIMIZERS = ("muon", "adamw")
"""Names of the optimizers, which `chargen.training.optimizers.make_optimizers` creates."""

MUON_ITERATIONS = 3
"""Newton-Schulz iterations per step of Muon; they take a good part of the time of a step."""

SCHEDULES = ("cosine", "constant-cooldown")

MOST_LAYERS = 256
"""A layer takes a millisecond to create: without this limit, a file that states ten thousand layers
would take ten seconds."""

MOST_NETWORKS = 64

MAX_UNITS = 2**24
"""Upper limit of the width of a layer: torch cannot count the weights of much wider ones."""

MAX_BUDGET = 2**63
"""Upper limit of minutes, epochs and steps, as of every count of a run."""

Value = TypeVar("Value")


def required(value: Value | None) -> Value:
    """Return a value that the user or a recipe must have chosen; None is a `ConfigError`."""
    if value is None:
        raise ConfigError("a size is None: choose it with chargen.lm.recipes.plan")
    return value


REPLAY_SHARE = 0.1
"""Share of old text in what a trained model reads while it learns new text."""


@dataclass(frozen=True)
class ModelConfig(Options):
    """Sizes of a `CharLM`; `chargen.lm.recipes` chooses the sizes that are None."""

    heading: ClassVar[str] = "Model"

    vocabulary_size: int | None = option(None, low=1)
    cell: str = option("lstm", "Recurrent cell.", choices=tuple(CELLS))
    hidden_size: int | None = option(
        None, "Units of each recurrent layer (H).", low=1, most=MAX_UNITS
    )
    num_layers: int | None = option(None, "Recurrent layers.", low=1, below=MOST_LAYERS + 1)
    embedding_size: int | None = option(
        None, "Width of the character embedding (E).", low=1, most=MAX_UNITS
    )
    ensemble: int | None = option(
        None,
        "Networks of this size that are trained side by side; their logits are averaged "
        "(default: one, or more if one alone would read the text too often).",
        low=1,
        below=MOST_NETWORKS + 1,
    )
    dropout: float | None = option(
        None, "Dropout between layers and on the output.", low=0, below=1
    )
    embedding_dropout: float | None = option(
        None, "Dropout on the embedded characters.", low=0, below=1
    )
    weight_dropout: float | None = option(
        None, "Dropout on the recurrent weights (DropConnect; Merity et al. 2018).", low=0, below=1
    )
    variational: bool = option(
        False, "Use one dropout mask for all time steps of a window (Gal & Ghahramani 2016)."
    )
    tied: bool = option(
        False, "Use the weights of the embedding as output weights (Press & Wolf 2017)."
    )
    orthogonal: bool = option(
        False, "Initialize recurrent weights as orthogonal matrices (Saxe et al. 2014)."
    )
    direction: str = option(
        "forward", "Direction of reading; backward reads the text from its end.", choices=DIRECTIONS
    )

    @property
    def num_networks(self) -> int:
        """Number of networks; 1 if `ensemble` is None, as in checkpoints of earlier versions."""
        return self.ensemble or 1


@dataclass(frozen=True)
class CountsConfig(Options):
    """The n-gram model that is mixed with a network; see `chargen.lm.counts`."""

    heading: ClassVar[str] = "Model"

    order: int = option(
        8, "Length of the longest context, in characters (or bytes).", low=1, most=16, metavar="K"
    )
    max_characters: int = option(
        10_000_000,
        "Count only the last N characters of a longer text; each million takes some 70 MB of "
        "memory, and about a second whenever the model is used.",
        low=1,
        metavar="N",
    )
    weight: float | None = option(None, above=0, below=1)


@dataclass(frozen=True)
class TrainConfig(Options):
    """Settings of a training run; `chargen.lm.recipes` chooses those that are None.

    At most one of `minutes`, `epochs` and `steps` is the budget.
    """

    heading: ClassVar[str] = "Optimisation"

    minutes: float | None = option(
        None,
        "Train for this many minutes; the schedule ends with them.",
        above=0,
        below=MAX_BUDGET,
        heading="Budget",
    )
    epochs: float | None = option(
        None,
        "Train for this many passes over the text.",
        above=0,
        below=MAX_BUDGET,
        heading="Budget",
    )
    steps: int | None = option(
        None,
        "Train for this many steps of the optimizer.",
        low=1,
        below=MAX_BUDGET,
        heading="Budget",
    )
    seed: int = SEED
    batch_size: int | None = option(None, "Parallel streams of text (B).", low=1)
    window: int | None = option(None, "Time steps of truncated BPTT (T).", low=2)
    window_jitter: bool = option(
        False, "Vary the window's length from step to step (Merity et al. 2018)."
    )
    shuffle_documents: bool = option(
        True, "Read the documents in a new order in each pass (if --documents keeps them apart)."
    )
    optimizer: str = option(
        "muon",
        "Muon for the matrices of recurrent layers and AdamW for the rest, or AdamW for all.",
        choices=OPTIMIZERS,
    )
    learning_rate: float | None = option(None, "Highest learning rate of the schedule.", above=0)
    schedule: str = option(
        "cosine",
        "Learning rate after the warm-up: a cosine to zero over the budget, or constant with a "
        "final fall to zero, so that the budget can be extended during the run.",
        choices=SCHEDULES,
    )
    cooldown: float = option(
        0.2,
        "Share of the budget, at its end, in which a constant-cooldown schedule falls to zero.",
        above=0,
        most=1,
    )
    warmup_steps: int | None = option(
        None,
        "Steps over which the learning rate rises (default: 50, at most a tenth of a run).",
        low=0,
    )
    weight_decay: float | None = option(
        None, "Decoupled weight decay of the matrices (not of embeddings).", low=0
    )
    clip: float = option(1.0, "Largest norm of the gradient; 0 turns clipping off.", low=0)
    ema: float | None = option(
        None,
        "Decay of the running average of the weights, which is then evaluated; 0 is off.",
        low=0,
        below=1,
    )
    patience: int | None = option(
        None,
        "Stop after this many evaluations without an improvement (default: never).",
        low=1,
        heading="Evaluation",
    )
    eval_every: int | None = option(
        None,
        "Steps between evaluations (default: 12 evaluations in a run).",
        low=1,
        heading="Evaluation",
    )
    checkpoint_every: int | None = option(
        None, "Steps between checkpoints (default: every minute).", low=1, heading="Output"
    )
    samples: bool = option(True, "Show a short sample at each evaluation.", heading="Evaluation")
    device: str = DEVICE
    precision: str = PRECISION
    threads: int | None = THREADS
    deterministic: bool = DETERMINISTIC
