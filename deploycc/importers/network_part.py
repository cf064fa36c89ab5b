"""Run the part of a graph between two tensors, without the rest of the network."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime
from numpy.typing import NDArray

from deploycc.cpu_session import open_session
from deploycc.graph.export import to_onnx

_THREADS = 2

# Box arithmetic uses none of these: the search for heads ends here.
_NETWORK = frozenset(
    [
        *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "Gemm", "MatMul", "LSTM", "GRU"),
        *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "LRN"),
    ]
)


class NetworkPart:
    """The part of a graph from ``start`` to ``end``, ready to run."""

    def __init__(self, graph: gs.Graph, start: gs.Variable, end: gs.Variable) -> None:
        """Cut the part out of a copy of ``graph``.

        Raises:
            MeasureError: ONNX Runtime cannot run an operator of the part.
        """
        clone = graph.copy()
        tensors = clone.tensors()
        entry, leave = tensors[start.name], tensors[end.name]
        entry.inputs.clear()
        clone.inputs, clone.outputs = [entry], [leave]
        clone.cleanup()
        self.shape = tuple(start.shape)
        self._names = (start.name, end.name)
        self._session = session(clone)

    def __call__(self, value: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the part on one value of the start tensor, reshaped as needed."""
        entry, leave = self._names
        result: NDArray[np.float32] = self._session.run([leave], {entry: value.reshape(self.shape)})[0]
        return result


def session(graph: gs.Graph) -> onnxruntime.InferenceSession:
    """Open an ONNX Runtime session on the CPU."""
    return open_session(to_onnx(graph), _THREADS, {"network": graph.name})


def elements(tensor: gs.Tensor) -> int:
    """Return the number of elements, or 0 if the shape is not static."""
    shape = tensor.shape
    return math.prod(shape) if shape and all(isinstance(d, int) for d in shape) else 0


def separators(end: gs.Variable, count: int) -> Iterator[gs.Variable]:
    """Yield float tensors of ``count`` elements that cut ``end`` off from the network, the nearest first.

    Constants may bypass the cut. ``end`` itself comes first if it has ``count`` elements.
    """
    seen: dict[int, gs.Variable] = {}
    queue: list[gs.Variable] = [end]
    for tensor in queue:  # grows while it is walked
        if id(tensor) in seen or not isinstance(tensor, gs.Variable):
            continue
        seen[id(tensor)] = tensor
        for node in tensor.inputs:
            if node.op not in _NETWORK:
                queue.extend(node.inputs)
    for tensor in seen.values():
        if elements(tensor) == count and tensor.dtype == np.float32 and _separates(tensor, end):
            yield tensor


def _separates(cut: gs.Variable, end: gs.Variable) -> bool:
    seen: set[int] = {id(cut)}
    stack: list[gs.Tensor] = [end]
    while stack:
        tensor = stack.pop()
        if id(tensor) in seen or isinstance(tensor, gs.Constant) or tensor.is_empty():
            continue
        seen.add(id(tensor))
        if not tensor.inputs or tensor.inputs[0].op in _NETWORK:
            return False
        stack.extend(tensor.inputs[0].inputs)
    return True
