"""Speed of a training step, against a bare `nn.LSTM` step and this machine's matrix products.

    python benchmarks/training.py
    python benchmarks/training.py --hidden-size 1024 --batch-sizes 32 64 --threads 2 --json
    python benchmarks/training.py --batch-sizes 32 --profile
    python benchmarks/training.py --optimizer adamw
    python benchmarks/training.py --threads 1 --clock processor

The benchmark times the loop that `chargen train` runs (`Loop.run`: window, forward, loss, backward,
clipping, optimizer, a row of metrics every ten steps) on random characters, without evaluations and
checkpoints. The loop alternates with two references, so that a slow moment of the machine affects
all of them:

bare step     `nn.LSTM` and `nn.Linear` of the same sizes on a fixed (T, B, E) tensor, from zero
              states: autocast, cross-entropy, backward, `torch.optim.SGD`. No embedding, no
              clipping, no data, no numbers read back: the minimum for learning.
product peak  square matrix products in float32 and bfloat16, the best of --product-sizes. Each
              size runs as long as `--seconds` sets, so that other jobs slow it like the steps.

It reports, for each batch size, the medians of `--repeats` rounds and their spread (largest less
smallest, over the median): characters per second; GFLOP/s, counted as six operations per weight of
a product; `share_of_bare_step`, the bare step's time over ours in the same round (0.95: ours takes
5 % more); `share_of_product_peak`, GFLOP/s over those of the best product in the same round and
precision; and the most bytes that a step allocates, per character of its window. `best_batch_size`
is the one with the most characters per second. --profile also shows where the time of a step goes.

On a machine shared with other jobs, --clock processor counts the time that this process was
running, not the time that passed; it needs one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from chargen.lm import recipes
from chargen.lm.config import OPTIMIZERS, ModelConfig, TrainConfig, required
from chargen.lm.model import CharLM
from chargen.runtime.device import set_threads
from chargen.runtime.precision import autocast
from chargen.runtime.seeds import seed_everything
from chargen.training import loop
from chargen.training.language_modelling import LanguageModelling
from chargen.training.reporting import Reporter

CPU = torch.device("cpu")
NEVER = 10**9
CHARACTERS = 1_000_000
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Sizes:
    """The configuration that is timed; a window has T time steps."""

    hidden_size: int
    num_layers: int
    vocabulary_size: int
    window: int
    dropout: float
    precision: str
    optimizer: str


class Clock:
    """The clock that measures all times of a run."""

    def __init__(self, name: str = "wall") -> None:
        self.now = CLOCKS[name]

    def timed(self, function: Callable[[], object], seconds: float) -> tuple[float, int]:
        """Call a function for at least `seconds`; return the seconds spent and the number of calls.

        A first call is not counted.
        """
        function()
        count, spent, began = 0, 0.0, self.now()
        while spent < seconds or not count:
            function()
            count += 1
            spent = self.now() - began
        return spent, count


class OurStep(Reporter):
    """The loop of `chargen train`, run a few steps at a time."""

    def __init__(self, sizes: Sizes, batch_size: int) -> None:
        model = ModelConfig(
            vocabulary_size=sizes.vocabulary_size,
            hidden_size=sizes.hidden_size,
            num_layers=sizes.num_layers,
            dropout=sizes.dropout,
            embedding_dropout=0.0,
            weight_dropout=0.0,
        )
        budget = TrainConfig(
            steps=NEVER,
            batch_size=batch_size,
            window=sizes.window,
            eval_every=NEVER,
            checkpoint_every=NEVER,
            optimizer=sizes.optimizer,
        )
        generator = np.random.default_rng(0)
        ids = generator.integers(0, sizes.vocabulary_size, CHARACTERS, dtype=np.uint16)
        plan = recipes.plan(model, budget, len(ids))
        self.model = plan.model
        task = LanguageModelling(CharLM(plan.model), plan, ids, ids[:0], 0, sizes.precision)
        self.loop = loop.Loop(task, lambda _: None, self)
        self.last_step = 0

    def step(self, progress: float, metrics: Mapping[str, Any]) -> None:
        self.loop.stop_requested = metrics["step"] >= self.last_step

    def __call__(self, steps: int) -> None:
        self.last_step = self.loop.progress.step + steps
        self.loop.stop_requested = False
        self.loop.run()


class BareStep:
    """The bare step of the module's docstring, in the fewest lines."""

    def __init__(self, model: ModelConfig, sizes: Sizes, batch_size: int) -> None:
        embedding = required(model.embedding_size)
        self.lstm = nn.LSTM(embedding, sizes.hidden_size, sizes.num_layers)
        self.output = nn.Linear(sizes.hidden_size, sizes.vocabulary_size)
        self.optimizer = torch.optim.SGD(
            [*self.lstm.parameters(), *self.output.parameters()], lr=1e-3
        )
        self.inputs = torch.randn(sizes.window, batch_size, embedding)
        self.targets = torch.randint(sizes.vocabulary_size, (sizes.window * batch_size,))
        self.precision = sizes.precision

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            with autocast(CPU, self.precision):
                outputs, _ = self.lstm(self.inputs)
                logits = self.output(outputs)
                loss = nn.functional.cross_entropy(logits.flatten(0, 1), self.targets)
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
            self.optimizer.step()


