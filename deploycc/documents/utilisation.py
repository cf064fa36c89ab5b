"""``utilisation.json``: utilisation of each kernel on calibration pictures.

It stores float64 sums over the pictures, not means, so that profiles of different pictures can be added; statistics are
derived on reading.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from deploycc.documents.document import Count, Document, Evidence, Granularity, Record, Sha256, read_document
from deploycc.errors import ArtefactError

Sums = tuple[Annotated[float, Field(ge=0)], ...]
Positive = Annotated[int, Field(gt=0)]
Array = NDArray[np.float64]

REDUCTION = (
    "multiply-accumulates of the gated convolutions' kernels that are off in a picture, divided by those of the "
    "back-end without its gate modules; input channels that a later convolution could leave out are not counted"
)
"""Definition of `operation_reduction`; the white paper's Table 2 counts operations of the back-end."""


class Pictures(Record):
    """The calibration pictures.

    Attributes:
        source: a folder or a generator, as the user wrote it.
        count: number of pictures.
        sha256: over their names and contents, in order.
    """

    source: str
    count: Positive
    sha256: Sha256


class Preparation(Record):
    """Preparation of the pictures (`deploycc.detector.InputSpec`), on which the profile depends."""

    shape: tuple[Positive, ...]
    colour: Literal["BGR", "RGB", "GRAY"]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    assumed: bool


class GateRecord(Record):
    """The gate of a layer; see `deploycc.graph.gates.search.Gate`.

    Attributes:
        vectors: one bit per picture and kernel, with the first kernel in the highest bit and each picture starting at
            a byte; compressed with zlib, in base64.
        macs: of the gate module, for one picture.
        used_squares: as `LayerUse.squares`, but only over pictures in which the kernel is on.
    """

    place: Literal["before-bias", "before-batchnorm", "after-bias", "after-batchnorm", "after-activation"]
    granularity: Granularity
    threshold: float | None
    unit_of: tuple[Count, ...]
    macs: Count
    used_squares: Sums
    vectors: str


class LayerUse(Record):
    """One convolution, with one number per kernel in each tuple.

    Attributes:
        name: node.
        macs: for one picture, all kernels on.
        response: the tensor measured: with a gate the tensor it multiplies, otherwise the layer's activation.
        activation: operator that computes the response; None for a convolution without activation.
        used: sum over pictures: with a gate 1 if the kernel is on, otherwise the share of responses that are not 0.
        squares: sum over pictures of the squared response's mean over the map.
        gate: None in a profile of activations.
    """

    name: str
    macs: Count
    response: str
    activation: str | None
    used: Sums
    squares: Sums
    gate: GateRecord | None

    @property
    def kernels(self) -> int:
        """Number of kernels."""
        return len(self.used)


class Reduction(Record):
    """Operation reduction over the pictures, percent of the back-end: the columns of the white paper's Table 2."""

    average_percent: float
    std_percent: Annotated[float, Field(ge=0)]
    min_percent: float
    max_percent: float


