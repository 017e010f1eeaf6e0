"""Vanishing and exploding gradients, measured, and the effect of clipping.

For each cell and each scale of the recurrent weights, the norm of dL_T/dh_t is measured for a loss
L_T = <g, h_T> at the last time step only, with a random g of norm 1. The inputs are random. The
table shows the norm, averaged over trials, at several distances T - t. An LSTM's rows show only
what flows through h_t: its cell state c_t is a second path, which dL_T/dh_t does not contain.
`clipped` is the norm of dL_T/dU after clipping, which limits a step but cannot restore a gradient
that vanished.

`--plot` draws the norm at every distance. Run it:

    python examples/rnn_chapter/gradients.py --steps 60 --plot gradients.png
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

from chargen.cli.scripts import above_zero, at_least, check_plot, run_script, write_plot
from chargen.plotting.style import COLOURS, DASHES, LINES, drawing
from chargen.training.optimizers import clip_gradient

CELLS: dict[str, type[nn.RNNCell | nn.LSTMCell | nn.GRUCell]] = {
    "rnn": nn.RNNCell,
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
}
SCALES = (0.5, 1.0, 2.0)


def norms(
    cell: str, scale: float, steps: int, hidden: int, trials: int, clip: float
) -> tuple[Tensor, float, float]:
    """Return mean norms of dL_T/dh_t by distance T - t, (T,), of dL_T/dU, and of dL_T/dU clipped.

    The recurrent weights are normal with standard deviation scale / sqrt(H).
    """
    by_distance, weights, clipped = [], [], []
    for _ in range(trials):
        unit = CELLS[cell](hidden, hidden).double()
        nn.init.normal_(unit.weight_hh, std=scale / hidden**0.5)
        h = c = torch.zeros(1, hidden, dtype=torch.float64)
        states = []
        for x in torch.randn(steps, 1, hidden, dtype=torch.float64) * 0.1:
            if cell == "lstm":
                h, c = unit(x, (h, c))
            else:
                h = unit(x, h)
            h.retain_grad()
            states.append(h)
        g = torch.randn_like(h)
        torch.autograd.backward((h * g / g.norm()).sum())
        gradients = [state.grad for state in reversed(states)]
        by_distance.append(torch.stack([grad.norm() for grad in gradients if grad is not None]))
        weights.append(float(clip_gradient([unit.weight_hh], clip)))
        clipped.append(float(unit.weight_hh.grad.norm()))  # type: ignore[union-attr]
    return torch.stack(by_distance).mean(0), sum(weights) / trials, sum(clipped) / trials


def draw(found: dict[tuple[str, float], Tensor], path: str) -> None:
    """Draw the norms (T,) of each cell and scale against the distance, one panel per scale."""
    with drawing("--plot", {**LINES, "text.parse_math": True}) as figures:
        figure = figures(figsize=(11, 4), layout="constrained")
        panels = figure.subplots(1, len(SCALES), sharey=True)
        for axes, scale in zip(panels, SCALES, strict=True):
            for cell, colour, dashes in zip(CELLS, COLOURS, DASHES, strict=False):
                norm = found[cell, scale]
                axes.semilogy(norm.tolist(), color=colour, linestyle=dashes, label=cell.upper())
            axes.set_title(f"weights of scale {scale:g}", fontsize=10, loc="left")
            axes.set_xlabel("distance $T - t$, time steps")
            axes.set_xlim(left=0)
        panels[0].set_ylabel("norm of $dL_T/dh_t$")
        panels[0].legend()
        write_plot(path, figure)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Vanishing and exploding gradients.")
    parser.add_argument("--steps", type=at_least(2), default=60, help="time steps T")
    parser.add_argument("--hidden", type=at_least(1), default=32, help="units H")
    parser.add_argument("--trials", type=at_least(1), default=5)
    parser.add_argument("--clip", type=above_zero, default=1.0, help="longest gradient of a step")
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--plot", metavar="FILE", help="draw the norms: a .png, .svg or .pdf file")
    args = parser.parse_args()
    check_plot(args.plot)
    torch.manual_seed(args.seed)
    distances = sorted({0, 1, args.steps // 4, args.steps // 2, args.steps - 1})
    print("cell  scale " + "".join(f"{'T-t=' + str(d):>10}" for d in distances), end="")
    print(f"{'|dL/dU|':>10}{'clipped':>10}")
    sizes = (args.steps, args.hidden, args.trials, args.clip)
    curves = {}
    for cell in CELLS:
        for scale in SCALES:
            norm, weight, clipped = norms(cell, scale, *sizes)
            row = "".join(f"{float(norm[d]):10.1e}" for d in distances)
            print(f"{cell:5} {scale:5.1f} {row}{weight:10.1e}{clipped:10.1e}")
            curves[cell, scale] = norm
    if args.plot:
        draw(curves, args.plot)


if __name__ == "__main__":
    run_script(main)
