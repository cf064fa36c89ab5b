"""The source of a layer's parameters: a trained file, checked against the definition, or a seed."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from deploycc.importers.caffe import caffemodel
from deploycc.importers.caffe.definition import LayerDef

Array = NDArray[np.float32]
Role = Literal["weight", "bias", "scale", "shift", "mean", "variance", "factor", "slope", "norm"]


@dataclass(frozen=True)
class Blob:
    """One parameter array that a layer needs.

    Attributes:
        role: its function in the layer.
        shape: as Caffe stores it.
        fan_in: number of inputs summed per output.
        input_scale: expected root mean square of the layer's input.
        value: initial value stated by the definition, or None.
    """

    role: Role
    shape: tuple[int, ...]
    fan_in: int = 1
    input_scale: float = 1.0
    value: float | None = None


LARGEST_FILE = (1 << 29) - 1
"""Number of float32 parameters that fit in protobuf's 2 GiB."""


class WeightSource(Protocol):
    """A source of layer parameters.

    Attributes:
        most: number of parameters that it can give.
    """

    @property
    def most(self) -> int:
        """Return the attribute."""

    def blobs(self, layer: LayerDef, wanted: Sequence[Blob]) -> list[Array]:
        """Return one array per wanted blob, in its shape."""

    def stored(self, layer: LayerDef) -> int | None:
        """Return how many arrays the layer has; None if it gets as many as it wants."""


class TrainedWeights:
    """Weights of a ``.caffemodel``, each checked against what the definition needs.

    Args:
        path: the file.

    Raises:
        ModelError: `caffemodel.read` raises it.

    Attributes:
        data: the file's bytes, for its digest.
    """

    most = LARGEST_FILE

    def __init__(self, path: Path) -> None:
        layers, self.data = caffemodel.read(path)
        self._path = path
        self._layers: dict[str, list[tuple[Array, ...]]] = defaultdict(list)
        for layer in layers:
            self._layers[layer.name].append(layer.blobs)
        self._unused = {(layer.name, index) for layer in layers for index in range(len(self._layers[layer.name]))}

    def blobs(self, layer: LayerDef, wanted: Sequence[Blob]) -> list[Array]:
        """Return the layer's arrays in the wanted shapes, without copying.

        Raises:
            ModelError: the file lacks the layer, or its blobs have another number or shape or are not finite.
        """
        arrays = self._entry(layer)
        if arrays is None:
            near = difflib.get_close_matches(layer.given_name, self._layers, n=1)
            raise layer.error(
                "caffe-weights-missing",
                f"layer {layer.given_name} has no weights in {self._path}",
                hint=f"the file has a layer {near[0]}" if near else "the file may belong to another network",
            )
        needs = ", ".join(f"{blob.role} {list(blob.shape)}" for blob in wanted)
        has = ", ".join(str(list(array.shape)) for array in arrays)
        if len(arrays) != len(wanted):
            raise layer.error(
                "caffe-weights-mismatch",
                f"layer {layer.name} needs {len(wanted)} blobs, but the weight file has {len(arrays)}",
                note=f"the definition needs {needs}; {self._path} has {has}",
            )
        return [self._checked(layer, blob, array) for blob, array in zip(wanted, arrays, strict=True)]

    def stored(self, layer: LayerDef) -> int | None:
        """Return how many arrays the file has for the layer."""
        arrays = self._entry(layer)
        return 0 if arrays is None else len(arrays)

    def unused(self) -> list[str]:
        """Return the layers whose arrays were never asked for, in file order."""
        unused = {name for name, _ in self._unused}
        return [name for name in self._layers if name in unused]

    def _entry(self, layer: LayerDef) -> tuple[Array, ...] | None:
        """Return the file's arrays for a layer: those that share a name take its entries in turn, as in OpenCV."""
        entries = self._layers.get(layer.given_name)
        if not entries:
            return None
        index = min(layer.occurrence, len(entries) - 1)
        self._unused.discard((layer.given_name, index))
        return entries[index]

    def _checked(self, layer: LayerDef, blob: Blob, array: Array) -> Array:
        # Old files store everything with four dimensions: [1, 1, N, K] is [N, K].
        if [d for d in array.shape if d != 1] != [d for d in blob.shape if d != 1]:
            raise layer.error(
                "caffe-weights-mismatch",
                f"layer {layer.name} needs a {blob.role} of shape {list(blob.shape)}, "
                f"but the weight file has {list(array.shape)}",
                note=f"weight file: {self._path}",
            )
        if not np.isfinite(array).all():
            where = np.argwhere(~np.isfinite(array))
            kinds = "NaN" if np.isnan(array).any() else "infinite"
            raise layer.error(
                "caffe-weights-not-finite",
                f"the {blob.role} of layer {layer.name} has {kinds} values",
                note=f"{len(where)} of {array.size} values in {self._path}, the first at {where[0].tolist()}",
                hint="the training diverged; use an earlier snapshot",
            )
        return array.reshape(blob.shape)
