"""The interface that emitters get to a layer, and the table of emitters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import Nms, SsdHeads
from deploycc.errors import ModelError, Note
from deploycc.importers.caffe.definition import LayerDef
from deploycc.importers.caffe.magnitude import Magnitudes
from deploycc.importers.caffe.prototxt import Message
from deploycc.importers.caffe.weights import LARGEST_FILE, Array, Blob, WeightSource

LARGEST = LARGEST_FILE
"""Number of elements of the largest float32 tensor that fits in protobuf's 2 GiB."""

_FILE = "an ONNX or Caffe file holds at most 2 GiB"

Shape = tuple[int, ...]


def float32(values: Any) -> NDArray[np.float32]:
    """Return numbers as float32; those that are too large become infinite, which `Layer.constant` refuses."""
    with np.errstate(over="ignore"):
        return np.array(values, np.float32)


Emitted = Sequence[gs.Tensor]


@dataclass(frozen=True)
class Emitter:
    """How one layer type becomes ONNX nodes.

    Attributes:
        emit: adds the nodes and returns one tensor per top; an input returned unchanged becomes an alias.
        params: fields that hold the type's parameters, one name per fork; empty if it has none.
        fields: the parameters that ``emit`` reads.
        ignored: parameters that do not change what the layer computes.
        bottoms, tops: smallest and largest number.
    """

    emit: Callable[[Layer], Emitted]
    params: tuple[str, ...]
    fields: frozenset[str]
    ignored: frozenset[str]
    bottoms: tuple[int, int]
    tops: tuple[int, int]


EMITTERS: dict[str, Emitter] = {}
"""Layer type to emitter; filled by `emits`."""

MANY = 1 << 30


def emits(
    *types: str,
    param: str = "",
    fields: str = "",
    ignored: str = "",
    bottoms: tuple[int, int] = (1, 1),
    tops: tuple[int, int] = (1, 1),
) -> Callable[[Callable[[Layer], Emitted]], Callable[[Layer], Emitted]]:
    """Register the decorated function for layer types; names in ``param``, ``fields`` and ``ignored`` are words."""

    def register(function: Callable[[Layer], Emitted]) -> Callable[[Layer], Emitted]:
        harmless = frozenset(("engine", *ignored.split()))
        emitter = Emitter(function, tuple(param.split()), frozenset(fields.split()), harmless, bottoms, tops)
        EMITTERS.update(dict.fromkeys(types, emitter))
        return function

    return register


@dataclass(frozen=True, eq=False)
class Decoding:
    """The parameters of a DetectionOutput layer.

    Attributes:
        locations, scores: blobs of the raw heads.
        heads: priors and box coding; its tensor names are those blobs.
        nms: suppression.
        tops: placeholders for the layer's outputs, which no layer may read.
    """

    locations: str
    scores: str
    heads: SsdHeads
    nms: Nms
    tops: tuple[gs.Variable, ...]


class UnderConstruction(Protocol):
    """The part of `deploycc.importers.caffe.network.Network` that a layer may use while it is added."""

    picture: gs.Variable
    batch: int
    weights: WeightSource
    magnitudes: Magnitudes
    decoding: Decoding | None
    notes: list[Note]

    def unique(self, name: str) -> str:
        """Reserve and return the name, with a number appended if it is already taken."""

    def add_parameters(self, count: int) -> int:
        """Count the parameters of one more layer, and return the number of all so far."""


