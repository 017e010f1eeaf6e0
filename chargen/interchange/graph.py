"""Build ONNX graphs of a language model from ONNX's own recurrent operators.

The graphs are assembled node by node rather than traced, so that they are readable, do not depend
on the version of torch, and leave T and B free. Independent of files.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from chargen.lm.cells import CELLS, gate_order
from chargen.lm.model import CharLM, Network

OPSET = 17
IR_VERSION = 8
"""From 2022: every onnxruntime since 1.12 reads it."""

# in ONNX's order
_GATE_ORDER = {
    "lstm": ("input", "output", "forget", "candidate"),
    "gru": ("update", "reset", "candidate"),
    "rnn": ("candidate",),
}


def step_model(model: Network) -> onnx.ModelProto:
    """Build the graph of one time step of B texts.

    The inputs are ids (B,) and states; the outputs are log-probabilities (B, V) and states.
    """
    graph = _Graph(model)
    ids = graph.add("Unsqueeze", "ids", graph.constant("axis_0", [0]))
    logits = graph.network(ids)
    log_probs = graph.add("LogSoftmax", logits, axis=-1)
    graph.add("Squeeze", log_probs, "axis_0", output="log_probs")
    return graph.finish(
        [_value("ids", TensorProto.INT64, ["B"])],
        [_value("log_probs", TensorProto.FLOAT, ["B", model.config.vocabulary_size])],
    )


def score_model(model: Network) -> onnx.ModelProto:
    """Build the graph that scores whole texts.

    The inputs are ids (T, B), the ids that follow them (T, B) and states; the outputs are the
    log-probabilities of the following ids (T, B) and states.
    """
    graph = _Graph(model)
    logits = graph.network("ids")
    log_probs = graph.add("LogSoftmax", logits, axis=-1)
    indices = graph.add("Unsqueeze", "next_ids", graph.constant("axis_last", [-1]))
    gathered = graph.add("GatherElements", log_probs, indices, axis=-1)
    graph.add("Squeeze", gathered, "axis_last", output="log_probs")
    return graph.finish(
        [_value(name, TensorProto.INT64, ["T", "B"]) for name in ("ids", "next_ids")],
        [_value("log_probs", TensorProto.FLOAT, ["T", "B"])],
    )


class _Graph:
    """The nodes and weights of a graph that is being built."""

    def __init__(self, model: Network) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.states = CELLS[model.config.cell].states
        self.constant("axis_units", [2])

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def weight(self, name: str, value: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def constant(self, name: str, values: list[int]) -> str:
        return self.weight(name, np.array(values, np.int64))

    def network(self, ids: str) -> str:
        """Return the logits (T, B, V) of ids (T, B), and make the final states outputs."""
        pairs = [self._member(i, member, ids) for i, member in enumerate(self.model.members)]
        for index, name in enumerate(self.states):
            self.add("Concat", *(final[index] for _, final in pairs), output=f"{name}_out", axis=2)
        return self.add("Mean", *(logits for logits, _ in pairs))

    def _member(self, member_index: int, model: CharLM, ids: str) -> tuple[str, list[str]]:
        """Return the logits (T, B, V) of one network and its final states (layers, B, H)."""
        name = f"network_{member_index}"
        begin = self.constant(f"{name}_begin", [member_index * model.hidden_size])
        end = self.constant(f"{name}_end", [(member_index + 1) * model.hidden_size])
        own = [self.add("Slice", state, begin, end, "axis_units") for state in self.states]
        embedding = self.weight(f"{name}_embedding", _array(model.embedding.weight))
        outputs = self.add("Gather", embedding, ids)
        final: list[list[str]] = []
        for index in range(len(model.layers)):
            outputs, states = self._layer(f"{name}_layer_{index}", model, index, outputs, own)
            final.append(states)
        if model.projection is not None:
            outputs = self._linear(f"{name}_projection", model.projection, outputs)
        logits = self._linear(f"{name}_output", model.output, outputs)
        return logits, [self.add("Concat", *parts, axis=0) for parts in zip(*final, strict=True)]

    def _layer(
        self, name: str, model: CharLM, index: int, inputs: str, states: list[str]
    ) -> tuple[str, list[str]]:
        cell, layer = model.config.cell, model.layers[index]
        weights = [
            self.weight(
                f"{name}_{kind}", _onnx_gates(layer.get_parameter(f"weight_{part}_l0"), cell)
            )
            for kind, part in (("W", "ih"), ("R", "hh"))
        ]
        biases = [
            _onnx_gates(layer.get_parameter(f"bias_{part}_l0"), cell) for part in ("ih", "hh")
        ]
        weights.append(self.weight(f"{name}_B", np.concatenate(biases, axis=-1)))
        begin = self.constant(f"{name}_begin", [index])
        end = self.constant(f"{name}_end", [index + 1])
        before = [self.add("Slice", state, begin, end) for state in states]
        outputs = [f"{name}_Y", *(f"{name}_Y_{state}" for state in self.states)]
        # With linear_before_reset, a GRU resets after the product, as in torch (cuDNN's variant).
        extra: dict[str, Any] = {"linear_before_reset": 1} if cell == "gru" else {}
        self.nodes.append(
            helper.make_node(
                CELLS[cell].module,
                [inputs, *weights, "", *before],
                outputs,
                hidden_size=model.hidden_size,
                **extra,
            )
        )
        directions = self.constant(f"{name}_directions", [1])
        return self.add("Squeeze", outputs[0], directions), outputs[1:]  # (T, 1, B, H) to (T, B, H)

    def _linear(self, name: str, linear: Any, inputs: str) -> str:
        weight = self.weight(f"{name}_weight", _array(linear.weight).T)
        product = self.add("MatMul", inputs, weight)
        return self.add("Add", product, self.weight(f"{name}_bias", _array(linear.bias)))

    def finish(self, inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
        shape = [self.model.config.num_layers, "B", self.model.hidden_size]
        inputs = inputs + [_value(name, TensorProto.FLOAT, shape) for name in self.states]
        outputs = outputs + [_value(f"{n}_out", TensorProto.FLOAT, shape) for n in self.states]
        graph = helper.make_graph(self.nodes, "chargen", inputs, outputs, self.weights)
        model = helper.make_model(
            graph,
            producer_name="chargen",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _value(name: str, kind: int, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return array


def _onnx_gates(tensor: Tensor, cell: str) -> NDArray[np.float32]:
    """Return weights with their gates in ONNX's order and a leading axis for one direction."""
    gates = np.split(_array(tensor), len(_GATE_ORDER[cell]))
    return np.concatenate([gates[index] for index in gate_order(cell, _GATE_ORDER[cell])])[None]
