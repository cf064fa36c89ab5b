"""Gates that static pruning replaces: each becomes one number per kernel, and the gate module leaves the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.errors import ModelError
from deploycc.graph.edit import constant_values, fresh_name, producer
from deploycc.graph.gates.search import Gate, describe_again, find_gates
from deploycc.passes.options import Options
from deploycc.passes.runner import Result

# f(c x) = c f(x) for every c >= 0
_HOMOGENEOUS = frozenset(["Relu", "LeakyRelu", "PRelu", "Identity", "Dropout", "MaxPool", "AveragePool"])


def fold_gates(detector: Detector, options: Options) -> Result:
    """Replace the gates of ``options.prune.coefficients`` by constants; does nothing without.

    See `replace_gates` for the algebra.

    Raises:
        ModelError: ``prune-unknown-gate``: a layer that is named has no gate.
    """
    coefficients = {} if options.prune is None else options.prune.coefficients
    if not coefficients:
        return Result(detector, False)
    gates = {gate.layer: gate for gate in find_gates(detector.graph, detector.gates)}
    if unknown := [layer for layer in coefficients if layer not in gates]:
        raise ModelError(
            "prune-unknown-gate",
            f"layer {unknown[0]} has no gate that could become a constant",
            context={"gated layers": ", ".join(gates) or "none"},
        )
    folded = tuple(gates[layer] for layer in gates if layer in coefficients)
    replace_gates(detector, folded, {layer: np.asarray(values) for layer, values in coefficients.items()})
    return Result(replace(detector, gates=describe_again(detector.graph, detector.gates)), True)


def replace_gates(detector: Detector, gates: tuple[Gate, ...], coefficients: Mapping[str, NDArray[np.float64]]) -> None:
    """Multiply each kernel with its coefficient instead of its gate, in place; gate modules are removed.

    ``c * f(W x + b) = f(c * (W x + b))`` where f is positively homogeneous (ReLU, LeakyReLU, PReLU, Clip from 0 to
    infinity, pooling) and c >= 0: the multiplication moves before f, next to the convolution or its BatchNorm, where
    `deploycc.passes.fold_affine` makes it part of weights and bias. After any other activation, such as ReLU6, it
    stays a multiplication by one constant per channel. Before a shift (`Gate.place` ``before-bias``,
    ``before-batchnorm``) it stays one until that pass joins the two: a kernel that is off holds the shift, not zero.

    Before: ``y = Relu(Conv(x, W, b)); z = Mul(y, gate(x))``
    After:  ``z = Relu(Mul(Conv(x, W, b), c))``

    Args:
        detector: its graph is changed.
        gates: of the graph (`deploycc.graph.gates.search.find_gates`).
        coefficients: for each gated layer, by name, [kernels], none negative.

    Raises:
        ValueError: a coefficient is negative or not finite, or there are not as many as kernels.
    """
    graph = detector.graph
    nodes = {node.name: node for node in graph.nodes}
    for gate in gates:
        values = np.asarray(coefficients[gate.layer], np.float64)
        if values.shape != (gate.kernels,) or not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(f"layer {gate.layer} needs {gate.kernels} finite coefficients, none negative")
        _replace(graph, nodes[gate.multiply], gate, values)
    graph.cleanup().toposort()


def _replace(graph: gs.Graph, multiply: gs.Node, gate: Gate, values: NDArray[np.float64]) -> None:
    response = next(tensor for tensor in multiply.inputs if tensor.name == gate.response)
    result = multiply.outputs[0]
    multiply.inputs.clear()
    multiply.outputs.clear()
    if (values == 1).all():
        _take_place(graph, response, result)
        return
    source, last = response, None
    while (step := producer(source)) is not None and _commutes(step):
        source, last = step.inputs[0], step
    factor = gs.Constant(
        fresh_name(graph, f"{gate.layer}_coefficient"), values.reshape(1, -1, 1, 1).astype(source.dtype)
    )
    if last is None:
        graph.nodes.append(gs.Node("Mul", gate.multiply, {}, [response, factor], [result]))
        return
    product = gs.Variable(fresh_name(graph, f"{gate.layer}_scaled"), source.dtype, source.shape)
    last.inputs[0] = product  # `find_gates` saw that nothing else reads on the way from the convolution
    graph.nodes.append(gs.Node("Mul", gate.multiply, {}, [source, factor], [product]))
    _take_place(graph, response, result)


def _take_place(graph: gs.Graph, response: gs.Tensor, result: gs.Tensor) -> None:
    """Let the node that makes the response write the result; graph outputs keep their names."""
    writer = response.inputs[0]
    writer.outputs[next(i for i, tensor in enumerate(writer.outputs) if tensor is response)] = result


def _commutes(node: gs.Node) -> bool:
    """Return whether a non-negative factor gives the same before and after the node."""
    if node.op != "Clip":
        return node.op in _HOMOGENEOUS
    low, high = (_limit(node, name, index) for name, index in (("min", 1), ("max", 2)))
    return low in (0.0, -np.inf) and high == np.inf


def _limit(node: gs.Node, attribute: str, index: int) -> float | None:
    """A limit of Clip; infinity where it has none, None where it is computed."""
    none = -np.inf if attribute == "min" else np.inf
    if len(node.inputs) <= index or node.inputs[index].is_empty():
        limit = float(node.attrs.get(attribute, none))
    else:
        value = constant_values(node.inputs[index])
        if value is None:
            return None
        limit = float(value.reshape(-1)[0])
    return none if abs(limit) >= float(np.finfo(np.float32).max) else limit