def product_rate(
    clock: Clock, dtype: torch.dtype, product_sizes: list[int], seconds: float
) -> float:
    """Return the FLOP/s of the fastest product size; each size runs for `seconds`."""
    best = 0.0
    for size in product_sizes:
        a, b = torch.randn(2, size, size).to(dtype)
        spent, count = clock.timed(partial(torch.matmul, a, b), seconds)
        best = max(best, 2 * size**3 * count / spent)
    return best


def measure(
    sizes: Sizes,
    batch_sizes: list[int],
    product_sizes: list[int],
    repeats: int,
    seconds: float,
    clock: Clock,
) -> dict[str, Any]:
    """Return all figures, which the module's docstring explains."""
    ours = {batch: OurStep(sizes, batch) for batch in batch_sizes}
    bare = {batch: BareStep(ours[batch].model, sizes, batch) for batch in batch_sizes}
    flops = recipes.flops_per_character(ours[batch_sizes[0]].model)
    peaks: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    times: dict[int, list[tuple[float, float]]] = {batch: [] for batch in batch_sizes}
    for _ in range(repeats):
        for name, dtype in PRECISIONS.items():
            peaks[name].append(product_rate(clock, dtype, product_sizes, seconds / 4))
        for batch in batch_sizes:
            times[batch].append(alternate(clock, ours[batch], bare[batch], seconds))
    return {
        **asdict(sizes),
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "flops_per_character": flops,
        "peak_gflops": {name: summary([r / 1e9 for r in rates]) for name, rates in peaks.items()},
        "batches": [
            {
                "batch_size": batch,
                **compare(times[batch], sizes.window * batch, flops, peaks[sizes.precision]),
                "bytes_per_character": allocated(ours[batch]) / (sizes.window * batch),
            }
            for batch in batch_sizes
        ],
    }


def alternate(clock: Clock, ours: OurStep, bare: BareStep, seconds: float) -> tuple[float, float]:
    """Return the mean seconds of our step and of the bare step, which alternate."""
    spent, count = [0.0, 0.0], 0
    ways: tuple[Callable[[int], None], ...] = (ours, bare)
    for way in ways:
        way(1)  # refills the processor's caches after another size
    while sum(spent) < 2 * seconds:
        for index, way in enumerate(ways):
            began = clock.now()
            way(1)
            spent[index] += clock.now() - began
        count += 1
    return spent[0] / count, spent[1] / count


def compare(
    times: list[tuple[float, float]], characters: int, flops: float, peaks: list[float]
) -> dict[str, Any]:
    """Return the figures of one batch size, each from times of the same round."""
    rates = [characters / ours for ours, _ in times]
    shares = [rate * flops / peak for rate, peak in zip(rates, peaks, strict=True)]
    return {
        "milliseconds_per_step": summary([1e3 * ours for ours, _ in times]),
        "characters_per_second": summary(rates),
        "gflops": summary([rate * flops / 1e9 for rate in rates]),
        "share_of_bare_step": summary([bare / ours for ours, bare in times]),
        "share_of_product_peak": summary(shares),
    }


def summary(values: list[float]) -> dict[str, float]:
    """Return the median, and the spread as a share of it."""
    median = statistics.median(values)
    return {"median": median, "spread": (max(values) - min(values)) / median}


