"""Draw the loss of runs in a terminal, with plotille."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chargen.errors import MissingExtraError, printable
from chargen.plotting.curves import Curves, loss_unit, smoothed

_COLOURS = ("blue", "yellow", "green", "magenta", "cyan", "red", "white")
_MIN_WIDTH = 20
_LINES = 20
_LABEL_COLUMNS = 19
"""Columns that plotille needs for numbers, arrow and brackets."""


def terminal_plot(
    runs: Sequence[Curves],
    *,
    width: int,
    axis: str = "characters",
    nats: bool = False,
    smooth: float | None = None,
    colour: bool = True,
) -> str:
    """Draw the training loss of runs as lines of text; see `chargen.plotting.figure.picture`.

    Colours distinguish the runs; without colour, each run has its own drawing.
    """
    try:
        import plotille
    except ImportError as error:
        raise MissingExtraError("--terminal", "plot") from error
    groups = [list(runs)] if colour or len(runs) == 1 else [[run] for run in runs]
    texts = []
    for group in groups:
        figure = plotille.Figure()
        figure.width = max(_MIN_WIDTH, width - _LABEL_COLUMNS - len(axis))
        figure.height = _LINES
        figure.color_mode = "names"
        figure.with_colors = colour
        figure.set_x_limits(min_=0.0)
        unit, figure.y_label = loss_unit(group, nats)
        figure.x_label = axis
        figure.register_label_formatter(float, _label)
        figure.register_label_formatter(np.float64, _label)
        names = []
        for index, run in enumerate(group):
            tone = _COLOURS[index % len(_COLOURS)] if colour else None
            _draw(figure, run, axis, unit, smooth, tone)
            name = printable(run.name)
            names.append(plotille.color(f"-- {name}", fg=tone) if colour else name)
        texts.append(f"{figure.show()}\n{'  '.join(names)} (lines: training, o: validation)\n")
    return "\n".join(texts)


def _draw(
    figure: Any, run: Curves, axis: str, unit: float, smooth: float | None, tone: str | None
) -> None:
    # The first tenth is left out: its steep fall would flatten the rest.
    begin = len(run.steps) // 10 if len(run.steps) > 20 else 0
    positions = run.axis_positions(axis, run.steps)[begin:]
    loss = smoothed(run.rows["loss"] / unit, smooth)[begin:]
    finite = np.isfinite(loss) & np.isfinite(positions)
    figure.plot(positions[finite].tolist(), loss[finite].tolist(), lc=tone)
    if len(run.valid):
        valid_at = run.axis_positions(axis, run.valid_steps)
        visible = valid_at >= (positions[0] if len(positions) else 0)
        valid = (run.valid / unit)[visible]
        figure.scatter(valid_at[visible].tolist(), valid.tolist(), lc=tone, marker="o")


def _label(value: float, chars: int, delta: float, left: bool = False) -> str:
    """Format a number for an axis, in at most `chars` columns."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (abs(value) >= size and delta >= size / 10):
            shown = f"{value / size:.3g}{unit}"
            break
    else:
        shown = f"{value:.3f}" if delta < 10 else f"{value:.0f}"
    return f"{shown:{'<' if left else '>'}{chars}}"
