"""A daily series: read from a table, or generated from a seed."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chargen.errors import CorpusError

Array = NDArray[np.float64]
YEAR = 365.2425


@dataclass(frozen=True)
class Series:
    """Values and their days, in order.

    Attributes
    ----------
    days : (N,) datetime64[D]
    values : (N,) float64
        In the unit of the table; degrees Celsius if generated.
    """

    days: NDArray[np.datetime64]
    values: Array

    @property
    def phases(self) -> Array:
        """The season of each day as an angle, (N,) radians."""
        angles: Array = 2 * math.pi * self.days.astype(np.float64) / YEAR
        return angles

    def last(self, years: int) -> int:
        """Return the index where the last `years` years begin; 0 if the series has no more."""
        before = self.days[-1] - np.timedelta64(round(YEAR * years), "D")
        return int(np.searchsorted(self.days, before, side="right"))


def read_series(path: str) -> Series:
    """Read a table with the columns Date (as 1981-01-31) and Temp; days may be missing.

    Raises
    ------
    CorpusError
        If the columns are missing, a row cannot be read or is not later than the row before it (the
        message names the line), or all values are equal.
    """
    days: list[date] = []
    values: list[float] = []
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        try:
            if not {"Date", "Temp"} <= set(rows.fieldnames or ()):
                raise ValueError("the columns Date and Temp are needed")
            for row in rows:
                day, value = date.fromisoformat(row["Date"] or ""), float(row["Temp"] or "")
                if not math.isfinite(value):
                    raise ValueError(f"{value} is no temperature")
                if days and day <= days[-1]:
                    raise ValueError(f"{day} comes after {days[-1]}")
                days.append(day)
                values.append(value)
        except (ValueError, csv.Error) as error:
            raise CorpusError(f"{path}, line {rows.line_num}: {error}") from error
    if len(set(values)) < 2:
        raise CorpusError(f"{path} has no values that differ")
    return Series(np.array(days, "datetime64[D]"), np.array(values))


def synthetic(seed: int, years: int = 10) -> Series:
    """Generate a season of 6 degrees around 11, and AR(1) weather: coefficient 0.7, noise of 2."""
    generator = np.random.default_rng(seed)
    days = np.arange(np.datetime64("2001-01-01"), np.datetime64(f"{2001 + years}-01-01"))
    weather = np.zeros(len(days))
    for t, noise in enumerate(generator.normal(0, 2, len(days))):
        weather[t] = (0.7 * weather[t - 1] if t else 0.0) + noise
    flat = Series(days, weather)
    return Series(days, 11 + 6 * np.cos(flat.phases) + weather)
