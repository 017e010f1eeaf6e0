"""`chargen train`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from chargen.cli.groups import Command
from chargen.cli.options import (
    json_option,
    option,
    options_of,
    quiet_option,
    resume_budget,
    resume_option,
)
from chargen.cli.progress import reporter_for
from chargen.cli.terminal import echo_json, say, visible
from chargen.lm.config import REPLAY_SHARE, ModelConfig, TrainConfig
from chargen.runtime import distributed
from chargen.text.config import CorpusConfig


@click.command(cls=Command, heading="Train and write")
@click.argument("corpora", nargs=-1, metavar="CORPUS...")
@option(
    "--out",
    heading="Output",
    type=click.Path(),
    help="Checkpoint to write (default: checkpoints/ and the name of the corpus).",
)
@resume_option
@option(
    "--from",
    "start_from",
    heading="Model",
    type=click.Path(),
    metavar="DIR",
    help="Start from the weights of a trained model; new characters are added to its vocabulary.",
)
@option(
    "--replay",
    heading="Text",
    metavar="CORPUS",
    help="With --from: old text that is mixed in, so that the model does not forget it.",
)
@option(
    "--replay-share",
    heading="Text",
    type=float,
    default=REPLAY_SHARE,
    metavar="SHARE",
    help="Share of old text in all text that is read.",
)
@option(
    "--cool-down",
    heading="Output",
    type=float,
    metavar="MINUTES",
    help="With --resume and --out: let the learning rate of a copy fall to zero; the run itself "
    "is not "
    "changed.",
)
@option("--force", heading="Output", is_flag=True, help="Replace a checkpoint that exists.")
@option(
    "--tensorboard",
    heading="Output",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Folder for event files of TensorBoard.",
)
@options_of(TrainConfig)
@options_of(ModelConfig)
@options_of(CorpusConfig)
@json_option
@quiet_option
def train(
    corpora: tuple[str, ...],
    out: str | None,
    resumed: str | None,
    cool_down: float | None,
    force: bool,
    tensorboard: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Train a language model on your text.

    CORPUS is a file (plain, .gz, .bz2, .xz, .zst, .csv, .tsv, .jsonl, .json), a folder, - for
    stdin, an address, or a name (python-docs, ...; see `chargen corpus list`). Values that you
    do not give are chosen from the size of the corpus and the budget; the main ones are printed,
    and `chargen info` shows all.

    \b
    chargen train mybook.txt --minutes 10
    chargen train drafts/ --glob '*.md' --out checkpoints/drafts --epochs 20
    xzcat old.xz | chargen train - --out checkpoints/old --encoding latin-1
    chargen train more.txt --from checkpoints/mybook --replay mybook.txt
    chargen train --resume checkpoints/drafts
    chargen train --resume checkpoints/drafts --cool-down 5 --out cooled

    On several processes or machines: `torchrun --nproc-per-node 2 -m chargen train ...`
    """
    import chargen

    reporting: dict[str, Any] = {"reporter": reporter_for(quiet), "tensorboard": tensorboard}
    if resumed is not None:
        copied = ("cool_down", "out") if cool_down is not None else ()
        budget = resume_budget(click.get_current_context(), copied)
        copy = out if cool_down is not None else None  # --out of a file or variable: for new runs
        result = chargen.resume(resumed, cool_down=cool_down, out=copy, **reporting, **budget)
    elif not corpora:
        raise click.UsageError("CORPUS is missing: give a text, or --resume DIR")
    elif cool_down is not None:
        raise click.UsageError("--cool-down needs --resume DIR")
    else:
        # With --from, an option that is given counts even if its value is the default.
        source_of = click.get_current_context().get_parameter_source
        chosen = {k: v for k, v in options.items() if source_of(k) is not ParameterSource.DEFAULT}
        result = chargen.train(corpora, out, force=force, **reporting, **chosen)
    if not distributed.is_main():
        return 0  # torchrun would end the other ranks at the first nonzero code
    _report_result(result, as_json, quiet)
    if result.finished and result.worse_than_uniform:
        say(
            f"chargen: {result.directory} is worse than a uniform guess over all symbols, "
            f"{result.valid_bits:.1f} bits per character against {result.uniform_bits:.1f}: train "
            "again with a lower --learning-rate"
        )
        return 1
    return 0 if result.finished else 128 + signal.SIGINT


def _report_result(result: Any, as_json: bool, quiet: bool) -> None:
    if as_json:
        values = {k: str(v) if isinstance(v, Path) else v for k, v in vars(result).items()}
        echo_json(values)
    elif result.finished:
        if result.valid_bits is not None:
            click.echo(
                f"validation: {result.valid_bits:.4f} bits per character "
                f"({result.valid_nats:.4f} nats), {result.steps} steps in {result.seconds:.0f} s"
            )
        click.echo("sample:")
        click.echo(visible(result.sample))
        click.echo(visible(f"saved to {result.directory}"))
    if not result.finished:
        say(
            f"stopped at step {result.steps}; continue with: chargen train --resume "
            f"{result.directory}"
        )
    elif not quiet and not as_json:
        say(f"to write with it: chargen sample {result.directory}")
