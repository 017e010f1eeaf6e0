"""`chargen sentiment evaluate`."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import click

from chargen.cli.groups import Command
from chargen.cli.options import (
    MachineConfig,
    check_files,
    json_option,
    load_classifier,
    model_argument,
    option,
    options_of,
    quiet_option,
)
from chargen.cli.sentiment.verdicts import RowProgress, aligned, note_unknown
from chargen.cli.terminal import echo_json, say_notes, visible
from chargen.options import split_options
from chargen.sentiment.config import ExamplesConfig

_NAMES = {
    "texts": "texts",
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "log_loss": "log loss",
    "ece": "calibration error",
}


@click.command(cls=Command)
@model_argument
@click.argument("data", metavar="DATA")
@option("--confusion", heading="Output", metavar="FILE", help="Draw the confusion matrix (PNG).")
@option(
    "--reliability",
    heading="Output",
    metavar="FILE",
    help="Draw accuracy against confidence (PNG).",
)
@option("--force", heading="Output", is_flag=True, help="Replace files that exist.")
@options_of(ExamplesConfig)
@options_of(MachineConfig)
@json_option
@quiet_option
def evaluate(
    directory: str,
    data: str,
    confusion: str | None,
    reliability: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Measure the quality of a classifier on labelled texts.

    DATA has the same form as for `chargen sentiment train`. The labels must be those of training.
    Texts are cleaned as in training; --clean cleans them even if training did not.

    \b
    chargen sentiment evaluate sentiment reviews.csv.xz
    chargen sentiment evaluate sentiment imdb:test --json
    chargen sentiment evaluate sentiment opinions --confusion confusion.png
    """
    drawn = {"--confusion": confusion, "--reliability": reliability}
    check_files(drawn, force, picture_options=tuple(drawn))
    config, machine = split_options(options, ExamplesConfig, MachineConfig)
    from chargen.sentiment import metrics

    metrics.require_sklearn("evaluation")
    classifier = load_classifier(directory, machine)
    config = replace(config, clean=classifier.clean or config.clean)
    from chargen.sentiment.examples import read_examples

    examples = read_examples(data, config, classifier.labels)
    missing = metrics.missing_classes_warning(examples.source, examples.classes, classifier.labels)
    if not quiet:
        say_notes((*examples.notes, *filter(None, [missing])))
        characters = "".join(dict.fromkeys(chain.from_iterable(examples.texts)))
        note_unknown(classifier.unknown_characters(characters, cleaned=True))
    probabilities = _probabilities(classifier, examples.texts, quiet)
    figures = metrics.evaluate(examples.labels, probabilities, classifier.labels)
    _draw(drawn, figures, examples.labels, probabilities)
    if as_json:
        echo_json(figures)
        return
    for key, name in _NAMES.items():
        value = figures[key]
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        click.echo(f"{name:24}{shown:>12}")
    click.echo()
    click.echo(visible(aligned(_class_table(figures))))
    click.echo()
    click.echo("rows: true label, columns: predicted label")
    click.echo(visible(aligned(_confusion_table(figures))))


def _draw(
    files: dict[str, str | None],
    figures: dict[str, Any],
    labels: tuple[str, ...],
    probabilities: Any,
) -> None:
    from chargen.plotting.classification import confusion_matrix, reliability_diagram
    from chargen.storage.whole_files import write_file

    if name := files["--confusion"]:
        write_file(name, confusion_matrix(figures))
    if name := files["--reliability"]:
        write_file(name, reliability_diagram(figures, labels, probabilities))


def _probabilities(classifier: Any, texts: tuple[str, ...], quiet: bool) -> Any:
    """Return the probabilities of all texts, (N, C), and show progress on stderr."""
    import numpy as np

    progress = None if quiet else RowProgress("texts")
    chunks = []
    done = 0
    try:
        for chunk in classifier.predict_batches(texts, cleaned=True):
            chunks.append(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, done / len(texts))
    finally:
        if progress is not None:
            progress.close()
    return np.concatenate(chunks)


def _class_table(figures: dict[str, Any]) -> list[list[str]]:
    rows = [["label", "precision", "recall", "F1", "texts"]]
    for label, values in figures["per_class"].items():
        numbers = [f"{values[key]:.4f}" for key in ("precision", "recall", "f1")]
        rows.append([visible(label), *numbers, f"{values['support']:,}"])
    return rows


def _confusion_table(figures: dict[str, Any]) -> list[list[str]]:
    labels = [visible(label) for label in figures["labels"]]
    rows = [["", *labels]]
    for label, counts in zip(labels, figures["confusion"], strict=True):
        rows.append([label, *(f"{count:,}" for count in counts)])
    return rows
