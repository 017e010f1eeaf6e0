"""Options of `chargen sample` that steer the text towards a class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from chargen.cli.options import MachineConfig, load_classifier
from chargen.cli.terminal import say, say_notes
from chargen.errors import ConfigError
from chargen.options import Options, flag, option
from chargen.sentiment.config import ExamplesConfig
from chargen.text.config import CorpusConfig

STRENGTH = 2.0
"""Default: a clear effect on text that stays about as likely (benchmarks/results, sentiment)."""


@dataclass(frozen=True)
class SteeringConfig(Options):
    """Class to steer to, strength, and source of the vector; checked before anything is loaded."""

    heading: ClassVar[str] = "Steering"

    steer: str | None = option(
        None,
        "Write text of this class, by shifting the model's hidden state towards it.",
        metavar="LABEL",
    )
    strength: float | None = option(
        None,
        "Size of the shift: 1 is one standard deviation towards the class, 0 is none (default: 2).",
    )
    steer_data: str | None = option(
        None,
        "Labelled texts that define the classes, read as by `chargen sentiment train` (default: "
        "the steering stored in the checkpoint).",
        metavar="FILE",
    )
    steer_with: str | None = option(
        None,
        "Classifier that defines the classes: it labels texts that the model writes.",
        metavar="DIR",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, _ in self.typed_fields():
            if self.steer is None and getattr(self, field.name) is not None:
                raise ConfigError(f"{flag(field)} needs --steer: name the class with --steer LABEL")
        if self.steer_data is not None and self.steer_with is not None:
            raise ConfigError("--steer-data and --steer-with exclude each other: give one of them")


def steered_model(
    lm: Any, config: SteeringConfig, reading: ExamplesConfig, quiet: bool = False
) -> Any:
    """Return the model steered as `config` says; `reading` says how labelled texts are read.

    Raises `ConfigError` if options do not fit each other or the model.
    """
    if config.steer_data is None and reading != ExamplesConfig():
        flag_name = next(
            "--no-header" if field.name == "header" else flag(field)
            for field, _ in reading.typed_fields()
            if getattr(reading, field.name) != getattr(ExamplesConfig(), field.name)
        )
        raise ConfigError(f"{flag_name} needs labelled texts: give --steer-data FILE")
    if config.steer is None:
        return lm
    if lm.raw:
        raise ConfigError(
            "--steer needs a model of text, and this model was trained on raw bytes: leave "
            "--steer out"
        )
    strength = STRENGTH if config.strength is None else config.strength
    steering = _find_steering(lm, strength, config, reading, quiet)
    if not quiet:
        say(f"note: steered by {steering.source}")
    return lm.steered(steering, config.steer, strength)


def _find_steering(
    lm: Any, strength: float, config: SteeringConfig, reading: ExamplesConfig, quiet: bool
) -> Any:
    from chargen.sampling import steering as vectors

    label = config.steer or ""
    if config.steer_data is not None:
        from chargen.sentiment.examples import read_examples

        reading = replace(reading, clean=lm.reading(CorpusConfig()).clean)
        examples = read_examples(config.steer_data, reading)
        say_notes(() if quiet else examples.notes)
        vectors.check_class_and_strength(label, strength, examples.classes)
        return vectors.fit_steering(lm, examples.texts, examples.labels, examples.source)
    if config.steer_with is not None:
        machine = MachineConfig(device=str(lm.decoder.device))
        classifier = load_classifier(config.steer_with, machine)
        vectors.check_class_and_strength(label, strength, classifier.labels)
        return vectors.fit_with_classifier(lm, classifier.predict, classifier.labels)
    steering = vectors.stored_steering(lm.checkpoint)
    if steering is None:
        raise ConfigError(
            "--steer needs a definition of the classes, and the checkpoint has none stored: give "
            "labelled texts with --steer-data FILE, or a classifier with --steer-with DIR"
        )
    return steering
