"""Measure inside the network: extra outputs with one number per kernel, so that no feature map leaves ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.cpu_session import open_session, run_session
from deploycc.detector import Detector
from deploycc.errors import MeasureError, ModelError
from deploycc.graph.affine import affine_of
from deploycc.graph.cost import measure_cost, node_macs
from deploycc.graph.edit import fresh_name, sole_reader, static_shape
from deploycc.graph.export import to_onnx
from deploycc.graph.gates.search import ACTIVATIONS, Gate, find_gates
from deploycc.graph.split import split_heads

_AXES_ARE_OPERANDS = 18  # opset from which ReduceMean and ReduceSumSquare take their axes as an operand
_SPATIAL = [2, 3]


@dataclass(frozen=True)
class ProbedLayer:
    """A convolution whose responses are measured.

    Attributes:
        name: node.
        macs: for one picture.
        kernels: number of output channels.
        response: tensor [1, kernels, H, W].
        activation: operator after the convolution, or None.
        gate: its gate, or None.
    """

    name: str
    macs: int
    kernels: int
    response: str
    activation: str | None
    gate: Gate | None


@dataclass(frozen=True, eq=False)
class Reading:
    """Values of one layer for one picture, float64 [kernels]; see `deploycc.documents.utilisation.LayerUse`."""

    used: NDArray[np.float64]
    squares: NDArray[np.float64]


def layers_to_probe(detector: Detector, gates: Sequence[Gate] | None = None) -> tuple[ProbedLayer, ...]:
    """Select the gated convolutions or, in a network without gates, the convolutions of the back-end.

    If the heads are unknown, every convolution is selected, including depthwise ones.

    Args:
        detector: not changed.
        gates: of its graph, if already known.

    Raises:
        ModelError: ``profile-no-layers``.
    """
    graph = detector.graph
    nodes = {node.name: node for node in graph.nodes}
    layers = []
    if gates is None:
        gates = find_gates(graph, detector.gates)
    for gate in gates:
        layers.append(ProbedLayer(gate.layer, node_macs(nodes[gate.layer]), gate.kernels, gate.response, None, gate))
    if not gates:
        inside = None
        if detector.heads is not None:
            inside = set(split_heads(graph, detector.heads.locations, detector.heads.scores).backend.nodes)
        for node in graph.nodes:
            if node.op == "Conv" and (inside is None or node.name in inside):
                layers.append(_activation_layer(graph, node))
    if not layers:
        raise ModelError(
            "profile-no-layers",
            "the network has neither gates nor convolutions that could be profiled",
            context={"network": detector.name},
        )
    return tuple(layers)


def backend_macs(detector: Detector) -> tuple[Literal["back-end", "network"], int]:
    """Return the part to which shares of MACs refer, and its MACs without gate modules."""
    graph = detector.graph
    gate_nodes = {name for gate in find_gates(graph, detector.gates) for name in gate.nodes}
    modules = {node.name: node_macs(node) for node in graph.nodes if node.name in gate_nodes}
    if detector.heads is None:
        return "network", measure_cost(graph).macs - sum(modules.values())
    backend = split_heads(graph, detector.heads.locations, detector.heads.scores).backend
    return "back-end", backend.macs - sum(modules.get(name, 0) for name in backend.nodes)


class Probe:
    """A detector in ONNX Runtime that returns readings instead of detections; another process can get a copy.

    Attributes:
        network: its name.
        input: the picture tensor.
        layers: that are read.
    """

    def __init__(self, detector: Detector, layers: Sequence[ProbedLayer], *, threads: int = 2) -> None:
        """Load the detector with the extra outputs instead of its own.

        Raises:
            MeasureError: ``onnxruntime-refuses``.
        """
        self.network, self.input, self.layers = detector.name, detector.input, tuple(layers)
        graph = detector.graph.copy()
        tensors = graph.tensors()
        graph.outputs = []
        self._areas = []
        for layer in layers:
            response = tensors[layer.response]
            shape = static_shape(response)
            if shape is None:
                raise ModelError("profile-shape", "the response has no fixed shape", context={"layer": layer.name})
            self._areas.append(shape[2] * shape[3])
            used = tensors[layer.gate.vector] if layer.gate else _share_of_non_zeros(graph, response)
            graph.outputs += [_as_output(graph, used), _reduce(graph, "ReduceSumSquare", response)]
        graph.cleanup().toposort()
        self._graph, self._threads = graph, threads
        self._session = open_session(to_onnx(graph), threads, {"network": self.network})

    def __getstate__(self) -> dict[str, Any]:
        """The network as a file, in place of the session."""
        state = {name: value for name, value in vars(self).items() if name not in ("_graph", "_session")}
        return {**state, "model": to_onnx(self._graph).SerializeToString()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open a session on the network."""
        model = onnx.load_from_string(state.pop("model"))
        vars(self).update(state, _graph=gs.import_onnx(model))
        self._session = open_session(model, self._threads, {"network": self.network})

    def read(self, tensor: NDArray[np.float32], picture: str) -> list[Reading]:
        """Run one picture.

        Args:
            tensor: shape ``input.shape``.
            picture: its name, for messages.

        Raises:
            MeasureError: ``response-not-finite``: a response is NaN or infinite, or its square overflows;
                ``onnxruntime-fails``.
        """
        context = {"network": self.network, "picture": picture}
        outputs = run_session(self._session, None, {self.input.name: tensor}, context)
        readings = []
        for layer, area, used, squares in zip(self.layers, self._areas, outputs[0::2], outputs[1::2], strict=True):
            reading = Reading(
                np.broadcast_to(used.reshape(-1).astype(np.float64), layer.kernels),
                squares.reshape(-1).astype(np.float64) / area,
            )
            wrong = np.flatnonzero(~np.isfinite(reading.used) | ~np.isfinite(reading.squares))
            if wrong.size:
                raise MeasureError(
                    "response-not-finite",
                    f"the response of kernel {wrong[0]} of layer {layer.name} is not finite",
                    context={"picture": picture, "layer": layer.name, "kernels": f"{wrong.size} of {layer.kernels}"},
                    note="it has NaN, infinity, or values whose squares exceed FP32, so it cannot be profiled",
                    hint="check the model's mean and scale, and its weights",
                )
            readings.append(reading)
        return readings


