"""Averaging several models: nats of each, and of the first N with mean logits or probabilities.

    for seed in 0 1 2; do chargen train tinyshakespeare.txt --seed $seed --out member-$seed; done
    python benchmarks/ensemble.py member-0 member-1 member-2 --text valid.txt

The models must have the same vocabulary. Each figure is a mean over the whole text, read as one
stream with the state carried, as `chargen evaluate` prints it. The second column, "mean of logits",
is how `chargen train --ensemble N` combines its networks.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import chargen
from chargen.runtime.device import set_threads

WINDOW = 4096


@torch.no_grad()
def log_probs(lm: chargen.LanguageModel, text: str) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of all symbols, (N, V), and the ids of the text, (N,)."""
    ids = torch.from_numpy(lm.vocabulary.encode(text).astype(np.int64))
    inputs = torch.cat([torch.tensor([lm.vocabulary.start_id]), ids[:-1]])[:, None]
    state, parts = lm.model.initial_state(1), []
    for window in torch.split(inputs, WINDOW):
        logits, state = lm.model(window, state)
        parts.append(logits[:, 0].log_softmax(-1))
    return torch.cat(parts), ids


def nats(scores: Tensor, ids: Tensor) -> float:
    return -float(scores.gather(1, ids[:, None]).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--text", type=Path, required=True, help="that none has learnt from")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    text = arguments.text.read_text("utf-8")
    members, rows = [], []
    for count, directory in enumerate(arguments.models, start=1):
        scores, ids = log_probs(chargen.load(directory), text)
        members.append(scores)
        together = torch.stack(members)
        row = {
            "model": directory,
            "alone": nats(scores, ids),
            "mean of logits": nats(together.mean(0).log_softmax(-1), ids),
            "mean of probabilities": nats(together.logsumexp(0) - math.log(count), ids),
        }
        rows.append(row)
        if not arguments.json:
            figures = "  ".join(f"{k} {v:.4f}" for k, v in row.items() if k != "model")
            print(f"{count}  {figures}  ({directory})", flush=True)
    if arguments.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
