"""`chargen compress` and `chargen decompress`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from chargen.cli.groups import Command
from chargen.cli.options import MachineConfig, check_files, load_model, option, quiet_option
from chargen.cli.terminal import say, visible
from chargen.compression import SUFFIX
from chargen.errors import CompressionError, ConfigError, CorpusError

file_argument = click.argument("file", metavar="FILE", type=click.Path())
model_option = option(
    "--model", "directory", required=True, metavar="DIR", help="A language model's checkpoint."
)
force_option = option("--force", heading="Output", is_flag=True, help="Replace a file that exists.")


@click.command(cls=Command, heading="Measure")
@file_argument
@model_option
@option("--output", heading="Output", metavar="FILE", help=f"Default: FILE{SUFFIX}; - is stdout.")
@option(
    "--streams",
    heading="Machine",
    type=click.IntRange(1, 0xFFFF),
    help="Number of parts that are coded in parallel; more parts are faster and "
    "cost a few bytes (default: chosen by the length).",
)
@option(
    "--dynamic", is_flag=True, help="Let the model learn from the file while it is being coded."
)
@force_option
@quiet_option
def compress(
    file: str, directory: str, output: str | None, force: bool, quiet: bool, **options: Any
) -> None:
    """Compress a file with the probabilities of a model.

    The method is arithmetic coding: the result takes the bits that `chargen evaluate` reports, and
    `chargen decompress` restores the file byte for byte. FILE is read without changes; - is stdin.
    Decompression needs the same model, version of torch and kind of processor.

    \b
    chargen compress chapter9.txt --model checkpoints/mybook
    chargen decompress chapter9.txt.chargen --model checkpoints/mybook
    """
    output = output or ("-" if file == "-" else file + SUFFIX)
    _check(output, force)
    data = _read(file)
    lm = load_model(directory, MachineConfig(device="cpu"))
    from chargen.compression.files import compress

    packed = compress(lm, data, **options)
    _write(output, packed)
    if not quiet:
        share = f", {100 * len(packed) / len(data):.1f} %" if data else ""
        say(f"{len(data):,} bytes became {len(packed):,}{share}")


@click.command(cls=Command, heading="Measure")
@file_argument
@model_option
@option(
    "--output",
    heading="Output",
    metavar="FILE",
    help=f"Default: FILE without {SUFFIX}; - is stdout.",
)
@force_option
def decompress(file: str, directory: str, output: str | None, force: bool) -> None:
    """Restore a file that `chargen compress` wrote, byte for byte.

    \b
    chargen decompress chapter9.txt.chargen --model checkpoints/mybook
    """
    if output is None and file != "-" and not file.endswith(SUFFIX):
        raise ConfigError(f"{visible(file)} does not end in {SUFFIX}: give --output")
    output = output or file.removesuffix(SUFFIX)
    _check(output, force)
    packed = _read(file)
    lm = load_model(directory, MachineConfig(device="cpu"))
    from chargen.compression.files import decompress

    try:
        data = decompress(lm, packed)
    except CompressionError as error:
        raise CompressionError(f"{visible(file)}: {error}") from error
    _write(output, data)


def _check(output: str, force: bool) -> None:
    if output != "-":
        check_files({"--output": output}, force)


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CorpusError(f"{visible(file)} cannot be read: {error.strerror}") from error


def _write(output: str, data: bytes) -> None:
    if output == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    from chargen.storage.whole_files import write_file

    write_file(output, data, uncompressed=True)
