"""Gates of training written as ordinary nodes of a graph, as exported networks have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from torch import Tensor

from deploycc.graph.edit import redirect_readers
from deploycc.graph.gates.metadata import DescribedGate
from deploycc.graph.shapes import infer_shapes
from deploycc.trainable.gate import FollowingGate, KernelGate


def write_gates(graph: gs.Graph, gates: Mapping[str, KernelGate | FollowingGate]) -> tuple[DescribedGate, ...]:
    """Insert gates after the bias of their convolutions.

    Args:
        graph: changed in place.
        gates: by the names of the convolutions, in graph order; a gate that decides comes before those that follow it.

    Returns:
        The gates as the file describes them.
    """
    nodes = {node.name: node for node in graph.nodes}
    writer = _Writer(graph)
    described = []
    for layer, gate in gates.items():
        if isinstance(gate, KernelGate):
            writer.decide(layer, nodes[layer].inputs[0], gate)
        described.append(writer.multiply(layer, nodes[layer], gate))
    graph.toposort()
    infer_shapes(graph)
    return tuple(described)


class _Writer:
    """Adds nodes to a graph; keeps the decision that was written last, for the gates that follow it."""

    def __init__(self, graph: gs.Graph) -> None:
        self._graph = graph
        self._probability: Any = None
        self._decision: Any = None
        self._cast: Any = None

    def decide(self, layer: str, source: Any, gate: KernelGate) -> None:
        """Write a gate up to its decisions, [1, units, 1, 1] of zeros and ones."""
        pooled = self._node("GlobalAveragePool", layer, "pool", [source])
        if gate.squeeze is not None:
            weight, bias = gate.squeeze.weight, gate.squeeze.bias
            assert bias is not None
            pooled = self._filter(layer, "squeeze", pooled, weight, bias)
            pooled = self._node("Relu", layer, "relu", [pooled])
        logits = self._filter(layer, "decide", pooled, *gate.logit_filters())
        self._probability = self._node("Sigmoid", layer, "probability", [logits])
        threshold = self._constant(layer, "threshold", np.array(gate.threshold, np.float32))
        self._decision = self._node("Greater", layer, "decision", [self._probability, threshold], np.bool_)
        self._cast = self._node("Cast", layer, "engaged", [self._decision], to=1)

    def multiply(self, layer: str, conv: gs.Node, gate: KernelGate | FollowingGate) -> DescribedGate:
        """Multiply a convolution's result with the decisions about its kernels."""
        unit_of: list[int] = gate.get_buffer("unit_of").tolist()
        mask = self._cast
        if gate.units != gate.kernels or isinstance(gate, FollowingGate):
            index = self._constant(layer, "unit_of", np.array(unit_of, np.int64))
            mask = self._node("Gather", layer, "mask", [mask, index], axis=1)
        response = conv.outputs[0]
        gated = gs.Variable(f"{layer}/gated", response.dtype, response.shape)
        redirect_readers(response, gated)
        multiply = gs.Node("Mul", f"{layer}/gated", {}, [response, mask], [gated])
        self._graph.nodes.append(multiply)
        return DescribedGate(
            layer=layer,
            conv=conv.name,
            multiply=multiply.name,
            place="after-bias",
            probability=self._probability.name,
            decision=self._decision.name,
            mask=mask.name,
            threshold=round(float(np.float32(gate.threshold)), 7),
            granularity=gate.granularity,
            kernels=gate.kernels,
            units=gate.units,
            unit_of=tuple(unit_of),
        )

    def _filter(self, layer: str, what: str, source: Any, weight: Tensor, bias: Tensor) -> Any:
        constants = [
            self._constant(layer, f"{what}/{part}", values.detach().cpu().numpy())
            for part, values in (("weight", weight), ("bias", bias))
        ]
        return self._node("Conv", layer, what, [source, *constants], kernel_shape=[1, 1])

    def _constant(self, layer: str, what: str, values: NDArray[Any]) -> gs.Constant:
        return gs.Constant(f"{layer}/gate/{what}", values.copy())

    def _node(self, op: str, layer: str, what: str, inputs: list[Any], dtype: Any = np.float32, **attrs: Any) -> Any:
        result = gs.Variable(f"{layer}/gate/{what}", np.dtype(dtype))
        self._graph.nodes.append(gs.Node(op, f"{layer}/gate/{what}", attrs, inputs, [result]))
        return result
