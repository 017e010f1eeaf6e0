"""Options of `chargen sample` that choose the class of what is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chargen.cli.options import option
from chargen.cli.terminal import say
from chargen.errors import ConfigError

Command = Callable[..., Any]

STRENGTH = 2.0
"""Where the effect is plain and the text still about as likely (benchmarks/results, sentiment)."""

STEERING = ("steer", "strength", "steer_data", "steer_with")
"""Names of the options below."""


def steering_options(command: Command) -> Command:
    """Add --steer and what belongs to it."""
    for add in reversed(
        (
            option(
                "--steer",
                heading="Steering",
                metavar="LABEL",
                help="Write text of this class: hold what the model keeps in mind on its side.",
            ),
            option(
                "--strength",
                heading="Steering",
                type=float,
                help="How far: 1 is one standard deviation to the class's side, 0 not at all "
                "(default: 2).",
            ),
            option(
                "--steer-data",
                heading="Steering",
                metavar="FILE",
                help="Labelled texts to find the class's side by (default: what the checkpoint "
                "has stored).",
            ),
            option(
                "--steer-with",
                heading="Steering",
                metavar="DIR",
                help="A classifier to find it by: it labels texts that the model writes.",
            ),
        )
    ):
        command = add(command)
    return command


def check_steering(options: dict[str, Any]) -> None:
    """Refuse what does not go together, before anything is loaded.

    Raises
    ------
    ConfigError
    """
    if options["steer"] is None:
        for name in ("strength", "steer_data", "steer_with"):
            if options[name] is not None:
                given = "--" + name.replace("_", "-")
                raise ConfigError(f"{given} belongs to --steer: name the class with --steer LABEL")
    if options["steer_data"] is not None and options["steer_with"] is not None:
        raise ConfigError("--steer-data and --steer-with both find the direction; give one of them")


def steered(lm: Any, options: dict[str, Any], quiet: bool = False) -> Any:
    """The language model as the options ask for it; itself where they ask for nothing.

    Returns
    -------
    chargen.language_model.LanguageModel
    """
    if options["steer"] is None:
        return lm
    strength = STRENGTH if options["strength"] is None else options["strength"]
    steering = _find(lm, strength, options, quiet)
    if not quiet:
        say(f"note: steered by {steering.source}")
    return steering.steered(lm, options["steer"], strength)


def _find(lm: Any, strength: float, options: dict[str, Any], quiet: bool) -> Any:
    from chargen.sentiment.directions import fit_steering, fit_with_classifier, stored_steering
    from chargen.sentiment.steering import check_wish

    if options["steer_data"] is not None:
        from chargen.sentiment.config import ExamplesConfig
        from chargen.sentiment.examples import read_examples

        trained = lm.checkpoint.document("config").get("corpus", {}).get("config", {})
        config = ExamplesConfig(clean=trained.get("clean"))
        examples = read_examples(options["steer_data"], config)
        for note in () if quiet else examples.notes:
            say(f"note: {note}")
        check_wish(options["steer"], strength, examples.classes)
        return fit_steering(lm, examples)
    if options["steer_with"] is not None:
        from chargen.cli.options import load_classifier

        classifier = load_classifier(options["steer_with"], str(lm.decoder.device))
        check_wish(options["steer"], strength, classifier.labels)
        return fit_with_classifier(lm, classifier)
    steering = stored_steering(lm)
    if steering is None:
        raise ConfigError(
            "--steer needs to know the classes, and the checkpoint has no steering stored: give "
            "labelled texts with --steer-data FILE, or a classifier with --steer-with DIR"
        )
    return steering
