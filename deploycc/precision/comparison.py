"""How far an FP16 network is from its FP32 original, tensor by tensor, on real pictures.

The comparison runs on this machine's CPU with FP16 storage and FP32 arithmetic: every tensor and weight that is FP16
in the typed network is rounded to FP16, every operator computes in FP32. A GPU that also accumulates in FP16 loses
more; one that fuses operators rounds less often.

ONNX Runtime's CPU provider alone would not show this: it has no FP16 kernels, inserts Casts around each operator, and
then removes each pair of Casts between two operators, so that intermediate results are never rounded (1024 + 0.1 -
1024 gives 0.1 there; FP16 gives 0). Here the roundings are Casts of the network itself, which it keeps.
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
from deploycc.graph.edit import fresh_name, producer, static_shape
from deploycc.graph.export import to_onnx
from deploycc.graph.half import FP16_MAX

DEVICE = "ONNX Runtime CPU: FP16 storage, FP32 arithmetic"
_AT_ONCE_BYTES = 256 << 20  # intermediate tensors fetched together; fewer means computing the networks again
_PIECE = 1 << 20  # elements compared at once, in float64
_THREADS = 2


@dataclass(frozen=True)
class TensorDifference:
    """One tensor of the FP16 network against the tensor of the same node in the FP32 network, over all pictures.

    Attributes:
        name: node; for graph outputs, the output.
        op: the node's operator.
        max_abs_error: largest absolute difference, over elements that are finite in both.
        relative_error: ``norm(fp16 - fp32) / norm(fp32)`` over the same elements; 0 where both are zero everywhere.
        largest: largest absolute value in FP32, to hold against 65504.
        overflows: elements that are infinite or NaN in FP16 and finite in FP32.
        elements: elements compared.
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
        """How many times the largest value fits below 65504; infinite for a tensor of zeros."""
        return FP16_MAX / self.largest if self.largest else math.inf


@dataclass(frozen=True)
class PrecisionReport:
    """FP16 against FP32.

    Attributes:
        outputs: one entry a graph output, in the network's order.
        layers: one entry a node that both networks have, in graph order.
        pictures: how many were run.
        provenance: figures come from a run.
        device: what ran, and in which arithmetic.
    """

    outputs: tuple[TensorDifference, ...]
    layers: tuple[TensorDifference, ...]
    pictures: int
    provenance: Literal["measured"] = "measured"
    device: str = DEVICE

    @property
    def overflowing(self) -> tuple[TensorDifference, ...]:
        """Layers with infinities or NaN that FP32 does not have, the first in the network first."""
        return tuple(layer for layer in self.layers if layer.overflows)

    def worst(self, count: int) -> tuple[TensorDifference, ...]:
        """The layers that lose most, by relative error."""
        return tuple(sorted(self.layers, key=lambda layer: layer.relative_error, reverse=True)[:count])


@dataclass
class _Sums:
    """What is kept of a tensor from picture to picture."""

    largest_error: float = 0.0
    squared_error: float = 0.0
    squared_value: float = 0.0
    largest: float = 0.0
    overflows: int = 0
    elements: int = 0

    def add(self, reference: NDArray[Any], half: NDArray[Any]) -> None:
        for start in range(0, reference.size, _PIECE):
            piece = slice(start, start + _PIECE)
            self._add_piece(reference.reshape(-1)[piece].astype(np.float64), half.reshape(-1)[piece].astype(np.float64))

    def _add_piece(self, expected: NDArray[np.float64], got: NDArray[np.float64]) -> None:
        sound = np.isfinite(expected)
        finite = sound & np.isfinite(got)
        self.overflows += int(np.count_nonzero(sound) - np.count_nonzero(finite))
        self.elements += expected.size
        self.largest = max(self.largest, float(np.abs(expected[sound]).max(initial=0.0)))
        expected, error = expected[finite], got[finite] - expected[finite]
        self.largest_error = max(self.largest_error, float(np.abs(error).max(initial=0.0)))
        self.squared_error += float(error @ error)
        self.squared_value += float(expected @ expected)


