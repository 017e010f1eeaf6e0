"""Size of a file compressed by a model, against its code length and other compressors.

    python benchmarks/compression.py chapter9.txt checkpoints/mybook [--dynamic]

Prints bytes and bits per character for `chargen compress`, for the sum of the model's
log-probabilities, for xz and, if they are installed, for zstandard and PPMd (pyppmd). The model's
weights are not counted: the receiver must have them. Each file is decompressed again and compared.
"""

from __future__ import annotations

import lzma
import math
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click

import chargen
from chargen.compression.files import compress, decompress


def others() -> dict[str, Callable[[bytes], bytes]]:
    """Return compression functions by name."""
    compressors: dict[str, Callable[[bytes], bytes]] = {
        "xz -9e": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    }
    if find_spec("zstandard"):
        import zstandard

        compressors["zstd -19"] = zstandard.ZstdCompressor(level=19).compress
    if find_spec("pyppmd"):
        ppmd = import_module("pyppmd")
        compressors["PPMd, order 8"] = lambda data: bytes(ppmd.compress(data, max_order=8))
    return compressors


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("model", type=click.Path(exists=True, file_okay=False))
@click.option("--dynamic", is_flag=True, help="Also with a model that learns while it codes.")
def main(file: Path, model: str, dynamic: bool) -> None:
    """Print the table."""
    data = file.read_bytes()
    text = data.decode("utf-8", "replace")
    lm = chargen.load(model)

    def row(name: str, size: float, seconds: float | None = None) -> None:
        rate = f"{len(text) / seconds:10,.0f} characters/s" if seconds else ""
        click.echo(f"{name:28}{size:12,.0f} bytes{8 * size / len(text):8.4f} bits{rate}")

    ways = [(f"chargen, {n} streams", {"streams": n}) for n in (1, 64)]
    if dynamic:
        ways.append(("chargen, dynamic", {"dynamic": True}))
    for name, options in ways:
        began = time.process_time()
        packed = compress(lm, data, **options)  # type: ignore[arg-type]
        row(name, len(packed), time.process_time() - began)
        assert decompress(lm, packed) == data
    for name, options in (("evaluate", {}), ("evaluate, dynamic", {"dynamic": True}))[
        : 1 + dynamic
    ]:
        score = lm.score(text, as_is=True, **options)  # type: ignore[arg-type]
        row(name, -float(score.log_probs.sum(dtype=float)) / math.log(2) / 8)
    for name, packer in others().items():
        row(name, len(packer(data)))


if __name__ == "__main__":
    main()
