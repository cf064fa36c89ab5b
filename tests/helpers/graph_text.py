"""Small networks from ONNX text, wrapped as detectors, and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
from numpy.typing import NDArray

from deploycc.detector import Detector, InputSpec, Source
from deploycc.graph.shapes import infer_shapes
from deploycc.parsers.support import Contract
from deploycc.passes.options import Options

RTX = Contract("tensorrt-rtx")
FP16 = Options(RTX, precision="fp16", typed=True)


def network(text: str, values: Mapping[str, NDArray[Any]] | None = None, *, seed: int = 0) -> Detector:
    """Read ONNX text. Every input but ``x`` is a constant: from ``values``, else seeded normal numbers.

    That is the form in which `deploycc.graph.text` prints a network.
    """
    graph = gs.import_onnx(onnx.parser.parse_model(text))
    generator = np.random.default_rng(seed)
    given = dict(values or {})
    for tensor in graph.inputs:
        if tensor.name != "x":
            drawn = generator.normal(size=tensor.shape).astype(tensor.dtype)
            tensor.to_constant(np.asarray(given.pop(tensor.name, drawn)))
    assert not given, f"no inputs of these names: {sorted(given)}"
    graph.inputs = [tensor for tensor in graph.inputs if tensor.name == "x"]
    infer_shapes(graph)
    return detector(graph)


def detector(graph: gs.Graph) -> Detector:
    """A detector around any graph with one input."""
    shape = [*(graph.inputs[0].shape or []), 1, 1, 1, 1]
    spec = InputSpec(graph.inputs[0].name, int(shape[2]), int(shape[3]))
    return Detector(graph, spec, Source(files=("test",), sha256="0" * 64, format="onnx"))


def picture(graph: gs.Graph, seed: int = 0) -> NDArray[np.float32]:
    """A seeded normal input of the graph's shape."""
    return np.random.default_rng(seed).normal(size=graph.inputs[0].shape).astype(np.float32)


def run(graph: gs.Graph, x: NDArray[np.float32] | None = None) -> list[NDArray[Any]]:
    """Check the graph as ONNX, types and shapes included, and run it on ``x`` (default: `picture`)."""
    return runner(graph)(picture(graph) if x is None else x)


def runner(graph: gs.Graph) -> Callable[[NDArray[np.float32]], list[NDArray[Any]]]:
    """Check the graph as ONNX, types and shapes included, and return what runs it on a picture."""
    model = gs.export_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    [name] = [tensor.name for tensor in graph.inputs]
    return lambda x: session.run(None, {name: x})


def operators(graph: gs.Graph) -> list[str]:
    """The operators in order."""
    return [node.op for node in graph.nodes]
