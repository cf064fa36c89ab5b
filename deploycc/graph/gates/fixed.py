"""A gated network with its gates fixed: removed, or still computed but always on.

A gated network is compared with both. The first is the dense network; the second is the worst case of every lowering,
because the gates and everything that depends on them are still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import ModelError
from deploycc.graph.edit import bypass, constant_values, producer, set_constant
from deploycc.graph.gates.search import Gate

_FAR = 1e3  # added to a score: far beyond any threshold, and small enough to keep the order of nested scores
_BIASED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}  # operator -> operand that is added to each unit


def without_gates(graph: gs.Graph, gates: Iterable[Gate]) -> gs.Graph:
    """Return a copy of the graph in which every kernel is always on and no gate is computed."""
    copy = graph.copy()
    nodes = {node.name: node for node in copy.nodes}
    for gate in gates:
        multiply = nodes[gate.multiply]
        response = next(tensor for tensor in multiply.inputs if tensor.name == gate.response)
        bypass(copy, multiply, response)
    copy.cleanup().toposort()
    return copy


def with_gates_on(graph: gs.Graph, gates: Sequence[Gate]) -> gs.Graph:
    """Return a copy of the graph whose gates are computed as before and always decide for on.

    The bias of each score becomes so large that the picture does not matter.

    Raises:
        ModelError: ``gate-not-fixed``: no constant is added before a gate's threshold.
    """
    signs = {gate.layer: 1.0 for gate in gates}
    wrong = _off(_shifted(graph, gates, signs), gates)
    if wrong:  # these gates are on below their threshold
        signs.update(dict.fromkeys(wrong, -1.0))
        wrong = _off(_shifted(graph, gates, signs), gates)
    if wrong:
        raise ModelError(
            "gate-not-fixed",
            f"the bias of the gate of {wrong[0]} cannot keep it on, so its worst case cannot be timed",
            context={"layer": wrong[0]},
        )
    return _shifted(graph, gates, signs)


def _shifted(graph: gs.Graph, gates: Sequence[Gate], signs: dict[str, float]) -> gs.Graph:
    copy = graph.copy()
    tensors = copy.tensors()
    done: set[int] = set()
    for gate in gates:
        node, operand, units = _bias(tensors[gate.score], gate)
        if id(node) in done:  # one decision for several layers
            continue
        done.add(id(node))
        old = constant_values(node.inputs[operand]) if operand < len(node.inputs) else None
        bias = np.zeros(units, np.float32) if old is None else old
        set_constant(copy, node, operand, bias + np.float32(signs[gate.layer] * _FAR), f"{gate.layer}_fixed")
    return copy


def _bias(score: gs.Tensor, gate: Gate) -> tuple[gs.Node, int, int]:
    """Return the last node before the threshold that adds a constant, that operand, and the number of units."""
    node = producer(score)
    while node is not None:
        if node.op in _BIASED:
            shape = node.outputs[0].shape
            return node, _BIASED[node.op], int(shape[1]) if shape else 1
        if node.op == "Add":
            constant = next((i for i, t in enumerate(node.inputs) if isinstance(t, gs.Constant)), None)
            if constant is not None:
                return node, constant, 1
        node = producer(next((t for t in node.inputs if not isinstance(t, gs.Constant)), score))
    raise ModelError(
        "gate-not-fixed",
        f"no constant is added to the score of {gate.layer}'s gate, so its worst case cannot be timed",
        context={"layer": gate.layer, "score": gate.score},
    )


def _off(graph: gs.Graph, gates: Sequence[Gate]) -> list[str]:
    """Return the layers with a kernel that is off for a picture of noise."""
    from deploycc.cpu_session import open_session
    from deploycc.graph.export import to_onnx

    copy = graph.copy()
    tensors = copy.tensors()
    names = [gate.vector for gate in gates]
    copy.outputs = [tensors[name] for name in dict.fromkeys(names)]
    copy.cleanup()
    session = open_session(to_onnx(copy), 1, {"network": graph.name})
    feed = {t.name: np.random.default_rng(0).standard_normal(t.shape, np.float32) for t in copy.inputs}
    vectors = dict(zip(dict.fromkeys(names), session.run(None, feed), strict=True))
    return [gate.layer for gate in gates if not vectors[gate.vector].astype(np.float32).all()]
