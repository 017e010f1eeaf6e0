"""Draw the curves of runs as a picture of four panels, with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chargen.errors import ConfigError, printable
from chargen.plotting.curves import Array, Curves, loss_unit, smoothed
from chargen.plotting.painting import escape_controls
from chargen.plotting.style import COLOURS, DASHES, FORMATS, LINES, drawing, image

AXIS_NAMES = {
    "characters": "characters read",
    "seconds": "seconds",
    "steps": "steps",
    "epochs": "passes over the text",
}


def picture(
    runs: Sequence[Curves],
    form: str = "png",
    *,
    axis: str = "characters",
    nats: bool = False,
    smooth: float | None = None,
    title: str | None = None,
) -> bytes:
    """Draw runs: loss, loss over time, learning rate, and gradient norm with the clipped share.

    Parameters
    ----------
    form : {"png", "svg", "pdf"}
    axis : {"characters", "seconds", "steps", "epochs"}
        Horizontal axis; the second panel shows seconds instead, or steps if `axis` is seconds.
    nats : bool
        Loss in nats instead of bits.
    smooth : float, optional
        Smoothing of the training loss, from 0 (none) to below 1; by default it depends on the
        length of the run.
    """
    if form not in FORMATS:
        raise ConfigError(f"a picture must be a .png, .svg or .pdf file, not .{form}")
    with drawing("chargen plot", LINES) as figures:
        figure = figures(figsize=(11, 7), layout="constrained")
        panels = figure.subplots(2, 2).ravel()
        second = "steps" if axis == "seconds" else "seconds"
        unit, name = loss_unit(runs, nats)
        for index, run in enumerate(runs):
            line = {
                "color": COLOURS[index % len(COLOURS)],
                "linestyle": DASHES[index % len(DASHES)],
                "label": printable(run.name).lstrip("_") or "_",
            }
            _draw_loss(panels[0], run, axis, unit, smooth, line)
            _draw_loss(panels[1], run, second, unit, smooth, line)
            rates = run.rows["learning_rate"]
            panels[2].plot(run.axis_positions(axis, run.steps), rates, linewidth=1.4, **line)
            _draw_gradient(panels[3], run, axis, smooth, line)
        for axes in panels[:2]:
            axes.set_ylabel(f"loss, {name}")
            axes.set_title("training (line) and validation (dots)", fontsize=10)
            _limit_loss_axis(axes, runs, unit)
        _finish(figure, panels, axis, second, title)
        if any((run.rows["gradient_norm"] > 0).any() for run in runs):
            _scale_by_logarithm(panels[3])
        return image(figure, form)


def _draw_loss(
    axes: Any, run: Curves, axis: str, unit: float, smooth: float | None, line: dict[str, Any]
) -> None:
    positions = run.axis_positions(axis, run.steps)
    loss = run.rows["loss"] / unit
    axes.plot(positions, loss, color=line["color"], alpha=0.2, linewidth=0.8)
    axes.plot(positions, smoothed(loss, smooth), linewidth=1.4, **line)
    if len(run.valid):
        axes.plot(
            run.axis_positions(axis, run.valid_steps),
            run.valid / unit,
            color=line["color"],
            marker="o",
            markersize=4,
            linewidth=0.8,
            linestyle=line["linestyle"],
        )


def _draw_gradient(
    axes: Any, run: Curves, axis: str, smooth: float | None, line: dict[str, Any]
) -> None:
    positions, norms = run.axis_positions(axis, run.steps), run.rows["gradient_norm"]
    axes.plot(positions, norms, color=line["color"], alpha=0.25, linewidth=0.8)
    axes.plot(positions, smoothed(norms, smooth), linewidth=1.4, **line)
    share = run.rows["clipped_share"]
    finite = share[np.isfinite(share)]
    if run.clip is not None:
        clipped = f", {finite[-1]:.0%} of {line['label']}'s steps" if len(finite) else ""
        axes.axhline(
            run.clip, color=line["color"], linewidth=0.8, linestyle=":", label=f"clipped{clipped}"
        )


def _finish(figure: Any, panels: Any, axis: str, second: str, title: str | None) -> None:
    from matplotlib.ticker import EngFormatter

    for axes, along in zip(panels, (axis, second, axis, axis), strict=True):
        axes.set_xlabel(AXIS_NAMES[along])
        axes.set_xlim(left=0)
        if along == "characters":
            axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    panels[2].set_ylabel("learning rate")
    panels[3].set_ylabel("gradient norm")
    for axes, size in ((panels[0], 9), (panels[3], 8)):
        axes.legend(fontsize=size)
    if title:
        figure.suptitle(escape_controls(title))


def _scale_by_logarithm(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.set_yscale("log")
    # Plain numbers such as 0.3 instead of 3 times 10 to the -1, and only as many per decade as do
    # not overlap.
    plain = FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "1235" else "")
    for ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        ticks(plain)


def _limit_loss_axis(axes: Any, runs: Sequence[Curves], unit: float) -> None:
    """Limit the axis to leave out the first steep fall, which would flatten all other values."""
    tops, lows = [], []
    for run in runs:
        values: Array = run.rows["loss"] / unit
        values = values[np.isfinite(values)]
        rest = values[len(values) // 10 :]
        for losses in (rest, run.valid / unit):
            if len(losses):
                lows.append(float(losses.min()))
        tops.append(float(rest.max()) if len(rest) else 1.0)
    low, top = min(lows, default=0.0), max(tops)
    margin = 0.06 * (top - low) or 0.1
    axes.set_ylim(low - margin, top + margin)
