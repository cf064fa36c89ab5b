"""What an emitter sees of one layer, and the table of emitters."""

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
from deploycc.importers.caffe.weights import Array, Blob, WeightSource

LARGEST = (1 << 29) - 1
"""Elements of the largest float32 tensor that protobuf's 2 GiB can hold."""

Shape = tuple[int, ...]
Emitted = Sequence[gs.Tensor]


@dataclass(frozen=True)
class Emitter:
    """How one layer type becomes ONNX nodes.

    Attributes:
        emit: makes the nodes and returns one tensor for each top; an input returned as it is becomes an alias.
        param: field that holds the type's parameters; empty where it has none.
        bottoms, tops: smallest and largest count.
    """

    emit: Callable[[Layer], Emitted]
    param: str
    bottoms: tuple[int, int]
    tops: tuple[int, int]


EMITTERS: dict[str, Emitter] = {}
"""Layer type to emitter; filled by `emits`."""

MANY = 1 << 30


def emits(
    *types: str, param: str = "", bottoms: tuple[int, int] = (1, 1), tops: tuple[int, int] = (1, 1)
) -> Callable[[Callable[[Layer], Emitted]], Callable[[Layer], Emitted]]:
    """Register the decorated function for layer types."""

    def register(function: Callable[[Layer], Emitted]) -> Callable[[Layer], Emitted]:
        for name in types:
            EMITTERS[name] = Emitter(function, param, bottoms, tops)
        return function

    return register


@dataclass(frozen=True, eq=False)
class Decoding:
    """What a DetectionOutput layer says: its inputs and how to read them.

    Attributes:
        locations, scores: blobs of the raw heads.
        heads: priors and coding; the names in it are those blobs.
        nms: suppression.
        top: the tensor that stands for its output, which nothing may read.
    """

    locations: str
    scores: str
    heads: SsdHeads
    nms: Nms
    top: gs.Variable


class UnderConstruction(Protocol):
    """The network that layers are added to, as far as a layer sees it (`deploycc.importers.caffe.network.Network`)."""

    picture: gs.Variable
    weights: WeightSource
    magnitudes: Magnitudes
    decoding: Decoding | None
    notes: list[Note]

    def unique(self, name: str) -> str:
        """The name, or the name with a number appended where it is taken; it is taken afterwards."""


@dataclass(eq=False)
class Layer:
    """One layer while it is turned into nodes.

    Attributes:
        definition: the layer as written.
        inputs: the tensors its bottoms name at this point.
        param: parameters of its type.
        network: the network under construction.
        nodes: what it has become so far.
    """

    definition: LayerDef
    inputs: list[gs.Tensor]
    param: Message
    network: UnderConstruction
    nodes: list[gs.Node] = field(default_factory=list)

    def shape(self, index: int = 0) -> Shape:
        """Shape of an input."""
        return tuple(self.inputs[index].shape)

    def image_shape(self, index: int = 0) -> tuple[int, int, int, int]:
        """Shape of an input that must be batch, channels, height, width."""
        shape = self.shape(index)
        if len(shape) != 4:
            raise self.error(
                "caffe-wrong-rank", f"{self.definition.type} needs an input of 4 dimensions, but has {list(shape)}"
            )
        return shape

    def axis(self, value: int, rank: int, name: str = "axis", *, end: bool = False) -> int:
        """An axis counted from the front; negative values count from the back.

        Args:
            value: as given.
            rank: dimensions to choose from.
            name: of the attribute, for the error.
            end: one past the last is allowed.
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
            part: names the node where the layer becomes several; default: the operator in lower case.
            dtype: of the output.
        """
        part = part or op.lower()
        self._check_size(shape, f"the output of {self.definition.type}")
        output = gs.Variable(self.network.unique(f"{self.definition.name}/{part}"), dtype=dtype, shape=list(shape))
        self.nodes.append(gs.Node(op, name=part, attrs=dict(attrs or {}), inputs=list(inputs), outputs=[output]))
        return output

    def constant(self, role: str, values: NDArray[Any]) -> gs.Constant:
        """A constant of this layer."""
        return gs.Constant(self.network.unique(f"{self.definition.name}/{role}"), values)

    def scalar(self, role: str, value: float) -> gs.Constant:
        """A float32 constant without dimensions."""
        return self.constant(role, np.array(value, np.float32))

    def integers(self, role: str, values: Sequence[int]) -> gs.Constant:
        """An INT64 list, as ONNX operators take shapes and axes."""
        return self.constant(role, np.array(values, np.int64))

    def reshaped(self, tensor: gs.Tensor, shape: Sequence[int], part: str = "reshape") -> gs.Tensor:
        """The tensor in another shape; itself where the shape is the same."""
        if tuple(tensor.shape) == tuple(shape):
            return tensor
        return self.node("Reshape", [tensor, self.integers(f"{part}_shape", shape)], shape, part=part)

    def blobs(self, *wanted: Blob) -> list[Array]:
        """The layer's parameters.

        Raises:
            ModelError: they are not what the definition needs, or larger than a file can be.
        """
        for blob in wanted:
            self._check_size(blob.shape, f"the {blob.role} of layer {self.definition.name}")
        return self.network.weights.blobs(self.definition, wanted)

    def _check_size(self, shape: Sequence[int], what: str) -> None:
        if math.prod(shape) > LARGEST:
            raise self.error(
                "caffe-too-large",
                f"{what} would have the shape {list(shape)}",
                note="an ONNX or Caffe file holds at most 2 GiB",
            )

    @property
    def input_scale(self) -> float:
        """Expected root mean square of what the layer reads; scales seeded weights."""
        return self.network.magnitudes.rms(self.inputs[0])

    def error(self, code: str, message: str, note: str | None = None, hint: str | None = None) -> ModelError:
        """An error that says where this layer stands."""
        return self.definition.error(code, message, note, hint)

    def unsupported(self, what: str, note: str | None = None) -> ModelError:
        """An error for an attribute that would change the result and has no form here."""
        return self.error("caffe-unsupported-attribute", f"{self.definition.type} with {what} is not supported", note)
