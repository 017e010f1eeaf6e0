"""Options for reading labelled data, and for building, fine-tuning and comparing classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chargen.errors import ConfigError, did_you_mean
from chargen.lm.config import MAX_BUDGET, MAX_UNITS
from chargen.options import DETERMINISTIC, DEVICE, PRECISION, SEED, THREADS, Options, like, option
from chargen.text.config import TableConfig, normal_label

TFIDF = ("tfidf", "tfidf-chars")
OURS = ("scratch", "probe", "finetuned")
SYSTEMS = (*TFIDF, *OURS)
"""Systems of a comparison. Ours train from random weights, on the frozen encoder's states, and
with fine-tuning."""

USED_BY = {
    "unlabelled": ("probe", "finetuned"),
    "minutes": ("scratch", "finetuned"),
    "epochs": ("scratch", "finetuned"),
    "valid_fraction": ("scratch", "finetuned"),
}
"""Options of a comparison that only some systems use."""

SKIP = "skip"
"""New name of a label whose rows are left out."""


@dataclass(frozen=True)
class ExamplesConfig(TableConfig):
    """How texts and labels are read from tables and folders."""

    label_column: str | None = option(
        None, "Column of the label (default: found by its usual names).", metavar="NAME"
    )
    label_map: str | None = option(
        None,
        f"New names for the labels, such as 0=neg,1=pos,2={SKIP}; rows whose label becomes {SKIP} "
        "are left out.",
        metavar="OLD=NEW,...",
    )
    clean: str | None = option(
        None, "Turn HTML tags and entities into text first.", choices=("html",)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.labels_by_old

    @property
    def table_options(self) -> list[str]:
        """The given options that apply to tables only."""
        return super().table_options + ["--label-column"] * (self.label_column is not None)

    @property
    def labels_by_old(self) -> dict[str, str]:
        """New names by old ones, from `label_map`; empty without it.

        Raises
        ------
        ConfigError
            If `label_map` is malformed.
        """
        found: dict[str, str] = {}
        for pair in self.label_map.split(",") if self.label_map else ():
            old, _, new = (normal_label(part) for part in pair.rpartition("="))
            if not old or not new:
                raise ConfigError(
                    f"--label-map must be OLD=NEW pairs separated by commas, got {pair!r}"
                )
            if found.setdefault(old, new) != new:
                raise ConfigError(
                    f"--label-map must rename a label once: {old!r} has two new names"
                )
        return found


@dataclass(frozen=True)
class PredictConfig(Options):
    """What a text is called if no label is likely."""

    heading: ClassVar[str] = "Output"

    threshold: float | None = option(
        None,
        "Smallest probability of a label; a text whose likeliest label is below it gets the word "
        "of --otherwise instead.",
        above=0,
        most=1,
    )
    otherwise: str | None = option(
        None, "Word for a text without a likely label (default: unsure).", metavar="WORD"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.otherwise is not None and self.threshold is None:
            raise ConfigError("--otherwise needs --threshold: give --threshold P")

    @property
    def word(self) -> str:
        """The word for texts without a likely label."""
        return "unsure" if self.otherwise is None else self.otherwise


@dataclass(frozen=True)
class NetworkConfig(Options):
    """Sizes of the layers above the encoder."""

    heading: ClassVar[str] = "Model"

    num_classes: int = option(2, low=2)
    detectors: int = option(
        256,
        "Units that read each time step before pooling (D); with 0 only the states are pooled.",
        low=0,
        most=MAX_UNITS,
    )
    head_size: int = option(
        50,
        "Units of the layer between the pooled states and the classes; 0 removes that layer.",
        low=0,
        most=MAX_UNITS,
    )
    head_dropout: float = option(
        0.3, "Dropout on the pooled states and in the head.", low=0, below=1
    )


@dataclass(frozen=True)
class FinetuneConfig(Options):
    """Settings of a fine-tuning run.

    At most one of `minutes` and `epochs` is the budget; without either the number of labels
    decides (see `chargen.sentiment.finetune`).
    """

    heading: ClassVar[str] = "Optimisation"

    method: str = option(
        "auto",
        "Fine-tune the encoder, or keep it unchanged and fit a logistic regression on its states "
        "(probe). auto chooses probe below 5,000 labels unless a budget is given.",
        choices=("auto", "finetune", "probe"),
        heading="Model",
    )
    penalty: str = option(
        "l2",
        "Regularisation of the probe; l1 uses few units.",
        choices=("l2", "l1"),
        heading="Model",
    )
    minutes: float | None = option(
        None,
        "Train for this many minutes; the schedule ends with them.",
        above=0,
        below=MAX_BUDGET,
        heading="Budget",
    )
    epochs: float | None = option(
        None,
        "Train for this many passes over the labelled texts.",
        above=0,
        below=MAX_BUDGET,
        heading="Budget",
    )
    labels: int | None = option(
        None, "Use only this many labelled texts (stratified).", low=1, heading="Text"
    )
    valid: str | None = option(
        None,
        "Labelled file or folder for validation; a path, also from Python.",
        metavar="DATA",
        heading="Text",
    )
    valid_fraction: float | None = option(
        None,
        "Share of the labelled texts that is kept for validation (default: 0.1 if the encoder is "
        "fine-tuned; otherwise 0, and cross-validation gives the figures).",
        low=0,
        below=1,
        heading="Text",
    )
    seed: int = SEED
    from_scratch: bool = option(
        False,
        "Train the same network from random weights, to see how much the encoder helps.",
        heading="Model",
    )
    unlabelled: str | None = option(
        None,
        "Texts of the same kind without labels, for --adapt and the n-grams; a path, also from "
        "Python.",
        metavar="PATH",
        heading="Text",
    )
    adapt: float | None = option(
        None,
        "First train the language model on the labelled and unlabelled texts for MINUTES.",
        above=0,
        below=MAX_BUDGET,
        metavar="MINUTES",
        heading="Budget",
    )
    ngrams: bool = option(
        True,
        "Add linear models over n-grams of characters and words to the network if they help.",
        heading="Model",
    )
    batch_size: int = option(
        32, "Texts in a step (B); at least 2, because one text has no variance.", low=2
    )
    window: int = option(
        1000,
        "Characters at the end of a text through which gradients flow (truncated BPTT).",
        low=2,
    )
    learning_rate: float = option(2e-3, "Highest learning rate of the head.", above=0)
    encoder_rate: float = option(
        0.5, "Learning rate of the encoder, as a share of the head's.", above=0
    )
    lm_weight: float = option(
        0.1, "Weight of the language model's loss, added to the classifier's; 0 removes it.", low=0
    )
    weight_decay: float = option(0.01, "Weight decay of AdamW for matrices.", low=0)
    clip: float = option(1.0, "Largest norm of the gradient; 0 turns clipping off.", low=0)
    ema: float = option(
        0.98, "Decay of the running average of the weights; 0 is off.", low=0, below=1
    )
    class_weights: bool = option(
        True, "Weight each class by the inverse of its share, so that rare classes count equally."
    )
    patience: int | None = option(
        None,
        "Stop after this many evaluations without a better macro-F1 (default: never).",
        low=1,
        heading="Evaluation",
    )
    evaluations: int = option(
        5, "Number of evaluations on the validation texts in a run.", low=1, heading="Evaluation"
    )
    eval_every: int | None = option(
        None,
        "Steps between evaluations (default: given by --evaluations).",
        low=1,
        heading="Evaluation",
    )
    checkpoint_every: int | None = option(
        None, "Steps between checkpoints (default: every minute).", low=1, heading="Output"
    )
    device: str = DEVICE
    precision: str = PRECISION
    threads: int | None = THREADS
    deterministic: bool = DETERMINISTIC

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.valid is not None and self.valid_fraction:
            raise ConfigError("--valid and --valid-fraction exclude each other: give one of them")
        if self.unlabelled and self.adapt is None and not self.ngrams:
            raise ConfigError(
                "--unlabelled needs --adapt or the n-grams: give --adapt MINUTES, or leave "
                "--no-ngrams out"
            )
        if self.from_scratch and self.method == "probe":
            raise ConfigError("--method probe needs a trained encoder: leave --from-scratch out")


@dataclass(frozen=True)
class CompareConfig(Options):
    """Which systems are compared, and on how many labels."""

    heading: ClassVar[str] = "Model"

    models: str | None = option(
        None,
        f"Systems, separated by commas: {', '.join(TFIDF)}; with --encoder also "
        f"{', '.join(OURS)} (default: all but scratch).",
        empty=True,
        metavar="NAMES",
    )
    labels: int | None = option(
        None, "Use only this many labelled texts (stratified).", low=2, heading="Text"
    )
    valid_fraction: float = option(
        0.1,
        "Share of the labelled texts that classifiers trained in steps keep for validation.",
        above=0,
        below=1,
        heading="Text",
    )
    encoder: tuple[str, ...] = option(
        (),
        "Language model for chargen's classifiers; a forward and a backward one may be given.",
        metavar="DIR",
    )
    unlabelled: str | None = option(
        None,
        "Texts of the same kind without labels, for the probe and the fine-tuned classifier.",
        metavar="PATH",
        heading="Text",
    )
    classifier: tuple[str, ...] = option(
        (),
        "Trained classifier to evaluate only; may be given several times.",
        metavar="DIR",
    )
    minutes: float | None = option(
        None,
        "Train each classifier but the probe for this many minutes.",
        above=0,
        below=MAX_BUDGET,
        heading="Budget",
    )
    epochs: float | None = option(
        None,
        "Train each classifier but the probe for this many passes over the texts.",
        above=0,
        below=MAX_BUDGET,
        heading="Budget",
    )
    seed: int = like(SEED, heading="Optimisation")
    device: str = DEVICE
    threads: int | None = THREADS

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self._named:
            if name not in SYSTEMS:
                hint = did_you_mean(name, SYSTEMS)
                known = ", ".join(SYSTEMS)
                raise ConfigError(f"--models must be some of {known}; got {name!r}{hint}")
            if name in OURS and not self.encoder:
                raise ConfigError(f"--models {name} needs a language model: give --encoder DIR")
        for name, systems in USED_BY.items():
            if getattr(self, name) == getattr(CompareConfig, name):
                continue
            option_name = f"--{name.replace('_', '-')}"
            if not self.encoder:
                raise ConfigError(f"{option_name} needs --encoder: give --encoder DIR")
            if not set(systems) & set(self.systems):
                raise ConfigError(
                    f"{option_name} is for {' and '.join(systems)}: name one of them in --models"
                )
        if not self.systems and not self.classifier:
            raise ConfigError("--models names nothing to compare: leave it out, or name a system")

    @property
    def _named(self) -> tuple[str, ...]:
        if self.models is None:
            return TFIDF
        names = (name.strip().lower() for name in self.models.split(","))
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def systems(self) -> tuple[str, ...]:
        """The names of the systems that are trained, in the order of the table.

        With an encoder and none of ours among `models`, the probe and the fine-tuned are added.
        """
        names = self._named
        if self.encoder and not set(names) & set(OURS):
            names = (*names, "probe", "finetuned")
        return names
