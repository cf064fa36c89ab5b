"""Compare an FP16 network with its FP32 counterpart, tensor by tensor, on real pictures.

The comparison runs on this machine's CPU with FP16 storage and FP32 arithmetic: every tensor and weight that is FP16
in the typed network is rounded to FP16, every operator computes in FP32. A GPU that also accumulates in FP16 loses
more; one that fuses operators rounds less often.

Running the FP16 network in ONNX Runtime's CPU provider would not show this. The provider has no FP16 kernels, inserts
Casts around each operator, and removes each pair of Casts between two operators, so that intermediate results are
never rounded (1024 + 0.1 - 1024 gives 0.1; FP16 gives 0). Here the Casts belong to the network, so it keeps them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
from numpy.typing import NDArray

from deploycc.cpu_session import open_session
from deploycc.detector import Detector
from deploycc.errors import MeasureError
from deploycc.graph.edit import FreshNames, producer, static_shape
from deploycc.graph.export import to_onnx
from deploycc.graph.half import FP16_MAX

DEVICE = "ONNX Runtime CPU: FP16 storage, FP32 arithmetic"
_FETCH_BYTES = 256 << 20  # limit of intermediate tensors fetched per run; a lower limit needs more runs
_CHUNK = 1 << 20  # elements compared at once, in float64
_THREADS = 2


@dataclass(frozen=True)
class TensorDifference:
    """Difference between the tensors of a node in the FP16 and the FP32 network, over all pictures.

    Attributes:
        name: of the node or, for graph outputs, of the output.
        op: the node's operator.
        max_abs_error: largest absolute difference, over elements that are finite in both.
        relative_error: ``norm(fp16 - fp32) / norm(fp32)`` over the same elements; 0 if both are zero everywhere.
        largest: largest absolute value in FP32, to compare with 65504.
        overflows: number of elements that are infinite or NaN in FP16 and finite in FP32.
        elements: number of elements compared.
        half: whether the tensor is stored as FP16.
    """

    name: str
    op: str
    max_abs_error: float
    relative_error: float
    largest: float
    overflows: int
    elements: int
    half: bool

    @property
    def headroom(self) -> float:
        """Factor by which the largest value could grow before it exceeds 65504; infinite for a tensor of zeros."""
        return FP16_MAX / self.largest if self.largest else math.inf


@dataclass(frozen=True)
class PrecisionReport:
    """Differences between an FP16 and an FP32 network.

    Attributes:
        outputs: one entry per graph output, in the network's order.
        layers: one entry per node that both networks have, in graph order.
        pictures: number of pictures run.
        provenance: the figures come from a run.
        device: the device, and its arithmetic.
    """

    outputs: tuple[TensorDifference, ...]
    layers: tuple[TensorDifference, ...]
    pictures: int
    provenance: Literal["measured"] = "measured"
    device: str = DEVICE

    @property
    def overflowing(self) -> tuple[TensorDifference, ...]:
        """Layers with infinities or NaN that FP32 does not have, in graph order."""
        return tuple(layer for layer in self.layers if layer.overflows)

    def worst(self, count: int) -> tuple[TensorDifference, ...]:
        """Return the layers with the largest relative errors."""
        return tuple(sorted(self.layers, key=lambda layer: layer.relative_error, reverse=True)[:count])


@dataclass
class _Sums:
    """Sums and extremes of a tensor's differences over the pictures."""

    largest_error: float = 0.0
    squared_error: float = 0.0
    squared_value: float = 0.0
    largest: float = 0.0
    overflows: int = 0
    elements: int = 0

    def add(self, reference: NDArray[Any], half: NDArray[Any]) -> None:
        for start in range(0, reference.size, _CHUNK):
            chunk = slice(start, start + _CHUNK)
            self._add_chunk(reference.reshape(-1)[chunk].astype(np.float64), half.reshape(-1)[chunk].astype(np.float64))

    def _add_chunk(self, expected: NDArray[np.float64], actual: NDArray[np.float64]) -> None:
        finite_in_fp32 = np.isfinite(expected)
        finite = finite_in_fp32 & np.isfinite(actual)
        self.overflows += int(np.count_nonzero(finite_in_fp32) - np.count_nonzero(finite))
        self.elements += expected.size
        self.largest = max(self.largest, float(np.abs(expected[finite_in_fp32]).max(initial=0.0)))
        expected, error = expected[finite], actual[finite] - expected[finite]
        self.largest_error = max(self.largest_error, float(np.abs(error).max(initial=0.0)))
        self.squared_error += float(error @ error)
        self.squared_value += float(expected @ expected)


@dataclass(frozen=True, eq=False)
class _Pair:
    """A tensor of the FP32 network and its counterpart in the FP16 network."""

    name: str
    op: str
    reference: str
    half: str
    stored_as_half: bool
    size_bytes: int
    sums: _Sums = field(default_factory=_Sums)

    def difference(self) -> TensorDifference:
        sums = self.sums
        norm, error = math.sqrt(sums.squared_value), math.sqrt(sums.squared_error)
        relative = error / norm if norm else (math.inf if error else 0.0)
        counts = (sums.overflows, sums.elements)
        return TensorDifference(
            self.name, self.op, sums.largest_error, relative, sums.largest, *counts, self.stored_as_half
        )


