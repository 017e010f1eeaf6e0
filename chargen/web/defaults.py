"""What the fields of the page begin with, and how far they go."""

from __future__ import annotations

from chargen import options
from chargen.lm import recipes
from chargen.sampling.config import SamplingConfig

DRAWING = SamplingConfig()
"""As `chargen sample` draws where nothing is given."""

SEED: int = options.SEED.default
MINUTES = recipes.DEFAULT_MINUTES

MOST_CHARACTERS = 20_000
"""That can be written at once."""

MOST_TOP_K = 200
MOST_MINUTES = 24 * 60
REFRESH_SECONDS = 1.0
"""Between two looks at a run."""
