"""Initial values and limits of the page's fields."""

from __future__ import annotations

from chargen import options
from chargen.lm import recipes
from chargen.sampling.config import SamplingConfig

DRAWING = SamplingConfig()
"""The defaults of `chargen sample`."""

SEED: int = options.SEED.default
MINUTES = recipes.DEFAULT_MINUTES

MOST_CHARACTERS = 5_000
"""Most characters that can be written at once."""

MOST_TOP_K = 200
MOST_MINUTES = 24 * 60
REFRESH_SECONDS = 1.0
"""Interval at which the page checks a run."""