class UtilisationProfile(Document):
    """The file.

    Attributes:
        evidence: source of the measurement.
        source_sha256: of the network's trained files (`deploycc.detector.Source`).
        random_weights: seed of the weights, if the network is not trained.
        network: name of the network.
        kind: ``gates``, or ``activations`` if the network has no gates.
        input: preparation of the pictures.
        pictures: the calibration pictures.
        scope: part of the network that `scope_macs` counts: the back-end, or the network if its heads are unknown.
        scope_macs: its MACs for one picture, without gate modules.
        layers: in graph order.
        reduction: see `REDUCTION`; None in a profile of activations.
    """

    FILE_NAME: ClassVar[str] = "utilisation.json"
    MADE_BY: ClassVar[str] = "deploycc profile"
    ALWAYS_SEALED: ClassVar[bool] = False

    evidence: Evidence
    source_sha256: Sha256
    random_weights: int | None
    network: str
    kind: Literal["gates", "activations"]
    input: Preparation
    pictures: Pictures
    scope: Literal["back-end", "network"]
    scope_macs: Positive
    layers: Annotated[tuple[LayerUse, ...], Field(min_length=1)]
    reduction: Reduction | None

    @model_validator(mode="after")
    def _consistent(self) -> UtilisationProfile:
        count = self.pictures.count
        for layer in self.layers:
            gate = layer.gate
            if (gate is not None) != (self.kind == "gates"):
                raise ValueError(f"layer {layer.name} does not fit a profile of {self.kind}")
            if not layer.used or any(use > count * (1 + 1e-9) for use in layer.used):
                raise ValueError(f"layer {layer.name}: a kernel cannot be used more often than there are pictures")
            per_kernel = [layer.squares] if gate is None else [layer.squares, gate.used_squares, gate.unit_of]
            if any(len(values) != layer.kernels for values in per_kernel):
                raise ValueError(f"layer {layer.name}: numbers of kernels differ")
            if gate is not None and tuple(gate_vectors(layer, count).sum(0)) != layer.used:
                raise ValueError(f"layer {layer.name}: its gate vectors do not add up to its use")
        if len({layer.name for layer in self.layers}) != len(self.layers):
            raise ValueError("a layer is listed twice")
        expected = None
        if self.kind == "gates":
            expected = summarise_reduction(operation_reduction(self.layers, count, self.scope_macs))
        if (expected is None) != (self.reduction is None):
            raise ValueError(f"a profile of {self.kind} {'needs' if expected else 'has no'} reduction")
        if expected is not None and self.reduction is not None:
            pairs = zip(expected.model_dump().values(), self.reduction.model_dump().values(), strict=True)
            if not all(math.isclose(derived, stated, rel_tol=1e-9, abs_tol=1e-9) for derived, stated in pairs):
                raise ValueError("the reduction does not follow from the gate vectors")
        return self

    def mean_utilisation(self, layer: LayerUse) -> Array:
        """Return the utilisation of a layer's kernels, 0..1, [kernels].

        With a gate this is the share of the pictures in which the kernel is on, otherwise the share of its responses
        that are not 0.
        """
        return np.array(layer.used) / self.pictures.count

    def layer(self, name: str) -> LayerUse:
        """Return a layer by its node.

        Raises:
            ArtefactError: ``profile-missing-layer``.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ArtefactError(
            "profile-missing-layer",
            f"the profile does not contain layer {name}",
            context={"network": self.network, "profiled": f"{len(self.layers)} layers"},
            hint=f"profile this network again with `{self.MADE_BY}`",
        )


def gate_vectors(layer: LayerUse, pictures: int) -> NDArray[np.bool_]:
    """Return the decisions of a layer's gate, [pictures, kernels].

    Args:
        layer: of a profile of gates.
        pictures: number of pictures of the profile.

    Raises:
        ValueError: the layer has no gate, or its vectors are damaged.
    """
    if layer.gate is None:
        raise ValueError(f"layer {layer.name} has no gate")
    kernels = layer.kernels
    try:
        data = zlib.decompress(base64.b64decode(layer.gate.vectors, validate=True))
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"layer {layer.name}: its gate vectors are damaged: {error}") from None
    packed = np.frombuffer(data, np.uint8)
    if packed.size != pictures * ((kernels + 7) // 8):
        raise ValueError(f"layer {layer.name}: its gate vectors do not have {pictures} x {kernels} bits")
    return np.unpackbits(packed.reshape(pictures, -1), axis=1, count=kernels).astype(np.bool_)


def pack_vectors(packed: bytes) -> str:
    """Encode rows of packed bits as `GateRecord.vectors`."""
    return base64.b64encode(zlib.compress(packed, 9)).decode("ascii")


def operation_reduction(layers: Sequence[LayerUse], pictures: int, scope_macs: int) -> Array:
    """Return the share of the operations that each picture saves, 0..1, [pictures]; see `REDUCTION`.

    Raises:
        ValueError: `gate_vectors` raises it.
    """
    saved = np.zeros(pictures)
    for layer in layers:
        saved += layer.macs * (1 - gate_vectors(layer, pictures).mean(1))
    return saved / scope_macs


def summarise_reduction(reduction: Array) -> Reduction:
    """Return mean, (population) standard deviation, minimum and maximum."""
    percent = 100 * reduction
    return Reduction(
        average_percent=float(percent.mean()),
        std_percent=float(percent.std()),
        min_percent=float(percent.min()),
        max_percent=float(percent.max()),
    )


def read_profile(path: Path) -> UtilisationProfile:
    """Read a profile; raises ArtefactError like `deploycc.documents.document.read_document`."""
    return read_document(path, UtilisationProfile)
