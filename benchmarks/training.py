"""Speed of a training step: ours, a bare one, and what this machine's matrix products reach.

    python benchmarks/training.py --hidden-size 512 --batch-sizes 32 64 128 --json

  ours    all that `chargen train` does for a step: cut the window, forward, loss, backward, clip,
          AdamW, the row of metrics
  bare    what one writes in ten lines: nn.Embedding, nn.LSTM, nn.Linear, cross-entropy, backward,
          torch.optim.AdamW with its defaults, on ids that lie ready; nothing is clipped or logged
  peak    the fastest matrix product of several shapes, in both precisions

GFLOP/s count 6 operations for each weight of a product and character. Rounds are interleaved;
figures are medians, ratios those of rounds that stood side by side, with their spread.
`share_of_product_peak` and `share_of_bare_step` are those of the best batch size.
`bytes_per_character` is what backward keeps of each character of a window.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chargen.lm.config import ModelConfig, TrainConfig
from chargen.lm.model import CharLM
from chargen.lm.recipes import flops_per_character, plan
from chargen.lm.trainer import LOG_EVERY, Trainer
from chargen.reporting import log_line
from chargen.runtime import autocast, choose_precision, reference_step, set_threads

VOCABULARY = 65
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", choices=("lstm", "gru", "rnn"), default="lstm")
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--num-layers", type=int, default=1)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--profile", action="store_true", help="show where a step's time goes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    precision = choose_precision(arguments.precision, CPU, reference_step(CPU)).name
    if arguments.profile:
        print(profile(arguments, precision))
        return
    result = measure(arguments, precision)
    if arguments.json:
        print(json.dumps(result))
        return
    for row in result.pop("rows"):
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    print("\n".join(f"{name}: {value}" for name, value in result.items()))


def measure(arguments: argparse.Namespace, precision: str) -> dict[str, Any]:
    """All figures: a row for each batch size, and the best one's ratios."""
    rows = [_row(arguments, precision, size) for size in arguments.batch_sizes]
    best = max(rows, key=lambda row: row["characters_per_second"])
    return {
        "threads": torch.get_num_threads(),
        "precision": precision,
        "best_batch_size": best["batch_size"],
        "share_of_product_peak": best["share_of_product_peak"],
        "share_of_bare_step": best["share_of_bare_step"],
        "rows": rows,
    }


def _row(arguments: argparse.Namespace, precision: str, batch_size: int) -> dict[str, Any]:
    trainer = make_trainer(arguments, precision, batch_size)
    characters = batch_size * trainer.streams.window
    work = flops_per_character(trainer.plan.model) * characters
    jobs: dict[str, Callable[[], object]] = {
        "ours": lambda: our_step(trainer),
        "bare": bare_step(trainer, precision),
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    peaks: dict[str, list[float]] = {"bfloat16": [], "float32": []}
    for round_number in range(arguments.repeats + 1):
        for name, job in jobs.items():
            steps = max(1, round(0.5 / times[name][-1])) if times[name] else 1
            began = time.perf_counter()
            for _ in range(steps):
                job()
            if round_number:  # the first one warms up
                times[name].append((time.perf_counter() - began) / steps)
        for name, values in peaks.items():
            values.append(product_peak(getattr(torch, name)))
    ours = statistics.median(times["ours"])
    shares = [work / t / p for t, p in zip(times["ours"], peaks[precision][1:], strict=True)]
    bare = [b / o for b, o in zip(times["bare"], times["ours"], strict=True)]
    return {
        "batch_size": batch_size,
        "characters_per_second": round(characters / ours),
        "bare_characters_per_second": round(characters / statistics.median(times["bare"])),
        "gflops": round(work / ours / 1e9, 1),
        **{f"peak_gflops_{name}": round(max(v) / 1e9, 1) for name, v in peaks.items()},
        "share_of_product_peak": round(statistics.median(shares), 3),
        "share_of_product_peak_spread": [round(min(shares), 3), round(max(shares), 3)],
        "share_of_bare_step": round(statistics.median(bare), 3),
        "share_of_bare_step_spread": [round(min(bare), 3), round(max(bare), 3)],
        "bytes_per_character": round(kept_bytes(trainer, precision) / characters),
    }


def make_trainer(arguments: argparse.Namespace, precision: str, batch_size: int) -> Trainer:
    """A trainer on random text, as `chargen train` makes it."""
    torch.manual_seed(0)
    model = ModelConfig(
        vocabulary_size=VOCABULARY,
        cell=arguments.cell,
        hidden_size=arguments.hidden_size,
        num_layers=arguments.num_layers,
        embedding_size=min(128, max(32, arguments.hidden_size // 4)),
        dropout=0.0,
    )
    config = TrainConfig(steps=10**6, batch_size=batch_size, window=arguments.window)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, 2_000_000).astype(np.uint8)
    made = plan(model, config, len(ids))
    return Trainer(CharLM(made.model), made, ids, ids[:0], 0, precision, save=lambda trainer: None)


def our_step(trainer: Trainer) -> None:
    """One turn of `Trainer.run`, without its evaluations and checkpoints."""
    trainer.model.train()
    row = trainer.step(trainer.streams.next())
    if trainer.progress.step % LOG_EVERY == 0:
        log_line(row)
    trainer.reporter.step(trainer.share_done, row)


class BareModel(nn.Module):
    """Embedding, recurrent layers, output."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[config.cell]
        assert config.embedding_size
        assert config.hidden_size
        self.embedding = nn.Embedding(VOCABULARY, config.embedding_size)
        self.layers = kind(config.embedding_size, config.hidden_size, config.num_layers or 1)
        self.output = nn.Linear(config.hidden_size, VOCABULARY)

    def forward(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, state = self.layers(self.embedding(ids), state)
        return self.output(outputs), state


def bare_step(trainer: Trainer, precision: str) -> Callable[[], None]:
    """The step that one would write without us, of the same sizes."""
    model = BareModel(trainer.plan.model)
    optimizer = torch.optim.AdamW(model.parameters())
    window = trainer.streams.next()
    carried: list[Any] = [None]

    def step() -> None:
        with autocast(CPU, precision):
            logits, state = model(window.inputs, carried[0])
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), window.targets.flatten())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        parts = state if isinstance(state, tuple) else (state,)
        detached = tuple(part.detach().float() for part in parts)
        carried[0] = detached if len(detached) > 1 else detached[0]

    return step


def product_peak(dtype: torch.dtype) -> float:
    """Floating-point operations per second of the best of some products."""
    best = 0.0
    for m, k, n in ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 640, 2048)):
        one, other = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
        one @ other
        spent, count = 0.0, 0
        while spent < 0.05:
            began = time.perf_counter()
            one @ other
            took = time.perf_counter() - began
            spent, count = spent + took, count + 1
            best = max(best, 2.0 * m * k * n / took)
    return best


def kept_bytes(trainer: Trainer, precision: str) -> int:
    """Bytes that the graph of one window holds for backward, weights not counted."""
    weights = {parameter.data_ptr() for parameter in trainer.model.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            seen[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    window = trainer.streams.next()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with autocast(CPU, precision):
            logits, _ = trainer.model(window.inputs, trainer.state)
        nn.functional.cross_entropy(logits.float().flatten(0, 1), window.targets.flatten())
    return sum(seen.values())


def profile(arguments: argparse.Namespace, precision: str) -> str:
    """A table of the operations of some steps, by their own time."""
    trainer = make_trainer(arguments, precision, arguments.batch_sizes[0])
    our_step(trainer)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        for _ in range(5):
            our_step(trainer)
    return str(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=20))


if __name__ == "__main__":
    main()
