"""Which systems are compared, and the sizes of the textbook's networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chargen.errors import ConfigError, did_you_mean
from chargen.lm.config import CELLS
from chargen.options import DEVICE, SEED, THREADS, Options, like, option

TFIDF = ("tfidf", "tfidf-chars")
NETWORKS = ("rnn", "lstm", "gru")
TEXTBOOK = (*TFIDF, *NETWORKS)
OURS = ("scratch", "probe", "finetuned")
"""What `chargen sentiment train` makes of an encoder's sizes, of its features, and of itself."""


@dataclass(frozen=True)
class WordConfig(Options):
    """Sizes and training of a word-level recurrent classifier.

    At most one of `minutes` and `epochs` is the budget; without either there are ten epochs, and
    more where the texts are few (see `chargen.sentiment.baselines.training`).
    """

    heading: ClassVar[str] = "Model"

    cell: str = option("lstm", choices=CELLS)
    embeddings: str | None = option(
        None, "GloVe or word2vec text file from which the word vectors start.", metavar="FILE"
    )
    embedding_size: int | None = option(
        None, "Width of the word vectors (E; default: as in --embeddings, else 100).", low=1
    )
    hidden_size: int = option(128, "Units of each recurrent layer and direction (H).", low=1)
    num_layers: int = option(2, "Recurrent layers.", low=1)
    dropout: float = option(
        0.3, "Dropout on embeddings, between layers and before the output.", low=0, below=1
    )
    bidirectional: bool = option(False, "Also read the words from the last to the first.")
    max_words: int = option(
        250, "Words of a text that are read, its last ones.", low=1, heading="Text"
    )
    min_count: int = option(
        2, "Words seen less often than this in training are read as unknown.", low=1, heading="Text"
    )
    max_vocabulary: int = option(
        30_000, "Words that are told apart, the most frequent ones.", low=1, heading="Text"
    )
    minutes: float | None = option(
        None, "Train each network for at most this long.", above=0, heading="Budget"
    )
    epochs: int | None = option(
        None, "Train each network for this many passes over the texts.", low=1, heading="Budget"
    )
    batch_size: int = option(  # batch normalisation needs two
        32, "Texts of a step (B).", low=2, heading="Optimisation"
    )
    learning_rate: float = option(2e-3, "Learning rate of Adam.", above=0, heading="Optimisation")
    clip: float = option(
        1.0, "Largest norm of the gradient; 0 turns clipping off.", low=0, heading="Optimisation"
    )
    patience: int = option(
        4,
        "Stop after this many evaluations without a better validation macro-F1.",
        low=1,
        heading="Evaluation",
    )
    seed: int = like(SEED, heading="Optimisation")
    device: str = DEVICE
    threads: int | None = THREADS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_budget()


@dataclass(frozen=True)
class CompareConfig(Options):
    """What is compared, and on how many labels."""

    heading: ClassVar[str] = "Model"

    models: str | None = option(
        None,
        f"Systems with commas between: {', '.join(TEXTBOOK)}; with --encoder also "
        f"{', '.join(OURS)} (default: all of them).",
        empty=True,
        metavar="NAMES",
    )
    labels: int | None = option(
        None, "Use only this many labelled texts (stratified).", low=2, heading="Text"
    )
    valid_fraction: float = option(
        0.1, "Share of the labelled texts kept for validation.", above=0, below=1, heading="Text"
    )
    encoder: tuple[str, ...] = option(
        (),
        "Language model to set ours beside them; a forward and a backward one may be given.",
        metavar="DIR",
    )
    unlabelled: str | None = option(
        None,
        "Texts of the same kind without labels, for the fine-tuned of ours.",
        metavar="PATH",
        heading="Text",
    )
    classifier: tuple[str, ...] = option(
        (), "Trained classifier that is only evaluated; may be given repeatedly.", metavar="DIR"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
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