@dataclass(eq=False)
class Layer:
    """One layer while it is turned into nodes.

    Attributes:
        definition: the layer as written.
        inputs: the tensors that its bottoms currently refer to.
        param: parameters of its type.
        network: the network under construction.
        nodes: the nodes added so far.
    """

    definition: LayerDef
    inputs: list[gs.Tensor]
    param: Message
    network: UnderConstruction
    nodes: list[gs.Node] = field(default_factory=list)

    def shape(self, index: int = 0) -> Shape:
        """Return the shape of an input."""
        return tuple(self.inputs[index].shape)

    def image_shape(self, index: int = 0) -> tuple[int, int, int, int]:
        """Return the shape of an input that must be batch, channels, height, width."""
        shape = self.shape(index)
        if len(shape) != 4:
            raise self.error(
                "caffe-wrong-rank", f"{self.definition.type} needs an input of 4 dimensions, but its is {list(shape)}"
            )
        return shape

    def axis(self, value: int, rank: int, name: str = "axis", *, end: bool = False) -> int:
        """Return an axis counted from the first; negative values count from the last.

        Args:
            value: as given.
            rank: number of dimensions.
            name: of the attribute, for the error.
            end: allow the position after the last axis.
        """
        top = rank + 1 if end else rank
        if not -top <= value < top:
            raise self.error("caffe-wrong-axis", f"{name} {value} does not exist in {rank} dimensions")
        return value % top

    def node(
        self,
        op: str,
        inputs: Sequence[gs.Tensor],
        shape: Sequence[int],
        attrs: Mapping[str, Any] | None = None,
        *,
        part: str = "",
        dtype: type = np.float32,
    ) -> gs.Variable:
        """Add a node and return its output.

        Args:
            op: ONNX operator.
            inputs: its operands.
            shape: of the output.
            attrs: ONNX attributes.
            part: name of the node if the layer becomes several; default: the operator in lower case.
            dtype: of the output.
        """
        part = part or op.lower()
        self._check_size(shape, f"the output of {self.definition.type}", "a tensor holds at most 2 GiB")
        output = gs.Variable(self.network.unique(f"{self.definition.name}/{part}"), dtype=dtype, shape=list(shape))
        self.nodes.append(gs.Node(op, name=part, attrs=dict(attrs or {}), inputs=list(inputs), outputs=[output]))
        return output

    def constant(self, role: str, values: NDArray[Any]) -> gs.Constant:
        """Create a constant of this layer.

        Raises:
            ModelError: ``caffe-not-finite``.
        """
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise self.error(
                "caffe-not-finite",
                f"the {role} of layer {self.definition.name} is not finite",
                note="numbers in the definition or the weights are too large, too small or 0",
            )
        return gs.Constant(self.network.unique(f"{self.definition.name}/{role}"), values)

    def scalar(self, role: str, value: float) -> gs.Constant:
        """Create a float32 constant without dimensions."""
        return self.constant(role, float32(value))

    def integers(self, role: str, values: Sequence[int]) -> gs.Constant:
        """Create an INT64 list, the form in which ONNX operators take shapes and axes."""
        return self.constant(role, np.array(values, np.int64))

    def reshaped(self, tensor: gs.Tensor, shape: Sequence[int], part: str = "reshape") -> gs.Tensor:
        """Return the tensor in another shape, or itself if it already has that shape."""
        if tuple(tensor.shape) == tuple(shape):
            return tensor
        return self.node("Reshape", [tensor, self.integers(f"{part}_shape", shape)], shape, part=part)

    def blobs(self, *wanted: Blob) -> list[Array]:
        """Return the layer's parameter arrays.

        Raises:
            ModelError: they do not match the definition, or exceed the largest size of a file.
        """
        for blob in wanted:
            self._check_size(blob.shape, f"the {blob.role} of layer {self.definition.name}", _FILE)
        total = self.network.add_parameters(sum(math.prod(blob.shape) for blob in wanted))
        most = self.network.weights.most
        if total > most:
            raise self.error(
                "caffe-too-large",
                f"the network has {total:,} parameters up to here, more than {most:,}",
                note=_FILE if most == LARGEST else "random weights are for networks of usual size",
            )
        return self.network.weights.blobs(self.definition, wanted)

    def stored(self) -> int | None:
        """Return how many parameter arrays the weight file has for the layer; None if weights are drawn."""
        return self.network.weights.stored(self.definition)

    def _check_size(self, shape: Sequence[int], what: str, note: str) -> None:
        if math.prod(shape) > LARGEST:
            raise self.error("caffe-too-large", f"{what} would have the shape {list(shape)}", note=note)

    @property
    def input_scale(self) -> float:
        """Expected root mean square of the layer's input, by which random weights are scaled."""
        return self.network.magnitudes.rms(self.inputs[0])

    def error(self, code: str, message: str, note: str | None = None, hint: str | None = None) -> ModelError:
        """Create an error that gives the layer's position in the file."""
        return self.definition.error(code, message, note, hint)

    def unsupported(self, what: str, note: str | None = None) -> ModelError:
        """Create an error for an attribute that would change the result and is not supported."""
        return self.error("caffe-unsupported-attribute", f"{self.definition.type} with {what} is not supported", note)
