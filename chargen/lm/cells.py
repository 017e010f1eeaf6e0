"""Table of the recurrent cells; it imports no torch because the command line lists their names."""

from __future__ import annotations

from typing import NamedTuple


class Cell(NamedTuple):
    """Gates, states and implementation of a recurrent cell."""

    gates: tuple[str, ...]  # in the order in which torch stacks their matrices
    states: tuple[str, ...]  # the parts of a `chargen.lm.recurrent.State`
    module: str  # name of the class in torch.nn and of the operator in ONNX
    kernel: str  # name of the torch function that the class calls


CELLS = {
    "lstm": Cell(("input", "forget", "candidate", "output"), ("h", "c"), "LSTM", "lstm"),
    "gru": Cell(("reset", "update", "candidate"), ("h",), "GRU", "gru"),
    "rnn": Cell(("candidate",), ("h",), "RNN", "rnn_tanh"),
}


def gate_order(cell: str, gates: tuple[str, ...]) -> list[int]:
    """Return the position of each of `gates` in torch's order."""
    return [CELLS[cell].gates.index(gate) for gate in gates]
