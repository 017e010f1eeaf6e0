"""Speed of sampling: ours, stepping the model as most programs do, and the bound set by memory.

    python benchmarks/sampling.py --hidden-size 512 --json

One text at a time:
  ours       `chargen.sampling.generate.stream`: step, filters, draw, text
  decoder    the step of its decoder alone
  stepping   what a user would write: the model's own forward on one id with the state carried,
             softmax, torch.multinomial
  bound      only the matrix-vector products that a step cannot avoid: each weight is read once per
             character, so this is the bandwidth that the machine has for them, with the rows
             divided among all threads
  torch.mv   the same products as torch computes them: on one thread

Then `--streams` texts as one batch, a long prompt, and the same text written to a terminal. Rounds
are interleaved; figures are medians, with the spread from the slowest to the fastest round.
`speedup_over_stepping` and `share_of_bandwidth_bound` are medians of the ratios within each round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chargen.cli.terminal import visible, write_incrementally
from chargen.lm import storage
from chargen.lm.config import ModelConfig
from chargen.lm.model import CharLM
from chargen.runtime.device import set_threads
from chargen.sampling.config import SamplingConfig
from chargen.sampling.decoder import Decoder
from chargen.sampling.generate import generate, stream
from chargen.text.vocabulary import CharVocabulary, Vocabulary

ALPHABET = "".join(map(chr, range(33, 33 + 78)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="a trained model instead of random weights")
    parser.add_argument("--cell", choices=("lstm", "gru", "rnn"), default="lstm")
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--num-layers", type=int, default=1)
    parser.add_argument("--characters", type=int, default=3000)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=100_000, help="characters of the prompt")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    row = measure(arguments)
    print(json.dumps(row) if arguments.json else "\n".join(f"{k}: {v}" for k, v in row.items()))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return all figures of one model on this machine."""
    model, vocabulary = model_of(arguments)
    decoder, count = Decoder(model), arguments.characters
    in_bfloat16 = Decoder(model, "bfloat16")
    config = SamplingConfig(max_chars=count, seed=1)
    many = SamplingConfig(max_chars=max(20, count // 8), seed=1)
    prompt = np.random.default_rng(0).integers(1, vocabulary.size - 1, arguments.prompt)
    prompt_ids = torch.from_numpy(prompt.astype(np.int64))
    terminal = Terminal()
    jobs: dict[str, tuple[int, Callable[[], object]]] = {
        "ours": (count, lambda: consume(stream(decoder, vocabulary, [], config))),
        "decoder": (count, lambda: step_decoder(decoder, count)),
        "stepping": (count // 4, lambda: step_model(model, count // 4)),
        "bound": (count, lambda: products(model, count, torch.get_num_threads())),
        "torch.mv": (count, lambda: products(model, count, 1)),
        "to_terminal": (count, lambda: terminal.show(stream(decoder, vocabulary, [], config))),
        "batch": (
            many.max_chars * arguments.streams,
            lambda: generate(decoder, vocabulary, [], many, arguments.streams),
        ),
        "batch_bfloat16": (
            many.max_chars * arguments.streams,
            lambda: generate(in_bfloat16, vocabulary, [], many, arguments.streams),
        ),
        "prompt": (arguments.prompt, lambda: decoder.clone().prefill(prompt_ids)),
    }
    speeds: dict[str, list[float]] = {name: [] for name in jobs}
    for round_number in range(arguments.repeats + 1):
        for name, (characters, job) in jobs.items():
            began = time.perf_counter()
            job()
            if round_number:  # the first round is a warm-up
                speeds[name].append(characters / (time.perf_counter() - began))
    terminal.close()

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(speeds[one], speeds[other], strict=True))

    median = {name: statistics.median(values) for name, values in speeds.items()}
    return {
        "model": f"{model.config.cell} {len(model.layers)} x {model.hidden_size}, "
        f"V {vocabulary.size}",
        "threads": torch.get_num_threads(),
        "characters_per_second": {name: round(value) for name, value in median.items()},
        "spread": {
            name: [round(min(values)), round(max(values))] for name, values in speeds.items()
        },
        "speedup_over_stepping": ratio("ours", "stepping"),
        "share_of_bandwidth_bound": ratio("ours", "bound"),
        "share_of_torch_mv": ratio("ours", "torch.mv"),
        "decoder_share_of_bandwidth_bound": ratio("decoder", "bound"),
        "streams": arguments.streams,
        "batch_over_one_stream": ratio("batch", "ours"),
        "bfloat16_batch_over_one_stream": ratio("batch_bfloat16", "ours"),
        "share_left_on_a_terminal": ratio("to_terminal", "ours"),
        "prompt_characters": arguments.prompt,
        "prompt_seconds": arguments.prompt / median["prompt"],
    }


def model_of(arguments: argparse.Namespace) -> tuple[CharLM, Vocabulary]:
    """Return the model and vocabulary of the checkpoint, or a model with random weights."""
    if arguments.checkpoint:
        model, vocabulary, _ = storage.load(arguments.checkpoint)
        return model.eval(), vocabulary
    vocabulary = CharVocabulary(ALPHABET)
    torch.manual_seed(0)
    config = ModelConfig(
        vocabulary_size=vocabulary.size,
        cell=arguments.cell,
        hidden_size=arguments.hidden_size,
        embedding_size=min(128, max(32, arguments.hidden_size // 4)),
        num_layers=arguments.num_layers,
        dropout=0.0,
        embedding_dropout=0.0,
        weight_dropout=0.0,
    )
    return CharLM(config).eval(), vocabulary


def consume(pieces: Any) -> None:
    """Consume every piece of a stream."""
    for _ in pieces:
        pass


def step_decoder(decoder: Decoder, count: int) -> None:
    """Run the decoder's step alone, always with the same id."""
    decoder = decoder.clone()
    decoder.prefill(torch.tensor([1]))
    ids = torch.tensor([2])
    for _ in range(count):
        decoder.step(ids)


@torch.no_grad()
def step_model(model: CharLM, count: int) -> None:
    """Run the model's own forward on one id, softmax and multinomial, again and again."""
    state = model.initial_state(1)
    ids = torch.ones(1, 1, dtype=torch.int64)
    for _ in range(count):
        logits, state = model(ids, state)
        ids = torch.multinomial(logits[0].softmax(-1), 1)
        ids.item()  # a program needs each character to show it


@torch.no_grad()
def products(model: CharLM, count: int, threads: int) -> None:
    """Run the products of a step: recurrent and, above the first layer, input weights."""
    hidden = model.hidden_size
    matrices: list[Tensor] = []
    for index, layer in enumerate(model.layers):
        recurrent = layer.get_parameter("weight_hh_l0").detach()
        inputs = layer.get_parameter("weight_ih_l0").detach()
        matrices.append(torch.cat([inputs, recurrent], 1) if index else recurrent)
    matrices.append(model.output.weight.detach())
    assert hidden == matrices[0].shape[1]
    jobs = [product(matrix, threads) for matrix in matrices]
    for _ in range(count):
        for job in jobs:
            job()


def product(matrix: Tensor, threads: int) -> Callable[[], object]:
    """Return one matrix-vector product; threads share the rows of a large matrix equally."""
    rows, columns = matrix.shape
    vector, out = torch.randn(columns), torch.empty(rows)
    if threads == 1 or rows % threads or matrix.numel() < 2**16:
        return partial(torch.mv, matrix, vector, out=out)
    blocks = matrix.view(threads, -1, columns).mT
    vectors = vector.expand(threads, 1, -1)
    return partial(torch.bmm, vectors, blocks, out=out.view(threads, 1, -1))


class Terminal:
    """A pseudo-terminal; another process reads all that is written to it."""

    def __init__(self) -> None:
        reading, writing = os.openpty()
        self._file = os.fdopen(writing, "w")
        self._reader = subprocess.Popen(["cat"], stdin=reading, stdout=subprocess.DEVNULL)
        os.close(reading)

    def show(self, pieces: Any) -> None:
        """Write pieces of text as `chargen sample` does."""
        write_incrementally(pieces, self._file, visible)

    def close(self) -> None:
        """Close both sides."""
        self._reader.terminate()
        self._reader.wait()
        self._file.close()


if __name__ == "__main__":
    main()
