"""Running a graph in ONNX Runtime without copying its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
from numpy.typing import NDArray

from deploycc.cpu_session import open_session, run_session
from deploycc.graph.export import without_own_weights


class GraphRunner:
    """A graph, ready to run on the CPU. It reads the graph's own weights, which must not change meanwhile."""

    def __init__(self, graph: gs.Graph, threads: int, context: Mapping[str, object]) -> None:
        """Load a graph.

        Args:
            graph: not changed.
            threads: inside one operator.
            context: of an error, naming the network.

        Raises:
            MeasureError: ``onnxruntime-refuses``.
        """
        model, weights = without_own_weights(graph)
        self._weights: dict[str, ort.OrtValue] = {}  # the session does not keep them alive
        for weight in weights:
            array = np.ascontiguousarray(weight.values)
            declared = model.graph.initializer.add(
                name=weight.name,
                dims=array.shape,
                data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
                data_location=onnx.TensorProto.EXTERNAL,
            )
            declared.external_data.add(key="location", value="memory")
            self._weights[weight.name] = ort.OrtValue.ortvalue_from_numpy(array)
        self._session, self._context = open_session(model, threads, context, weights=self._weights), context
        self._inputs = {tensor.name for tensor in self._session.get_inputs()}
        self._outputs = [tensor.name for tensor in self._session.get_outputs()]

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name; inputs that the graph does not have are ignored.

        Raises:
            MeasureError: ``onnxruntime-fails``.
        """
        given = {name: value for name, value in inputs.items() if name in self._inputs}
        return dict(zip(self._outputs, run_session(self._session, None, given, self._context), strict=True))


def cut_at(graph: gs.Graph, outputs: Sequence[str]) -> gs.Graph:
    """Return a copy of the graph that ends in these tensors, without what only others need."""
    clone = graph.copy()
    tensors = clone.tensors()
    clone.outputs = [tensors[name] for name in outputs]
    return clone.cleanup()