@dataclass(frozen=True, eq=False)
class _Pair:
    """A tensor of one network and its counterpart."""

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

    One picture and a limited part of the intermediate tensors are in memory at a time; only statistics are kept.

    Args:
        fp32: the network before `deploycc.passes.convert_precision`.
        fp16: the network after it, typed.
        pictures: float32 tensors in the networks' input shape, NCHW, normalised.

    Raises:
        MeasureError: ``precision-outputs-differ``: the networks' outputs are not the same;
            ``precision-no-pictures``: there was no picture.
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
    ran = 0
    for picture in pictures:
        ran += 1
        for group in _groups([*outputs, *layers]):
            expected = in_fp32.run([pair.reference for pair in group], {fp32.input.name: picture})
            got = in_fp16.run([pair.half for pair in group], {fp16.input.name: picture})
            for pair, one, other in zip(group, expected, got, strict=True):
                pair.sums.add(one, other)
    if not ran:
        raise MeasureError("precision-no-pictures", "there is no picture to compare FP16 with FP32 on")
    return PrecisionReport(
        tuple(pair.difference() for pair in outputs), tuple(pair.difference() for pair in layers), ran
    )


def store_as_half(graph: gs.Graph) -> gs.Graph:
    """Return an FP32 network that rounds wherever ``graph`` stores FP16: FP16 storage, FP32 arithmetic.

    Each FP16 result ``t`` of an operator becomes ``t = Cast(operator in FP32)``, still FP16, and is read through a Cast
    back to FP32; FP16 constants become the FP32 numbers that they are. Subgraphs are left as they are.
    """
    clone = graph.copy()
    inside = {id(node) for node in clone.nodes}
    for tensor in list(clone.tensors().values()):
        if tensor.dtype != np.float16:
            continue
        readers = [reader for reader in tensor.outputs if id(reader) in inside]
        if isinstance(tensor, gs.Constant):
            wide: gs.Tensor = gs.Constant(fresh_name(clone, f"{tensor.name}_read"), tensor.values.astype(np.float32))
        else:
            wide = gs.Variable(fresh_name(clone, f"{tensor.name}_read"), np.dtype(np.float32), tensor.shape)
        for reader in readers:
            for index, operand in enumerate(reader.inputs):
                if operand is tensor and reader.op != "Cast":
                    reader.inputs[index] = wide
        if wide.outputs and isinstance(tensor, gs.Variable):
            clone.nodes.append(_cast(tensor, wide))
        writer = producer(tensor)
        if writer is not None and writer.op not in ("Cast", "If"):
            exact = gs.Variable(fresh_name(clone, f"{tensor.name}_exact"), np.dtype(np.float32), tensor.shape)
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
    """Nodes of the same name and operator in both, with the first floating-point result of each."""
    own = {node.name: node for node in typed.nodes if node.name}
    known = rounded.tensors()
    pairs = []
    for node in reference.nodes:
        twin = own.get(node.name)
        if twin is None or twin.op != node.op or not node.outputs or node.outputs[0].dtype != np.float32:
            continue
        result = twin.outputs[0]
        if result.name in known and result.dtype in (np.float16, np.float32):
            half, size = bool(result.dtype == np.float16), _bytes(node.outputs[0])
            pairs.append(_Pair(node.name, node.op, node.outputs[0].name, result.name, half, size))
    return pairs


def _bytes(tensor: gs.Tensor) -> int:
    return 6 * math.prod(static_shape(tensor) or (0,))  # FP32 and FP16


def _groups(pairs: Sequence[_Pair]) -> Iterator[list[_Pair]]:
    """Split so that the tensors of a group fit the limit; a larger tensor is a group of its own."""
    group: list[_Pair] = []
    for pair in pairs:
        if group and sum(each.size_bytes for each in group) + pair.size_bytes > _AT_ONCE_BYTES:
            yield group
            group = []
        group.append(pair)
    if group:
        yield group


def _session(graph: gs.Graph, extra: set[str]) -> ort.InferenceSession:
    """A session that also offers the intermediate tensors ``extra``; what is not fetched is freed while it runs."""
    clone = graph.copy()
    offered = extra - {output.name for output in clone.outputs}
    clone.outputs = [*clone.outputs, *(tensor for name, tensor in clone.tensors().items() if name in offered)]
    # two networks share the memory: give back what a run no longer needs
    return open_session(to_onnx(clone), _THREADS, {"network": graph.name}, keep_memory=False)