def _activation_layer(graph: gs.Graph, conv: gs.Node) -> ProbedLayer:
    """Use the activation after the convolution, also after affine layers; without one, the convolution's output."""
    tensor = conv.outputs[0]
    kernels = (static_shape(tensor) or (0, 0))[1]
    probed = ProbedLayer(conv.name, node_macs(conv), kernels, tensor.name, None, None)
    while (reader := sole_reader(graph, tensor)) is not None:
        if reader.op in ACTIVATIONS:
            return ProbedLayer(conv.name, probed.macs, kernels, reader.outputs[0].name, reader.op, None)
        if affine_of(reader) is None and reader.op != "Identity":
            break
        tensor = reader.outputs[0]
    return probed


def _share_of_non_zeros(graph: gs.Graph, response: gs.Tensor) -> gs.Variable:
    zero = gs.Constant(fresh_name(graph, "probe_zero"), np.zeros((), response.dtype))
    shape = response.shape
    is_zero = _node(graph, "Equal", [response, zero], shape, np.bool_)
    is_not_zero = _node(graph, "Not", [is_zero], shape, np.bool_)
    number = _node(graph, "Cast", [is_not_zero], shape, np.float32, to=1)
    return _reduce(graph, "ReduceMean", number)


def _reduce(graph: gs.Graph, op: str, source: gs.Tensor) -> gs.Variable:
    shape = [*source.shape[:2], 1, 1]
    if graph.opset >= _AXES_ARE_OPERANDS:
        axes = gs.Constant(fresh_name(graph, "probe_axes"), np.array(_SPATIAL))
        return _node(graph, op, [source, axes], shape, np.float32)
    return _node(graph, op, [source], shape, np.float32, axes=list(_SPATIAL))


def _as_output(graph: gs.Graph, tensor: gs.Tensor) -> gs.Variable:
    """Copy a tensor: a graph input cannot be an output, and no tensor can be an output twice."""
    return _node(graph, "Cast", [tensor], tensor.shape, np.float32, to=1)


def _node(graph: gs.Graph, op: str, inputs: list[gs.Tensor], shape: Any, dtype: Any, **attributes: Any) -> gs.Variable:
    result = gs.Variable(fresh_name(graph, f"probe_{op}_{len(graph.nodes)}"), np.dtype(dtype), shape)
    graph.nodes.append(gs.Node(op, result.name, attributes, inputs, [result]))
    return result
