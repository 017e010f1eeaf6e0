"""Which size, batch, window and weight decay are best for a large text in a given processor time.

    python benchmarks/scaling.py run reviews.jsonl runs.jsonl --minutes 2 --minutes 8 \\
        hidden_size=512 hidden_size=768 hidden_size=1024 hidden_size=512,num_layers=2
    python benchmarks/scaling.py fit runs.jsonl --hours 5 --hours 10 --hours 20

`run` trains each configuration on one core for the given minutes of processor time (steps are timed
first; the budget is then in steps, with its own cosine schedule) and appends one line of JSON per
run. `fit` prints the runs as a table and fits bits per character as a function of size and
characters read,

    L(N, D) = E + A / N^0.34 + B / D^b        (Hoffmann et al. 2022, approach 3)

with N weights and D characters, to the runs of one recipe (the first batch size, window and decay).
It also predicts the result of each size in some core-hours at the measured speeds. A few sizes do
not determine the exponent of N: it is Hoffmann's, and others from 0.2 to 1 give nearly the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

import chargen
from chargen.training.reporting import Reporter

RECIPE: dict[str, Any] = {
    "batch_size": 64,
    "window": 128,
    "weight_decay": 0.01,
    "num_layers": 1,
    "embedding_size": 64,
    "precision": "auto",
    "threads": 1,
    "valid_fraction": 0.01,
    "min_count": 500,
    "documents": "rows",
    "samples": False,
    "dropout": 0.0,
}
TIMED_STEPS = 20
SIZE_EXPONENT = 0.34
COMPARED = ("batch_size", "window", "weight_decay")


class Stopwatch(Reporter):
    """Measures processor seconds from the first step to the last."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0
        self.steps = 0
        self.characters = 0

    def step(self, progress: float, metrics: Mapping[str, Any]) -> None:
        self.ended = time.process_time()
        if not self.steps:
            self.began = self.ended
        self.steps += 1
        self.characters = metrics["characters"]

    @property
    def seconds_per_step(self) -> float:
        """Mean processor seconds of the steps after the first."""
        return (self.ended - self.began) / max(1, self.steps - 1)


def train(corpus: Path, steps: int, options: dict[str, Any]) -> tuple[chargen.Run, Stopwatch, int]:
    """Train in a temporary folder; return the run, its times and its number of weights."""
    watch = Stopwatch()
    with TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run = chargen.train(
            corpus, out, steps=steps, eval_every=steps, reporter=watch, **RECIPE | options
        )
        return run, watch, chargen.load(out).model.num_parameters()


def typed(value: str) -> int | float | str:
    """Convert a value to a number if possible."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value


@click.group()
def main() -> None:
    """Train configurations, and fit a scaling law to the results."""


@main.command("run")
@click.argument("corpus", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("configurations", nargs=-1, required=True)
@click.option("--minutes", multiple=True, type=float, default=(2.0, 8.0))
def run_command(
    corpus: Path, out: Path, configurations: tuple[str, ...], minutes: tuple[float, ...]
) -> None:
    """Train each of CONFIGURATIONS (name=value,...) for each budget, or for its own `steps`."""
    for text in configurations:
        options = {name: typed(value) for name, value in (p.split("=") for p in text.split(","))}
        budgets = [options.pop("steps")] if "steps" in options else []
        if not budgets:
            _, watch, _ = train(corpus, TIMED_STEPS, options)
            budgets = [round(budget * 60 / watch.seconds_per_step) for budget in minutes]
        for steps in budgets:
            run, spent, weights = train(corpus, steps, options)
            row = {
                "options": {**{k: RECIPE[k] for k in (*COMPARED, "num_layers")}, **options},
                "weights": weights,
                "processor_minutes": (spent.ended - spent.began) / 60,
                "steps": run.steps,
                "characters": spent.characters,
                "bits": run.valid_bits,
            }
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            click.echo(json.dumps(row))


@main.command("fit")
@click.argument("runs", type=click.Path(exists=True, path_type=Path))
@click.option("--hours", multiple=True, type=float, default=(5.0, 10.0, 20.0))
def fit_command(runs: Path, hours: tuple[float, ...]) -> None:
    """Print the table of RUNS and the fit's predictions for longer runs."""
    from scipy.optimize import least_squares

    rows = [json.loads(line) for line in runs.read_text().splitlines()]
    click.echo("| hidden | layers | streams | window | decay | minutes | characters | bits |")
    click.echo("|---|---|---|---|---|---|---|---|")
    for row in rows:
        o = row["options"]
        click.echo(
            f"| {o['hidden_size']} | {o['num_layers']} | {o['batch_size']} | {o['window']} "
            f"| {o['weight_decay']:g} | {row['processor_minutes']:.1f} "
            f"| {row['characters'] / 1e6:.1f} M | {row['bits']:.3f} |"
        )
    kept = [r for r in rows if all(r["options"][k] == rows[0]["options"][k] for k in COMPARED)]
    weights = np.array([r["weights"] for r in kept]) / 1e6
    read = np.array([r["characters"] for r in kept]) / 1e6
    bits = np.array([r["bits"] for r in kept])

    def expected(p: np.ndarray, n: np.ndarray, d: np.ndarray) -> np.ndarray:
        floor, size, length, beta = np.exp(p)
        return floor + size / n**SIZE_EXPONENT + length / d**beta

    start = np.log([1.2, 0.3, 0.7, 0.4])
    fitted = least_squares(
        lambda p: expected(p, weights, read) - bits, start, loss="soft_l1", f_scale=0.01
    )
    floor, size, length, beta = np.exp(fitted.x)
    miss = np.abs(expected(fitted.x, weights, read) - bits).max()
    click.echo(
        f"\nL = {floor:.3f} + {size:.3f} / N^{SIZE_EXPONENT} + {length:.3f} / D^{beta:.3f}, "
        f"N and D in millions; largest miss {miss:.4f}"
    )
    click.echo(
        "\n| weights | characters a second | " + " | ".join(f"{h:g} h" for h in hours) + " |"
    )
    click.echo("|---" * (2 + len(hours)) + "|")
    for n in sorted(set(weights)):
        own = [r for r in kept if r["weights"] / 1e6 == n]
        speed = np.mean([r["characters"] / r["processor_minutes"] / 60 for r in own])
        cells = [expected(fitted.x, n, speed * h * 3600 / 1e6) for h in hours]
        click.echo(f"| {n:.2f} M | {speed:,.0f} | " + " | ".join(f"{c:.3f}" for c in cells) + " |")


if __name__ == "__main__":
    main()
