"""Truncated backpropagation through time: what it leaves out, and what the carried state keeps.

A small network is trained on a text by `chargen.train`, and measured on validation text:

- The gradient of the loss over parallel streams of L time steps from a zero state is computed in
  full, and truncated: the state is detached after every T steps (Williams & Peng 1990). The table
  shows the cosine between the two and the ratio of their norms, for the weights before and after
  training. With T = L the two are equal.
- Bits per character of the whole validation text, read in windows of T: with the state carried
  from window to window, as in truncated BPTT, and with a zero state at the start of each window.

Run it:

    python examples/rnn_chapter/truncated_bptt.py essays --length 256
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chargen import LanguageModel, load, train
from chargen.cli.scripts import at_least, run_script
from chargen.lm.batching import Streams, Window
from chargen.lm.cells import CELLS
from chargen.lm.evaluation import bits
from chargen.lm.model import CharLM
from chargen.lm.recurrent import detach
from chargen.text.config import CorpusConfig
from chargen.text.corpus import load_corpus

Ids = NDArray[np.integer]


def gradient(model: CharLM, text: Window, window: int) -> Tensor:
    """Return the gradient of the mean loss over (L, B) characters, cut off every `window` steps."""
    model.zero_grad()
    state = model.initial_state(text.inputs.shape[1])
    pieces = zip(text.inputs.split(window), text.targets.split(window), strict=True)
    for inputs, targets in pieces:
        logits, state = model(inputs, detach(state))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        torch.autograd.backward(loss / text.targets.numel())
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@torch.no_grad()
def mean_bits(model: CharLM, ids: Ids, window: int, carried: bool) -> float:
    """Return bits per character of all but the first one, read as one stream in windows."""
    text = torch.from_numpy(ids.astype(np.int64))[:, None]  # (N, 1)
    state = model.initial_state(1)
    total = 0.0
    for inputs, targets in zip(text[:-1].split(window), text[1:].split(window), strict=True):
        logits, after = model(inputs, state)
        total += float(nn.functional.cross_entropy(logits[:, 0], targets[:, 0], reduction="sum"))
        if carried:
            state = after
    return bits(total / (len(ids) - 1))


def trained(args: argparse.Namespace) -> LanguageModel:
    """Train and return a model of the text."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            args.corpus,
            Path(folder) / "model",
            cell=args.cell,
            hidden_size=args.hidden,
            num_layers=1,
            steps=args.steps,
            batch_size=16,
            window=64,
            seed=args.seed,
            precision="float32",
            samples=False,
        )
        return load(run.directory)


def main() -> None:
    """Train, compare and print."""
    parser = argparse.ArgumentParser(description="Truncated BPTT beside the full one.")
    parser.add_argument("corpus", nargs="?", default="essays", help="as of chargen train")
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument("--hidden", type=at_least(1), default=128, help="units H")
    parser.add_argument("--steps", type=at_least(1), default=400, help="of training")
    parser.add_argument("--length", type=at_least(2), default=256, help="time steps L")
    parser.add_argument("--streams", type=at_least(1), default=8, help="streams B of L steps each")
    parser.add_argument("--seed", type=at_least(0), default=0)
    args = parser.parse_args()
    lm = trained(args)
    ids = load_corpus([args.corpus], CorpusConfig(), vocabulary=lm.vocabulary).valid
    torch.manual_seed(args.seed)
    models = {"at first": CharLM(lm.model.config).eval(), "trained": lm.model.eval()}
    streams = min(args.streams, (len(ids) - 1) // args.length)
    text = Streams(ids, max(1, streams), args.length, args.seed).next()
    length = len(text.inputs)
    windows = [window for window in (1, 2, 4, 8, 16, 32, 64, 128) if window < length] + [length]
    print(f"gradient over {length} time steps, truncated after T, beside the full one")
    print(f"{'':5}" + "".join(f"{name + ': cosine':>19}{'norm':>7}" for name in models))
    full = {name: gradient(model, text, length) for name, model in models.items()}
    for window in windows:
        row = ""
        for name, model in models.items():
            truncated = gradient(model, text, window)
            cosine = nn.functional.cosine_similarity(truncated, full[name], dim=0)
            row += f"{float(cosine):19.4f}{float(truncated.norm() / full[name].norm()):7.3f}"
        print(f"T={window:<4}{row}")
    print(f"\nbits per character of {len(ids):,} validation characters, read in windows of T")
    print(f"{'':5}{'carried state':>19}{'zero state':>12}")
    for window in windows:
        carried, zero = (mean_bits(lm.model, ids, window, way) for way in (True, False))
        print(f"T={window:<4}{carried:19.3f}{zero:12.3f}")


if __name__ == "__main__":
    run_script(main)