def compare_precision(fp32: Detector, fp16: Detector, pictures: Iterable[NDArray[np.float32]]) -> PrecisionReport:
    """Run pictures through both networks and compare every output and every layer that both have.

    One picture and a limited part of the intermediate tensors are in memory at a time; only statistics are stored.

    Args:
        fp32: the network before `deploycc.passes.convert_precision`.
        fp16: the network after it, typed.
        pictures: float32 tensors in the networks' input shape, NCHW, normalised.

    Raises:
        MeasureError: ``precision-outputs-differ``: the networks have different outputs; ``precision-no-pictures``:
            there is no picture.
    """
    reference, rounded = fp32.graph.copy(), store_as_half(fp16.graph)
    names = [output.name for output in reference.outputs]
    if names != [output.name for output in rounded.outputs]:
        raise MeasureError(
            "precision-outputs-differ",
            "the FP32 and the FP16 network have different outputs and cannot be compared",
            context={"fp32": ", ".join(names), "fp16": ", ".join(output.name for output in rounded.outputs)},
            hint="compile both with the same detection lowering",
        )
    outputs = [_output_pair(name, reference) for name in names]
    layers = _layer_pairs(reference, rounded, fp16.graph)
    in_fp32 = _session(reference, {pair.reference for pair in layers})
    in_fp16 = _session(rounded, {pair.half for pair in layers})
    count = 0
    for picture in pictures:
        count += 1
        for part in _parts([*outputs, *layers]):
            expected = in_fp32.run([pair.reference for pair in part], {fp32.input.name: picture})
            actual = in_fp16.run([pair.half for pair in part], {fp16.input.name: picture})
            for pair, reference_value, half_value in zip(part, expected, actual, strict=True):
                pair.sums.add(reference_value, half_value)
    if not count:
        raise MeasureError("precision-no-pictures", "there is no picture on which to compare FP16 with FP32")
    return PrecisionReport(
        tuple(pair.difference() for pair in outputs), tuple(pair.difference() for pair in layers), count
    )


def store_as_half(graph: gs.Graph) -> gs.Graph:
    """Return an FP32 network that rounds where ``graph`` stores FP16: FP16 storage, FP32 arithmetic.

    Each FP16 result ``t`` of an operator becomes ``t = Cast(operator in FP32)``, still FP16, and is read through a Cast
    back to FP32; FP16 constants become FP32 constants of the same value. Subgraphs are not changed.
    """
    clone = graph.copy()
    inside, names = {id(node) for node in clone.nodes}, FreshNames(clone)
    for tensor in list(clone.tensors().values()):
        if tensor.dtype != np.float16:
            continue
        readers = [reader for reader in tensor.outputs if id(reader) in inside]
        if isinstance(tensor, gs.Constant):
            wide: gs.Tensor = gs.Constant(names.take(f"{tensor.name}_read"), tensor.values.astype(np.float32))
        else:
            wide = gs.Variable(names.take(f"{tensor.name}_read"), np.dtype(np.float32), tensor.shape)
        for reader in readers:
            for index, operand in enumerate(reader.inputs):
                if operand is tensor and reader.op != "Cast":
                    reader.inputs[index] = wide
        if wide.outputs and isinstance(tensor, gs.Variable):
            clone.nodes.append(_cast(tensor, wide))
        writer = producer(tensor)
        if writer is not None and writer.op not in ("Cast", "If"):
            exact = gs.Variable(names.take(f"{tensor.name}_exact"), np.dtype(np.float32), tensor.shape)
            writer.outputs[next(i for i, t in enumerate(writer.outputs) if t is tensor)] = exact
            clone.nodes.append(_cast(exact, tensor))
    return clone.cleanup().toposort()


def _cast(source: gs.Variable, target: gs.Variable) -> gs.Node:
    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(target.dtype))
    return gs.Node("Cast", f"{target.name}_cast", {"to": to}, [source], [target])


def _output_pair(name: str, graph: gs.Graph) -> _Pair:
    tensor = next(output for output in graph.outputs if output.name == name)
    writer = producer(tensor)
    return _Pair(name, writer.op if writer else "", name, name, False, _bytes(tensor))


def _layer_pairs(reference: gs.Graph, rounded: gs.Graph, typed: gs.Graph) -> list[_Pair]:
    """Pair nodes that have the same name and operator in both networks, by their first floating-point result."""
    typed_nodes = {node.name: node for node in typed.nodes if node.name}
    rounded_tensors = rounded.tensors()
    pairs = []
    for node in reference.nodes:
        twin = typed_nodes.get(node.name)
        if twin is None or twin.op != node.op or not node.outputs or node.outputs[0].dtype != np.float32:
            continue
        result = twin.outputs[0]
        if result.name in rounded_tensors and result.dtype in (np.float16, np.float32):
            half, size = bool(result.dtype == np.float16), _bytes(node.outputs[0])
            pairs.append(_Pair(node.name, node.op, node.outputs[0].name, result.name, half, size))
    return pairs


def _bytes(tensor: gs.Tensor) -> int:
    return 6 * math.prod(static_shape(tensor) or (0,))  # FP32 and FP16


def _parts(pairs: Sequence[_Pair]) -> Iterator[list[_Pair]]:
    """Split pairs into parts whose tensors fit the limit; a larger tensor forms its own part."""
    part: list[_Pair] = []
    size_bytes = 0
    for pair in pairs:
        if part and size_bytes + pair.size_bytes > _FETCH_BYTES:
            yield part
            part, size_bytes = [], 0
        part.append(pair)
        size_bytes += pair.size_bytes
    if part:
        yield part


def _session(graph: gs.Graph, extra: set[str]) -> ort.InferenceSession:
    """Open a session that also offers the tensors ``extra``; tensors that are not fetched are freed during a run."""
    clone = graph.copy()
    offered = extra - {output.name for output in clone.outputs}
    clone.outputs = [*clone.outputs, *(tensor for name, tensor in clone.tensors().items() if name in offered)]
    # Two networks share the memory: release what a run no longer needs.
    return open_session(to_onnx(clone), _THREADS, {"network": graph.name}, keep_memory=False)
