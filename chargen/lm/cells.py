"""The recurrent cells, each described once. No torch here: the command line offers their names."""

from __future__ import annotations

from typing import NamedTuple


class Cell(NamedTuple):
    """What the code has to know of a recurrent cell."""

    gates: tuple[str, ...]  # in the order in which torch stacks their matrices
    states: tuple[str, ...]  # the parts of a `chargen.lm.recurrent.State`
    module: str  # torch.nn's class; ONNX's operator has the same name
    kernel: str  # torch's function that the class ends in


CELLS = {
    "lstm": Cell(("input", "forget", "candidate", "output"), ("h", "c"), "LSTM", "lstm"),
    "gru": Cell(("reset", "update", "candidate"), ("h",), "GRU", "gru"),
    "rnn": Cell(("candidate",), ("h",), "RNN", "rnn_tanh"),
}


def gate_order(cell: str, wanted: tuple[str, ...]) -> list[int]:
    """Where each of the `wanted` gates stands in torch's order."""
    return [CELLS[cell].gates.index(gate) for gate in wanted]
