"""`chargen sentiment explain`."""

from __future__ import annotations

import dataclasses
import shutil
import sys
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
from chargen.cli.sentiment.verdicts import note_unknown, refuse_file
from chargen.cli.terminal import colour_by_default, say, say_notes, visible, visible_json
from chargen.errors import ConfigError
from chargen.options import split_options
from chargen.sentiment.config import ExamplesConfig

UNIT_TEXTS = 2000
"""Maximum number of labelled texts in which the most telling unit is searched for."""

LISTED_WORDS = 12
"""Number of words in the table."""


@click.command(cls=Command)
@model_argument
@click.argument("text")
@option(
    "--label",
    heading="Explanation",
    help="Label whose log-odds are shown (default: the second of two).",
)
@option(
    "--leave-out/--no-leave-out",
    "leaving_out",
    heading="Explanation",
    default=None,
    help="Also classify the text without each word (default: if that takes only seconds).",
)
@option(
    "--html",
    "html_file",
    heading="Output",
    metavar="FILE",
    help="Write a self-contained HTML page.",
)
@option("--png", "png_file", heading="Output", metavar="FILE", help="Write a picture.")
@option(
    "--unit",
    "unit_data",
    heading="Explanation",
    metavar="DATA",
    help="Labelled texts; find the unit of the encoder that separates them best (Radford et al. "
    "2017).",
)
@option(
    "--histogram",
    heading="Output",
    metavar="FILE",
    help="Draw the values of that unit by class (PNG).",
)
@option("--force", heading="Output", is_flag=True, help="Replace files that exist.")
@option(
    "--color/--no-color",
    heading="Output",
    default=None,
    help="Colour the text (default: on a terminal).",
)
@options_of(ExamplesConfig, leave_out=("clean",))
@options_of(MachineConfig, leave_out=("precision",))
@json_option
@quiet_option
def explain(
    directory: str,
    text: str,
    label: str | None,
    leaving_out: bool | None,
    html_file: str | None,
    png_file: str | None,
    unit_data: str | None,
    histogram: str | None,
    force: bool,
    color: bool | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Show how the verdict changes along a text.

    TEXT may be - for stdin. The colour of a character shows the verdict that the text would get if
    it ended there. A list shows the words with the largest effect, in nats: how much the log-odds
    change when the word is read, and how much they fall if it is left out. The first words of a
    text change the log-odds whatever they mean.

    \b
    chargen sentiment explain sentiment "Not as bad as I had feared."
    chargen sentiment explain sentiment - --html page.html < review.txt
    chargen sentiment explain sentiment "So so." --label pos --png it.png
    """
    if histogram is not None and unit_data is None:
        raise ConfigError("--histogram needs a unit: give labelled texts with --unit DATA")
    files = {"--html": html_file, "--png": png_file, "--histogram": histogram}
    check_files(files, force, picture_options=("--png", "--histogram"))
    config, machine = split_options(options, ExamplesConfig, MachineConfig)
    given = config.table_options + ["--label-map"] * (config.label_map is not None)
    if unit_data is None and given:
        raise ConfigError(f"{given[0]} is for labelled texts: give them with --unit DATA")
    refuse_file(text, "give its contents, or - for stdin")
    classifier = load_classifier(directory, machine)
    from chargen.sentiment.explain import explain as explained
    from chargen.sentiment.explain import is_quick, leave_out

    explanation = explained(classifier, _read_text(text, config, quiet), label)
    if not explanation.text.strip():
        raise ConfigError("TEXT is empty: there is nothing to explain")
    if is_quick(explanation) if leaving_out is None else leaving_out:
        explanation = leave_out(classifier, explanation)
    unit = values = None
    if unit_data is not None:
        unit, values = _find_unit(classifier, explanation, unit_data, config, quiet)
    _write_files(files, explanation, unit, values)
    if not quiet:
        note_unknown(classifier.unknown_characters(explanation.text, cleaned=True))
    if as_json:
        from chargen.text.table_writer import json_line

        facts = explanation.to_dict()
        if unit is not None and values is not None:
            facts["unit"] = unit.to_dict() | {"trace": [round(v, 6) for v in values.tolist()]}
        click.echo(visible_json(json_line(facts)))
    else:
        _show(explanation, unit, colour_by_default() if color is None else color)


def _read_text(text: str, config: ExamplesConfig, quiet: bool) -> str:
    """Return TEXT, with bytes that are not UTF-8 replaced, or the text on stdin if it is -."""
    from chargen.text.decoding import decode, replace_invalid

    if text != "-":
        return replace_invalid(text, "replace", str)
    notes: list[str] = []
    data = [sys.stdin.buffer.read()]
    pieces = decode(data, "standard input", config.encoding, config.errors, notes)
    text = "".join(pieces).removesuffix("\n")
    say_notes(() if quiet else notes)
    return text


def _find_unit(
    classifier: Any, explanation: Any, data: str, config: ExamplesConfig, quiet: bool
) -> tuple[Any, Any]:
    from chargen.sentiment.examples import read_examples
    from chargen.sentiment.explain import encoder_features, find_unit, unit_trace
    from chargen.sentiment.splitting import subset

    member = classifier.require_network()
    config = dataclasses.replace(config, clean=classifier.clean)
    examples = read_examples(data, config, classifier.labels)
    say_notes(() if quiet else examples.notes)
    if len(examples) > UNIT_TEXTS:
        if not quiet:
            say(f"note: the unit is searched for in {UNIT_TEXTS:,} of {len(examples):,} texts")
        examples = subset(examples, UNIT_TEXTS, seed=0)
    features = encoder_features(member, examples.texts)
    unit = find_unit(features, examples.labels, explanation.label)
    return unit, unit_trace(member, explanation.text, unit.index)


# ---------------------------------------------------------------- files


def _write_files(files: dict[str, str | None], explanation: Any, unit: Any, values: Any) -> None:
    from chargen.storage.whole_files import write_file

    if name := files["--html"]:
        from chargen.plotting.explanation import page

        write_file(name, page(explanation, unit, values).encode("utf-8", "replace"))
    if name := files["--png"]:
        from chargen.plotting.explanation import explanation_figure

        write_file(name, explanation_figure(explanation))
    if name := files["--histogram"]:
        from chargen.plotting.explanation import unit_histogram

        write_file(name, unit_histogram(unit))


# ---------------------------------------------------------------- the terminal

# Background colours of a 256-colour terminal, from faint to strong; all suit black letters.
_BELOW = (223, 222, 216, 215, 208)
_ABOVE = (195, 159, 117, 81, 39)


def _paint(text: str, step: int) -> str:
    if step == 0:
        return visible(text)
    return click.style(visible(text), fg=16, bg=(_ABOVE if step > 0 else _BELOW)[abs(step) - 1])


def _painted_lines(explanation: Any) -> str:
    """Return the coloured text in lines that fit; a terminal would break them within words."""
    from chargen.plotting.explanation import curve_steps
    from chargen.plotting.painting import pieces_by_step, wrapped_lines

    text, columns = explanation.text, max(20, shutil.get_terminal_size().columns)
    steps = curve_steps(explanation)
    return "\n".join(
        "".join(_paint(*run) for run in pieces_by_step(text[start:end], steps[start:end]))
        for start, end in wrapped_lines(text, columns)
    )


def _show(explanation: Any, unit: Any, color: bool) -> None:
    from chargen.plotting.painting import STEPS

    def out(line: str) -> None:
        click.echo(line, color=color)

    label, others = visible(explanation.label), visible(explanation.others)
    probabilities = ", ".join(
        f"{visible(name)} {share:.3f}" for name, share in explanation.probabilities.items()
    )
    out(f"{visible(explanation.verdict)}  ({probabilities})")
    if color:
        out("\n" + _painted_lines(explanation) + "\n")
        scale = "".join(
            click.style("  ", bg=(_ABOVE if step > 0 else _BELOW)[abs(step) - 1]) if step else "  "
            for step in range(-STEPS, STEPS + 1)
        )
        out(f"{others} {scale} {label}   if the text ended there\n")
    _show_words(explanation, out)
    if unit is not None:
        side = "above" if unit.above else "below"
        out(
            f"\nmost telling unit: {unit.index} ({unit.pooling}), {visible(unit.label)} {side} "
            f"{unit.threshold:.4f}; alone it has a balanced accuracy of {unit.accuracy:.1%}"
        )


def _show_words(explanation: Any, out: Any) -> None:
    """Print the strongest words in the order of the text, with signed moves."""
    words = sorted(explanation.strongest(LISTED_WORDS), key=lambda word: word.start)
    if not words:
        return
    left_out = words[0].left_out is not None
    label = visible(explanation.label)
    out(f"{'move':>7}{'  left out' if left_out else ''}  word   (above 0: towards {label})")
    for word in words:
        without = f"  {word.left_out:>+8.2f}" if left_out else ""
        out(f"{word.move:>+7.2f}{without}  {visible(word.text)}")
