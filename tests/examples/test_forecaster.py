"""The forecaster of a daily temperature, run as a reader runs it."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from .running import run

FORECASTER = "forecaster/forecast.py"
TEMPERATURES = Path(__file__).parents[3] / "shared" / "corpora" / "daily-min-temperatures.csv"

Errors = dict[str, list[float]]


def errors(printed: str) -> tuple[Errors, Errors]:
    """MAE and RMSE of each system, by days ahead."""
    _, *tables = printed.split("\n\n")
    mae, rmse = (
        {
            line[:22].strip(): [float(v) for v in line[22:].split()]
            for line in table.splitlines()[1:]
        }
        for table in tables
    )
    return mae, rmse


def test_one_day_ahead_nothing_simple_is_better(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra chargen[plot]")
    picture = tmp_path / "forecast.svg"
    budget = ("--steps", "150", "--hidden", "16", "--horizon", "3", "--learning-rate", "0.01")
    printed = run(FORECASTER, *budget, "--plot", str(picture)).stdout
    for found in errors(printed):
        assert list(found) == ["GRU", "persistence", "climatology", "damped persistence"]
        assert found["GRU"][0] < min(found["persistence"][0], found["climatology"][0])
        assert found["persistence"][2] > 1.1 * found["climatology"][2]
    _, rmse = errors(printed)
    assert 1.85 < rmse["damped persistence"][0] < 2.15  # the noise that the series is made with
    drawn = picture.read_text("utf-8")
    assert all(name in drawn for name in ("truth", "GRU", "climatology", "days ahead"))


@pytest.mark.slow
def test_the_seed_decides(tmp_path: Path) -> None:
    budget = ("--steps", "3", "--hidden", "4", "--horizon", "2")
    one, same, other = (run(FORECASTER, *budget, "--seed", seed).stdout for seed in "112")
    assert one == same != other


@pytest.mark.skipif(
    not TEMPERATURES.is_file(), reason=f"needs ../shared/corpora/{TEMPERATURES.name}"
)
def test_real_temperatures() -> None:
    budget = ("--steps", "150", "--hidden", "16", "--horizon", "2", "--learning-rate", "0.01")
    _, rmse = errors(run(FORECASTER, str(TEMPERATURES), *budget).stdout)
    assert rmse["GRU"][0] < 0.95 * rmse["persistence"][0]
    assert rmse["GRU"][0] < 0.95 * rmse["climatology"][0]


def table(path: Path, days: int, *, odd: str = "", gap: range = range(0)) -> str:
    """A table of temperatures with `odd` for its third row, without those of a gap; its name."""
    first = datetime.date(1991, 1, 1)
    numbers = (day for day in range(days) if day not in gap)
    rows = [f"{first + datetime.timedelta(days=day)},{day % 17}" for day in numbers]
    if odd:
        rows[2] = odd
    path.write_text("\n".join(["Date,Temp", *rows]), "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("odd", "sentence"),
    [
        ("1991-01-03,warm", "line 4: could not convert string to float: 'warm'"),
        ("1991-01-03", "line 4: could not convert string to float: ''"),
        ("1991-01-03,nan", "line 4: nan is no temperature"),
        ("3 January,5", "line 4: Invalid isoformat string: '3 January'"),
        ("1991-01-02,5", "line 4: 1991-01-02 comes after 1991-01-02"),
    ],
)
def test_odd_rows_are_named(tmp_path: Path, odd: str, sentence: str) -> None:
    name = table(tmp_path / "odd.csv", 10, odd=odd)
    assert run(FORECASTER, name, code=1).stderr == f"forecast.py: {name}, {sentence}\n"


def test_other_mistakes_end_in_a_sentence(tmp_path: Path) -> None:
    short = table(tmp_path / "short.csv", 1000)
    said = run(FORECASTER, short, code=1).stderr
    assert "0 days are left to train on before the 3 years" in said
    for gap, purpose in ((range(1100, 1455), "choose by"), (range(1463, 2189), "test on")):
        name = table(tmp_path / "gap.csv", 2191, gap=gap)
        said = run(FORECASTER, name, "--horizon", "12", code=1).stderr
        assert f"days are there to {purpose}, fewer than --horizon 12" in said
    (tmp_path / "other.csv").write_text("when,what\n", "utf-8")
    said = run(FORECASTER, str(tmp_path / "other.csv"), code=1).stderr
    assert said.endswith("line 1: the columns Date and Temp are needed\n")
    assert "No such file" in run(FORECASTER, str(tmp_path / "none.csv"), code=1).stderr
    assert "--batch must be at most" in run(FORECASTER, "--batch", "5000", code=2).stderr
    assert "--horizon must be at most 30" in run(FORECASTER, "--horizon", "31", code=2).stderr