def allocated(ours: OurStep) -> int:
    """Return the most bytes that torch holds during a step beyond those held before it."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        ours(1)
    held = most = 0
    result = profiler.profiler.kineto_results
    for event in sorted(result.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


# -------------------------------------------------------------------- where the time goes


class Stopwatch:
    """Adds up the seconds spent in each watched function."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}

    def watch(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, with its time added to that of `part`."""

        def watched(*arguments: Any, **options: Any) -> Any:
            began = self.clock.now()
            try:
                return function(*arguments, **options)
            finally:
                spent = self.clock.now() - began
                self.seconds[part] = self.seconds.get(part, 0.0) + spent

        return watched


@contextlib.contextmanager
def watching(task: LanguageModelling, clock: Clock) -> Iterator[Stopwatch]:
    """Time the parts that a step calls one after another.

    On a CPU, a call has finished its work when it returns.
    """
    watch = Stopwatch(clock)
    model = task.model
    parts: list[tuple[str, Any, str]] = [
        ("batch", task.streams, "next"),
        ("embedding and LSTM forward", model, "features"),
        ("output layer and loss", model, "logits"),
        ("output layer and loss", nn.functional, "cross_entropy"),
        ("backward", torch.autograd, "backward"),
        ("clipping", loop, "clip_gradient"),
        ("gradients set to none", model, "zero_grad"),
        *((type(optimizer).__name__, optimizer, "step") for optimizer in task.optimizers),
    ]
    with contextlib.ExitStack() as stack:
        for part, owner, name in parts:
            function = watch.watch(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, function))
        yield watch


def profile(sizes: Sizes, batch_size: int, repeats: int, clock: Clock) -> dict[str, Any]:
    """Return the milliseconds of each part of a step, and its share of the whole."""
    ours = OurStep(sizes, batch_size)
    ours(2)
    with watching(ours.loop.task, clock) as watch:
        began = clock.now()
        ours(3 * repeats)
        whole = clock.now() - began
    parts = {**watch.seconds, "the rest": whole - sum(watch.seconds.values())}
    return {
        part: {"milliseconds": 1e3 * seconds / (3 * repeats), "share": seconds / whole}
        for part, seconds in parts.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--num-layers", type=int, default=1)
    parser.add_argument("--vocabulary-size", type=int, default=65, help="different characters")
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--product-sizes", type=int, nargs="+", default=[512, 768, 1024, 2048])
    parser.add_argument("--dropout", type=float, default=0.0, help="ours only, on the output")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="muon", help="ours only")
    parser.add_argument("--threads", type=int, help="default: torch's own choice")
    parser.add_argument("--precision", choices=PRECISIONS, default="bfloat16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement, at least")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--profile", action="store_true", help="where the time of a step goes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    set_threads(arguments.threads)
    if arguments.clock == "processor" and torch.get_num_threads() > 1:
        parser.error("--clock processor counts every thread's time: give --threads 1")
    clock = Clock(arguments.clock)
    seed_everything(0)
    sizes = Sizes(
        arguments.hidden_size,
        arguments.num_layers,
        arguments.vocabulary_size,
        arguments.window,
        arguments.dropout,
        arguments.precision,
        arguments.optimizer,
    )
    results = measure(
        sizes,
        arguments.batch_sizes,
        arguments.product_sizes,
        arguments.repeats,
        arguments.seconds,
        clock,
    )
    best = max(results["batches"], key=lambda row: row["characters_per_second"]["median"])
    results |= {
        "clock": arguments.clock,
        "best_batch_size": best["batch_size"],
        "share_of_product_peak": best["share_of_product_peak"]["median"],
        "share_of_bare_step": best["share_of_bare_step"]["median"],
    }
    if arguments.profile:
        results["profile"] = {
            str(batch): profile(sizes, batch, arguments.repeats, clock)
            for batch in arguments.batch_sizes
        }
    if arguments.json:
        print(json.dumps(results))
    else:
        show(results)


def show(found: dict[str, Any]) -> None:
    """Print the figures as a table."""
    print(
        f"H={found['hidden_size']}, {found['num_layers']} layer(s), T={found['window']}, "
        f"V={found['vocabulary_size']}, {found['precision']}, {found['threads']} thread(s); "
        f"medians of {found['repeats']}, spread in brackets"
    )
    for name, peak in found["peak_gflops"].items():
        print(f"product peak, {name:9}{both(peak, '.0f')} GFLOP/s")
    for row in found["batches"]:
        print(
            f"B={row['batch_size']:<4}"
            f"{both(row['characters_per_second'], ',.0f')} characters/s"
            f"{both(row['gflops'], '.0f')} GFLOP/s"
            f"   share_of_product_peak {both(row['share_of_product_peak'], '.2f')}"
            f"   share_of_bare_step {both(row['share_of_bare_step'], '.3f')}"
            f"   {row['bytes_per_character'] / 1e3:.1f} kB/character"
        )
    print(f"best batch size: {found['best_batch_size']}")
    for batch, parts in found.get("profile", {}).items():
        print(f"a step with B={batch}")
        for part, row in parts.items():
            print(f"  {part:28}{row['milliseconds']:9.2f} ms{row['share']:8.1%}")


def both(value: dict[str, float], form: str) -> str:
    """Format a median and its spread."""
    return f"{value['median']:{form}} [{value['spread']:.0%}]"


if __name__ == "__main__":
    main()
