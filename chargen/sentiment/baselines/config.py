"""Which systems are compared, and the sizes of the textbook's networks.

Imports neither torch nor numpy: the command line builds its options from the fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chargen.errors import ConfigError, did_you_mean
from chargen.lm.config import CELLS, check_choice, check_flag, check_number, option

TFIDF = ("tfidf", "tfidf-chars")
NETWORKS = ("rnn", "lstm", "gru")
TEXTBOOK = (*TFIDF, *NETWORKS)
OURS = ("scratch", "probe", "finetuned")
"""What `chargen sentiment train` makes of an encoder's sizes, of its features, and of itself."""


@dataclass(frozen=True)
class WordConfig:
    """Sizes and training of a word-level recurrent classifier.

    At most one of `minutes` and `epochs` is the budget; without either there are ten epochs, and
    more where the texts are few (see `chargen.sentiment.baselines.training`).

    Raises
    ------
    ConfigError
        Where a value cannot work; the message names the option.
    """

    heading: ClassVar[str] = "Model"

    cell: str = "lstm"
    embeddings: str | None = option(
        None, "GloVe or word2vec text file from which the word vectors start.", metavar="FILE"
    )
    embedding_size: int | None = option(
        None, "Width of the word vectors (E; default: as in --embeddings, else 100)."
    )
    hidden_size: int = option(128, "Units of each recurrent layer and direction (H).")
    num_layers: int = option(2, "Recurrent layers.")
    dropout: float = option(0.3, "Dropout on embeddings, between layers and before the output.")
    bidirectional: bool = option(False, "Also read the words from the last to the first.")
    max_words: int = option(250, "Words of a text that are read, its last ones.", heading="Text")
    min_count: int = option(
        2, "Words seen less often than this in training are read as unknown.", heading="Text"
    )
    max_vocabulary: int = option(
        30_000, "Words that are told apart, the most frequent ones.", heading="Text"
    )
    minutes: float | None = option(
        None, "Train each network for at most this long.", heading="Budget"
    )
    epochs: int | None = option(
        None, "Train each network for this many passes over the texts.", heading="Budget"
    )
    batch_size: int = option(32, "Texts of a step (B).", heading="Optimisation")
    learning_rate: float = option(2e-3, "Learning rate of Adam.", heading="Optimisation")
    clip: float = option(
        1.0, "Largest norm of the gradient; 0 turns clipping off.", heading="Optimisation"
    )
    patience: int = option(
        4,
        "Stop after this many evaluations without a better validation macro-F1.",
        heading="Evaluation",
    )
    seed: int = option(0, "Seed of every random choice.", heading="Optimisation")
    device: str = option(
        "auto", "Where to compute: auto, cpu, cuda, cuda:1, mps.", heading="Machine"
    )

    def __post_init__(self) -> None:
        if self.minutes is not None and self.epochs is not None:
            raise ConfigError("--minutes and --epochs are both budgets; give one of them")
        check_choice(self, "cell", CELLS)
        check_flag(self, "bidirectional")
        for name in ("embedding_size", "hidden_size", "num_layers", "max_words", "min_count"):
            check_number(self, name, low=1, whole=True)
        for name in ("max_vocabulary", "epochs", "patience"):
            check_number(self, name, low=1, whole=True)
        check_number(self, "batch_size", low=2, whole=True)  # batch normalisation needs two
        check_number(self, "dropout", low=0, below=1)
        check_number(self, "clip", low=0)
        for name in ("minutes", "learning_rate"):
            check_number(self, name, above=0)
        check_number(self, "seed", low=0, below=2**63, whole=True)


@dataclass(frozen=True)
class CompareConfig:
    """What is compared, and on how many labels.

    Raises
    ------
    ConfigError
        Where a value cannot work; the message names the option.
    """

    heading: ClassVar[str] = "Model"

    models: str | None = option(
        None,
        f"Systems with commas between: {', '.join(TEXTBOOK)}; with --encoder also "
        f"{', '.join(OURS)} (default: all of them).",
        metavar="NAMES",
    )
    labels: int | None = option(
        None, "Use only this many labelled texts (stratified).", heading="Text"
    )
    valid_fraction: float = option(
        0.1, "Share of the labelled texts kept for validation.", heading="Text"
    )
    encoder: tuple[str, ...] = option(
        (),
        "Language model to set ours beside them; a forward and a backward one may be given.",
        multiple=True,
        metavar="DIR",
    )
    unlabelled: str | None = option(
        None,
        "Texts of the same kind without labels, for the fine-tuned of ours.",
        metavar="PATH",
        heading="Text",
    )
    classifier: tuple[str, ...] = option(
        (),
        "Trained classifier that is only evaluated; may be given repeatedly.",
        multiple=True,
        metavar="DIR",
    )

    def __post_init__(self) -> None:
        check_number(self, "labels", low=2, whole=True)
        check_number(self, "valid_fraction", above=0, below=1)
        for name in self._named:
            if name not in (*TEXTBOOK, *OURS):
                raise ConfigError(_unknown(name))
            if name in OURS and not self.encoder:
                raise ConfigError(f"--models {name} builds on a language model: give --encoder DIR")

        if self.unlabelled is not None and not self.encoder:
            raise ConfigError("--unlabelled helps only ours: give --encoder DIR")

    @property
    def _named(self) -> tuple[str, ...]:
        if self.models is None:
            return ()
        names = (name.strip().lower() for name in self.models.split(","))
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def systems(self) -> tuple[str, ...]:
        """The names of the systems that are trained, in the order of the table.

        With an encoder and none of ours among `models`, all of ours are added.
        """
        names = self._named if self.models is not None else TEXTBOOK
        if self.encoder and not set(names) & set(OURS):
            names = (*names, *OURS)
        return names


def _unknown(name: str) -> str:
    hint = did_you_mean(name, (*TEXTBOOK, *OURS))
    return f"--models must be some of {', '.join((*TEXTBOOK, *OURS))}; got {name!r}{hint}"
