"""`chargen sample`."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from chargen.cli.groups import Command
from chargen.cli.options import (
    MachineConfig,
    json_option,
    load_model,
    model_argument,
    option,
    options_of,
    quiet_option,
)
from chargen.cli.steering import SteeringConfig, steered_model
from chargen.cli.terminal import echo_json, say, visible, write_incrementally
from chargen.errors import ChargenError, ConfigError, CorpusError, enumerated, spelled
from chargen.options import SEED, split_options
from chargen.sampling.config import SamplingConfig
from chargen.sentiment.config import ExamplesConfig


@click.command(cls=Command, heading="Train and write")
@model_argument
@option("--prompt", heading="Prompt", help="Text to continue; - reads stdin.")
@option(
    "--prompt-file",
    heading="Prompt",
    type=click.Path(),
    help="UTF-8 file with the text to continue; - reads stdin.",
)
@option(
    "--num-samples",
    heading="Drawing",
    type=click.IntRange(min=1),
    default=1,
    help="Number of texts; they are drawn as one batch.",
)
@options_of(SamplingConfig)
@options_of(SteeringConfig)
@options_of(ExamplesConfig, leave_out=("clean",))
@option(
    "--interactive",
    heading="Output",
    is_flag=True,
    help="Write together with the model: accept, draw again, edit.",
)
@option(
    "--raw",
    heading="Output",
    is_flag=True,
    help="Print control characters too (unsafe on a terminal).",
)
@options_of(MachineConfig)
@json_option
@quiet_option
def sample(
    directory: str,
    prompt: str | None,
    prompt_file: str | None,
    num_samples: int,
    interactive: bool,
    raw: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Write text with a model.

    The output is the prompt and its continuation. The same seed gives the same text; of several
    texts, text i has the seed + i. Without --seed a new seed is drawn and printed on stderr.
    Several texts are drawn faster with --precision bfloat16 or auto; a single text always uses
    float32.

    \b
    chargen sample checkpoints/mybook --prompt 'It was' --temperature 0.7
    chargen sample checkpoints/mybook --top-k 40 --num-samples 5 --seed 7 --json
    chargen sample checkpoints/names --num-samples 20
    chargen sample checkpoints/mybook --interactive
    chargen sample reviews --prompt 'This film' --steer pos
    """
    owners = (SamplingConfig, SteeringConfig, ExamplesConfig, MachineConfig)
    config, steering, reading, machine = split_options(options, *owners)
    if interactive and (as_json or num_samples > 1):
        raise ConfigError(
            "--interactive writes one text on the terminal: leave --json and --num-samples out"
        )
    if interactive and "-" in (prompt, prompt_file):
        raise ConfigError(
            "--interactive reads answers from stdin: give --prompt TEXT or --prompt-file FILE"
        )
    data = _read_prompt(prompt, prompt_file)
    # A single text is always drawn in float32, so "auto" need not measure anything.
    machine = machine if num_samples > 1 else replace(machine, precision="float32")
    lm = load_model(directory, machine)
    text = _prompt_text(data, prompt_file, lm.raw)
    if lm.raw and interactive:
        raise ConfigError(
            f"--interactive shows text, and {directory} writes raw bytes: leave --interactive out"
        )
    into_pipe = lm.raw and not as_json and not sys.stdout.isatty()
    if into_pipe and num_samples > 1:
        raise ConfigError(
            f"{directory} writes raw bytes, and several texts would run together: give --json"
        )
    config = replace(config, stop=tuple(_prompt_text(stop, None, lm.raw) for stop in config.stop))
    _, unknown = lm.encode_prompt(text, config)
    lm = steered_model(lm, steering, reading, quiet)
    config = _with_seed_and_notes(config, unknown, lm.vocabulary.labels, quiet)
    # Control characters are escaped on a terminal and kept in a pipe.
    show = visible if sys.stdout.isatty() and not raw else str
    if interactive:
        _interactive_session(lm, text, config, show)
    elif as_json:
        for drawn in lm.sample(text, num_samples, config=config):
            facts = {"log_probs": list(drawn.log_probs), "seed": drawn.seed, "ended": drawn.ended}
            echo_json({"text": drawn.text, "prompt": text, **facts})
    elif into_pipe:
        sys.stdout.buffer.write(_whole_texts(lm, text, 1, config)[0].encode("latin-1"))
    else:
        write_incrementally(_output_pieces(lm, text, num_samples, config), sys.stdout, show)


def _with_seed_and_notes(
    config: SamplingConfig, unknown: str, labels: Sequence[str], quiet: bool
) -> SamplingConfig:
    """Return `config`, with a new seed if it has none; print notes on what the user may not expect.

    `unknown` are the unknown characters of the prompt, `labels` those of the model.
    """
    notes = []
    if labels and config.label is None:
        notes.append(f"the model has learnt texts by {enumerated(labels, 'label')}: give --label")
    if unknown:
        how = "left out" if config.unknown == "skip" else "read as the unknown symbol"
        notes.append(
            f"the model has never seen these characters of the prompt ({how}): {spelled(unknown)}"
        )
    if config.seed is None:
        from chargen.runtime.seeds import new_seed

        config = replace(config, seed=new_seed())
        notes.append(f"drawn with --seed {config.seed}")
    for note in () if quiet else notes:
        say(f"note: {note}")
    return config


