"""Would counts of the last characters help a network? Bits of each, and of their mixture.

    python benchmarks/count_model.py checkpoints/mybook --train mybook.txt --text valid.txt

The counts are those of the training text, interpolated from order 0 to the highest with absolute
discounting (Ney et al. 1994); an order that has not seen the context is left out. The weight of the
counts is the one that is best on the first half of the other text, in steps of 0.02; all figures
are of the second half. The model is read in one stream, with the state carried.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import chargen
from chargen.lm.evaluation import bits, log_probs
from chargen.runtime.device import set_threads

DISCOUNT = 0.6
FLOOR = 1e-3
"""Count of a symbol that training has not seen."""


class Counts:
    """Interpolated counts of the symbols after contexts of up to `order` symbols."""

    def __init__(self, ids: NDArray[np.integer], size: int, order: int) -> None:
        self.order = order
        everything = ids.tolist()
        self._tables = []
        for length in range(1, order + 1):
            table: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
            for place in range(length, len(everything)):
                table[tuple(everything[place - length : place])][everything[place]] += 1
            self._tables.append(table)
        seen = np.bincount(ids, minlength=size) + FLOOR
        self._unigrams = seen / seen.sum()

    def distribution(self, before: list[int]) -> NDArray[np.float64]:
        """Probabilities (V,) of what follows these symbols; they add up to 1."""
        found: NDArray[np.float64] = self._unigrams
        for length in range(1, min(self.order, len(before)) + 1):
            counts = self._tables[length - 1].get(tuple(before[-length:]))
            if counts is None:
                break
            total = counts.total()
            found = found * (DISCOUNT * len(counts) / total)
            for symbol, count in counts.items():
                found[symbol] += (count - DISCOUNT) / total
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--train", type=Path, required=True, help="text that is counted")
    parser.add_argument("--text", type=Path, required=True, help="other text, for the figures")
    parser.add_argument("--orders", type=int, nargs="+", default=[4, 6, 8])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    lm = chargen.load(arguments.model)
    known = lm.vocabulary.encode(arguments.train.read_text("utf-8")).astype(np.int64)
    ids = lm.vocabulary.encode(arguments.text.read_text("utf-8")).astype(np.int64)
    with torch.no_grad():
        network = np.exp(log_probs(lm.model, ids, lm.vocabulary.start_id).astype(np.float64))
    half = len(ids) // 2
    rows = []
    for order in arguments.orders:
        counts = Counts(known, lm.vocabulary.size, order)
        text = [*known[-order:].tolist(), *ids.tolist()]
        counted = np.array(
            [counts.distribution(text[i : i + order])[ids[i]] for i in range(len(ids))]
        )

        def of(weight: float, part: slice, counted: NDArray[np.float64] = counted) -> float:
            mixed = (1 - weight) * network[part] + weight * counted[part]
            return bits(-float(np.log(mixed).mean()))

        weight = min(np.arange(0, 1, 0.02).tolist(), key=lambda w: of(w, slice(half)))
        after = slice(half, None)
        rows.append(
            {
                "order": order,
                "network_bits": of(0, after),
                "counts_bits": of(1, after),
                "weight": weight,
                "mixture_bits": of(weight, after),
            }
        )
        if not arguments.json:
            print(", ".join(f"{k} {v:.4g}" for k, v in rows[-1].items()), flush=True)
    if arguments.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
