"""How labelled data is read, how a classifier is built, and how it is fine-tuned.

Imports neither torch nor numpy: the command line builds its options from the fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chargen.errors import ConfigError
from chargen.lm.config import PRECISIONS, check_choice, check_flag, check_number, option
from chargen.text.config import AUTO_ENCODING, is_text_encoding

METHODS = ("finetune", "probe")
PENALTIES = ("l2", "l1")


@dataclass(frozen=True)
class ExamplesConfig:
    """How texts and labels are read from tables and folders.

    Raises
    ------
    ConfigError
        Where a value cannot work; the message names the option.
    """

    heading: ClassVar[str] = "Text"

    text_column: str | None = option(
        None, "Column that holds the text (default: found by its usual names).", metavar="NAME"
    )
    label_column: str | None = option(
        None, "Column that holds the label (default: found by its usual names).", metavar="NAME"
    )
    clean: str | None = option(
        None, "Turn tags and entities into text before anything else.", choices=("html",)
    )
    encoding: str = option("utf-8", "Encoding of the files; 'auto' guesses it.")
    errors: str = option(
        "strict",
        "Stop at bytes that cannot be decoded, or read them as U+FFFD.",
        choices=("strict", "replace"),
    )

    def __post_init__(self) -> None:
        for name in ("text_column", "label_column"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise ConfigError(f"--{name.replace('_', '-')} must not be empty, got {value!r}")
        if self.clean not in (None, "html"):
            raise ConfigError(f"--clean must be 'html', got {self.clean!r}")
        check_choice(self, "errors", ("strict", "replace"))
        if not isinstance(self.encoding, str) or not (
            self.encoding == AUTO_ENCODING or is_text_encoding(self.encoding)
        ):
            raise ConfigError(
                "--encoding must be 'auto' or a text encoding that Python knows, "
                f"got {self.encoding!r}"
            )


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of what stands on the encoder.

    Raises
    ------
    ConfigError
        Where a value cannot work; the message names the option.
    """

    heading: ClassVar[str] = "Model"

    num_classes: int = 2
    detectors: int = option(
        256, "Units that look at each time step before pooling (D); 0 pools the states alone."
    )
    head_size: int = option(
        50, "Units of the layer between the pooled states and the classes; 0 leaves it out."
    )
    head_dropout: float = option(0.3, "Dropout on the pooled states and in the head.")

    def __post_init__(self) -> None:
        check_number(self, "num_classes", low=2, whole=True)
        check_number(self, "detectors", low=0, whole=True)
        check_number(self, "head_size", low=0, whole=True)
        check_number(self, "head_dropout", low=0, below=1)


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of a fine-tuning run.

    At most one of `minutes` and `epochs` is the budget; without either the number of labels
    decides (see `chargen.sentiment.finetune`).

    Raises
    ------
    ConfigError
        Where a value cannot work; the message names the option.
    """

    heading: ClassVar[str] = "Optimisation"

    method: str = option(
        "finetune",
        "Train head and encoder, or a logistic regression on the frozen encoder.",
        choices=METHODS,
        heading="Model",
    )
    penalty: str = option(
        "l2",
        "Regularisation of the probe; l1 leaves few units.",
        choices=PENALTIES,
        heading="Model",
    )
    minutes: float | None = option(
        None, "Train for this long; the schedule ends with it.", heading="Budget"
    )
    epochs: float | None = option(
        None, "Train for this many passes over the labelled texts.", heading="Budget"
    )
    labels: int | None = option(
        None, "Use only this many labelled texts (stratified).", heading="Text"
    )
    valid: str | None = option(
        None, "Labelled file or folder to validate on.", metavar="DATA", heading="Text"
    )
    valid_fraction: float = option(
        0.1, "Share of the labelled texts kept for validation.", heading="Text"
    )
    seed: int = option(0, "Seed of every random choice.")
    from_scratch: bool = option(
        False,
        "The same network from random weights, to see what the encoder is worth.",
        heading="Model",
    )
    unlabelled: str | None = option(
        None,
        "Texts of the same kind without labels, for --adapt and the n-grams.",
        metavar="PATH",
        heading="Text",
    )
    adapt: float | None = option(
        None,
        "First let the language model read labelled and unlabelled texts for MINUTES.",
        metavar="MINUTES",
        heading="Budget",
    )
    ngrams: bool = option(
        True,
        "Let a linear model over character n-grams vote beside the network.",
        heading="Model",
    )
    batch_size: int = option(32, "Texts of a step (B), at least 2: one text has no variance.")
    window: int = option(
        1000, "Characters at the end of a text through which gradients flow (truncated BPTT)."
    )
    learning_rate: float = option(2e-3, "Highest learning rate of the head.")
    encoder_rate: float = option(
        0.5, "Learning rate of the encoder's last layer, as a share of the head's."
    )
    layer_decay: float = option(
        2.6, "Each earlier layer learns this many times slower (Howard & Ruder 2018)."
    )
    unfreeze: float = option(
        0.1, "Share of the run after which each next layer begins to learn; 0: all at once."
    )
    lm_weight: float = option(
        0.1, "Weight of the language model's loss beside the classifier's; 0 drops it."
    )
    weight_decay: float = option(0.01, "AdamW's decay of matrices.")
    clip: float = option(1.0, "Largest norm of the gradient; 0 turns clipping off.")
    ema: float = option(0.98, "Decay of the running average of the weights; 0 is off.")
    class_weights: bool = option(
        True, "Weigh each class by the inverse of its share, so that rare ones count."
    )
    patience: int | None = option(
        None,
        "Stop after this many evaluations without a better macro-F1 (default: never).",
        heading="Evaluation",
    )
    evaluations: int = option(
        5, "Evaluations on the validation texts in a run.", heading="Evaluation"
    )
    eval_every: int | None = option(
        None, "Steps between evaluations (default: as --evaluations says).", heading="Evaluation"
    )
    checkpoint_every: int | None = option(
        None, "Steps between checkpoints (default: every minute).", heading="Output"
    )
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
        if self.minutes is not None and self.epochs is not None:
            raise ConfigError("--minutes and --epochs are both budgets; give one of them")
        check_choice(self, "method", METHODS)
        check_choice(self, "penalty", PENALTIES)
        check_choice(self, "precision", PRECISIONS)
        for name in ("minutes", "epochs", "adapt", "learning_rate", "encoder_rate"):
            check_number(self, name, above=0)
        for name in ("labels", "patience", "evaluations", "eval_every", "checkpoint_every"):
            check_number(self, name, low=1, whole=True)
        check_number(self, "threads", low=1, whole=True)
        for name in ("batch_size", "window"):
            check_number(self, name, low=2, whole=True)
        check_number(self, "layer_decay", low=1)
        check_number(self, "unfreeze", low=0, below=0.5)
        check_number(self, "valid_fraction", low=0, below=1)
        for name in ("lm_weight", "weight_decay", "clip"):
            check_number(self, name, low=0)
        check_number(self, "ema", low=0, below=1)
        check_number(self, "seed", low=0, below=2**63, whole=True)
        for name in ("from_scratch", "ngrams", "class_weights", "deterministic"):
            check_flag(self, name)
        if self.unlabelled and self.adapt is None and not (self.ngrams and self.method != "probe"):
            raise ConfigError("--unlabelled is for --adapt and the n-grams, and neither is on")
        if self.from_scratch and self.method == "probe":
            raise ConfigError(
                "--method probe needs what an encoder learnt: leave --from-scratch out"
            )