def _output_pieces(lm: Any, prompt: str, count: int, config: SamplingConfig) -> Iterable[str]:
    """Return the output in pieces: a text as it is drawn, or whole texts on lines of their own."""
    if count == 1 and not lm.backward:
        return itertools.chain([prompt], lm.stream(prompt, config=config), ["\n"])
    texts = _whole_texts(lm, prompt, count, config)
    separator = "\n\n" if any("\n" in text for text in texts) else "\n"
    return [separator.join(texts), "\n"]


def _whole_texts(lm: Any, prompt: str, count: int, config: SamplingConfig) -> list[str]:
    samples = lm.sample(prompt, count, config=config)
    return [_with_addition(lm, prompt, s.text) for s in samples]


def _with_addition(lm: Any, text: str, addition: str) -> str:
    """Append a model's addition to a text, or prepend it if the model is backward."""
    return addition + text if lm.backward else text + addition


def _read_prompt(prompt: str | None, prompt_file: str | None) -> str | bytes:
    if prompt is not None and prompt_file is not None:
        raise ConfigError("--prompt and --prompt-file are both given; give one of them")
    if prompt == "-" or prompt_file == "-":
        return sys.stdin.buffer.read()
    if prompt_file is not None:
        try:
            return Path(prompt_file).read_bytes()
        except OSError as error:
            raise CorpusError(
                f"cannot read --prompt-file {prompt_file}: {error.strerror}"
            ) from error
    return prompt or ""


def _prompt_text(data: str | bytes, prompt_file: str | None, raw: bool) -> str:
    """Return a prompt, typed or read from a file, as the text that the model reads."""
    if raw:
        data = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        return data.decode("latin-1")
    if isinstance(data, str):
        return data
    from chargen.text.decoding import normalize_newlines

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = prompt_file or "stdin"
        raise CorpusError(f"{where} is not UTF-8 at byte {error.start}") from error
    # The last newline of a file ends its last line and is not part of the prompt.
    return normalize_newlines(text).removesuffix("\n")


# ---------------------------------------------------------------- --interactive

_KEY_HELP = "[Enter] accept   r draw again   e edit   t type   u undo   w FILE save   q end"


def _interactive_session(
    lm: Any, prompt: str, config: SamplingConfig, show: Callable[[str], str]
) -> None:
    """Let user and model write in turns; the text is printed whatever ends the session."""
    text = prompt
    click.echo(_KEY_HELP, err=True)
    try:
        for text in _turns(lm, prompt, config):  # noqa: B007
            pass
    except click.Abort:  # Ctrl-C or the end of stdin, in place of an answer
        pass
    finally:
        click.echo(show(text))


def _turns(lm: Any, prompt: str, config: SamplingConfig) -> Iterator[str]:
    """Yield the whole text after each turn; each new proposal takes the next seed."""
    text = prompt
    earlier: list[str] = []
    seed = config.seed or 0
    proposal = lm.generate(text, config=config, seed=seed)
    while True:
        _show_proposal(lm, text, proposal)
        answer = click.prompt(">", default="", show_default=False, prompt_suffix=" ", err=True)
        command, _, argument = answer.strip().partition(" ")
        if command == "q":
            return
        if command == "w":
            _save(argument, text)
            continue
        if command not in ("", "r", "e", "t", "u"):
            click.echo(_KEY_HELP, err=True)
            continue
        if command == "u":
            text = earlier.pop() if earlier else text
        elif command != "r":
            addition = _addition(command, proposal)
            if addition is None:
                continue
            earlier.append(text)
            text = _with_addition(lm, text, addition)
        yield text
        seed = (seed + 1) % SEED.metadata["below"]
        proposal = lm.generate(text, config=config, seed=seed)


def _addition(command: str, proposal: str) -> str | None:
    """Return the text to add: the proposal, the edited proposal, or what the user types.

    If the editor cannot be started, return None and print the reason.
    """
    if command == "":
        return proposal
    if command == "e":
        try:
            edited = click.edit(proposal)
        except click.ClickException as error:
            say(error.format_message())
            return None
        if edited is None:
            return proposal
        # click ends the text with a newline, because editors expect one.
        return edited if proposal.endswith("\n") else edited.removesuffix("\n")
    typed: str = click.prompt("text", default="", show_default=False, err=True)
    return typed.replace("\\n", "\n")


def _save(path: str, text: str) -> None:
    if not path:
        say("w needs the name of a file")
        return
    if os.path.lexists(path):
        say(f"{path} exists: choose another file")
        return
    from chargen.storage.whole_files import write_file

    try:
        # Bytes of an argument that are not UTF-8 are written back unchanged.
        write_file(path, (text + "\n").encode("utf-8", "surrogateescape"), uncompressed=True)
    except (ChargenError, UnicodeEncodeError) as error:
        say(f"not saved: {error}")
    else:
        say(f"saved to {path}")


def _show_proposal(lm: Any, text: str, proposal: str) -> None:
    excerpt = visible(text[:400] if lm.backward else text[-400:])
    click.echo(_with_addition(lm, excerpt, click.style(visible(proposal), fg="cyan")), err=True)
