"""Forecasts of a daily temperature, one and several days ahead, by a GRU and by baselines.

The series is a table with the columns Date and Temp. Without one, ten years are generated from the
seed: a season and AR(1) noise. The last years are held back, the year before them selects the
weights, and the rest is for training. The GRU reads the season and the distance from the usual
value of the day, and forecasts the distances of the next K days at once. The baselines are

- persistence: the next days are like today,
- climatology: each day is as usual (two harmonics of the year, fitted to the training years),
- damped persistence: today's distance from the usual value decays at one rate. For the generated
  series nothing can be better, if its rate and its season are known.

The tables show the mean absolute error and the root mean squared error on the held-back years, by
days ahead. `--plot` draws the first 90 held-back days and the errors. Run it:

    python examples/forecaster/forecast.py temperatures.csv --plot forecast.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from baselines import ahead, climatology, damped, persistence
from network import Forecaster, fit, forecast, rows
from series import Array, Series, read_series, synthetic

from chargen import ConfigError, CorpusError, TrainConfig
from chargen.cli.scripts import above_zero, at_least, check_plot, run_script, write_plot
from chargen.plotting.style import COLOURS, DASHES, LINES, drawing

SHOWN_DAYS = 90
MOST_DAYS_AHEAD = 30
VALIDATION_YEARS = 1
LEAST_TRAINING_DAYS = 730


def root_mean_square(errors: Array) -> Array:
    """Return the root mean square of errors (N, K) by days ahead: (K,)."""
    by_day: Array = np.sqrt(np.nanmean(errors**2, axis=0))
    return by_day


def mean_absolute(errors: Array) -> Array:
    """Return the mean absolute value of errors (N, K) by days ahead: (K,)."""
    by_day: Array = np.nanmean(np.abs(errors), axis=0)
    return by_day


def split(series: Series, held_back: int, horizon: int) -> tuple[int, int]:
    """Return where the validation year and the held-back years begin.

    Raises
    ------
    CorpusError
        If too little is left to train on, or too few days of a year are in the table.
    """
    train, test = series.last(held_back + VALIDATION_YEARS), series.last(held_back)
    if train < LEAST_TRAINING_DAYS:
        raise CorpusError(
            f"{train} days are left to train on before the {held_back + VALIDATION_YEARS} years to "
            f"choose by and to test on; at least {LEAST_TRAINING_DAYS} are needed"
        )
    for days, purpose in ((test - train, "choose by"), (len(series.days) - test, "test on")):
        if days < horizon:
            raise CorpusError(
                f"{days} days are there to {purpose}, fewer than --horizon {horizon}: fill the gap"
            )
    return train, test


def learnt(series: Series, usual: Array, train: int, test: int, args: argparse.Namespace) -> Array:
    """Train a GRU on the first `train` days and return its forecasts, (N, K).

    The days from `train` to `test` select the weights.

    Raises
    ------
    ConfigError
        If there are too few days for the number of streams.
    """
    horizon = args.horizon
    distance = series.values - usual
    scale = float(distance[:train].std())
    data = rows(series, distance / scale, horizon)
    known = data[: train - horizon + 1]  # nothing in it comes from later days
    if len(known) < 2 * args.batch:
        raise ConfigError(f"--batch must be at most {len(known) // 2}, got {args.batch}")
    torch.manual_seed(args.seed)
    model = Forecaster(args.hidden, horizon)
    chosen = slice(train - 1, test - horizon)
    truth = ahead(distance / scale, horizon)[chosen]

    def error() -> float:
        return float(((forecast(model, data[:test])[chosen] - truth) ** 2).mean())

    config = TrainConfig(
        steps=args.steps,
        seed=args.seed,
        batch_size=args.batch,
        window=args.window,
        learning_rate=args.learning_rate,
        warmup_steps=min(50, args.steps // 10),
        weight_decay=0.01,
        eval_every=max(1, args.steps // 20),
    )
    fit(model, known, config, error)
    return ahead(usual, horizon) + scale * forecast(model, data)


def table(errors: dict[str, Array], measure: Callable[[Array], Array], name: str) -> None:
    """Print a measure of each system by days ahead."""
    horizon = next(iter(errors.values())).shape[1]
    days = sorted({1, 2, 3, 5, 7, 14, horizon} & set(range(1, horizon + 1)))
    print(f"\n{name + ', days ahead':22}" + "".join(f"{day:8}" for day in days))
    for system, error in errors.items():
        by_day = measure(error)
        print(f"{system:22}" + "".join(f"{by_day[day - 1]:8.2f}" for day in days))


def draw(
    series: Series, first: int, forecasts: dict[str, Array], errors: dict[str, Array], path: str
) -> None:
    """Draw the first held-back days with forecasts of the day before, and the errors of all."""
    with drawing("--plot", LINES) as figures:
        figure = figures(figsize=(12, 4.2), layout="constrained")
        days, growth = figure.subplots(1, 2, width_ratios=[2, 1])
        shown = slice(first, first + SHOWN_DAYS)
        days.plot(series.days[shown], series.values[shown], "k.-", linewidth=0.6, label="truth")
        before = slice(first - 1, first - 1 + len(series.days[shown]))
        for index, (system, values) in enumerate(forecasts.items()):
            line = {"color": COLOURS[index], "linestyle": DASHES[index], "label": system}
            if system in ("GRU", "climatology"):
                days.plot(series.days[shown], values[before, 0], **line)
            by_day = root_mean_square(errors[system])
            growth.plot(range(1, len(by_day) + 1), by_day, marker=".", **line)
        days.set_title("one day ahead", fontsize=10, loc="left")
        days.set_ylabel("temperature, °C")
        days.tick_params(axis="x", rotation=20)
        growth.set_title("RMSE on the held-back years, °C", fontsize=10, loc="left")
        growth.set_xlabel("days ahead")
        growth.set_ylim(bottom=0)
        days.legend()
        growth.legend()
        write_plot(path, figure)


def main() -> None:
    """Train, forecast and compare."""
    parser = argparse.ArgumentParser(description="A GRU forecasts a daily temperature.")
    parser.add_argument("table", nargs="?", help="a table with the columns Date and Temp")
    parser.add_argument("--horizon", type=at_least(1), default=7, help="days ahead K")
    parser.add_argument("--held-back", type=at_least(1), default=2, help="years to test on")
    parser.add_argument("--hidden", type=at_least(1), default=32, help="units H")
    parser.add_argument("--steps", type=at_least(1), default=400, help="of the optimizer")
    parser.add_argument("--batch", type=at_least(1), default=16, help="streams B")
    parser.add_argument("--window", type=at_least(2), default=64, help="time steps T")
    parser.add_argument("--learning-rate", type=above_zero, default=0.003)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--plot", metavar="FILE", help="draw forecasts: a .png, .svg or .pdf file")
    args = parser.parse_args()
    check_plot(args.plot)
    if args.horizon > MOST_DAYS_AHEAD:
        raise ConfigError(f"--horizon must be at most {MOST_DAYS_AHEAD}, got {args.horizon}")
    series = read_series(args.table) if args.table else synthetic(args.seed)
    train, test = split(series, args.held_back, args.horizon)
    usual = climatology(series, train)
    forecasts = {
        "GRU": learnt(series, usual, train, test, args),
        "persistence": persistence(series, args.horizon),
        "climatology": ahead(usual, args.horizon),
        "damped persistence": damped(series, usual, train, args.horizon),
    }
    # From the day before the held-back years on, so that every forecast is of a held-back day.
    truth = ahead(series.values, args.horizon)[test - 1 :]
    errors = {system: values[test - 1 :] - truth for system, values in forecasts.items()}
    print(
        f"{train} days to train on, {test - train} to choose by, {len(series.days) - test} to test"
    )
    table(errors, mean_absolute, "MAE")
    table(errors, root_mean_square, "RMSE")
    if args.plot:
        draw(series, test, forecasts, errors, args.plot)


if __name__ == "__main__":
    run_script(main)
