"""``utilisation.json``: how much each kernel was used on calibration pictures.

Sums over the pictures, not means, in float64: two profiles of different pictures of one network can be added, and every
statistic is derived on reading.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Mapping, Sequence
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
"""What `operation_reduction` means; the white paper's Table 2 counts reduced operations of the network's back-end."""


class Pictures(Record):
    """What ran.

    Attributes:
        source: a folder or a generator, as the user wrote it.
        count: pictures.
        sha256: over their names and contents, in order.
    """

    source: str
    count: Positive
    sha256: Sha256


class Preparation(Record):
    """How pictures became tensors (`deploycc.detector.InputSpec`): another preparation gives another profile."""

    shape: tuple[Positive, ...]
    colour: Literal["BGR", "RGB", "GRAY"]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    assumed: bool


class GateRecord(Record):
    """The gate of a layer; see `deploycc.graph.gates.search.Gate`.

    Attributes:
        vectors: for each picture one bit a kernel, packed with the first kernel in the highest bit, each picture from
            a byte of its own on, compressed with zlib, in base64.
        macs: of the gate module itself, for one picture.
        used_squares: as `LayerUse.squares`, over the pictures in which the kernel was on.
    """

    place: Literal["before-bias", "before-batchnorm", "after-bias", "after-batchnorm", "after-activation"]
    granularity: Granularity
    threshold: float | None
    unit_of: tuple[Count, ...]
    macs: Count
    used_squares: Sums
    vectors: str


class LayerUse(Record):
    """One convolution, with one number a kernel in each tuple.

    Attributes:
        name: node.
        macs: for one picture, all kernels on.
        response: tensor that was looked at: with a gate, what it multiplies; else the layer's activation.
        activation: operator that made the response; None for a convolution without activation.
        used: summed over pictures: with a gate 1 where the kernel is on, else the share of responses that are not 0.
        squares: summed over pictures: mean of the squared response over the map.
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
    """Operation reduction over the pictures, percent of the back-end; the columns of the white paper's Table 2."""

    average_percent: float
    std_percent: Annotated[float, Field(ge=0)]
    min_percent: float
    max_percent: float


class UtilisationProfile(Document):
    """The file.

    Attributes:
        evidence: what ran.
        source_sha256: the trained files of the network (`deploycc.detector.Source`).
        random_weights: the seed, where nothing was trained.
        network: its name.
        kind: whether gates were recorded, or activations because there are no gates.
        input: how the pictures were prepared.
        pictures: what was shown to it.
        scope: part of the network that `scope_macs` counts: the back-end, or all of it where heads are unknown.
        scope_macs: MACs of it for one picture without gate modules.
        layers: in graph order.
        reduction: see `REDUCTION`; None in a profile of activations.
    """

    FILE_NAME: ClassVar[str] = "utilisation.json"
    MADE_BY: ClassVar[str] = "deploycc profile"

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
            if not layer.used or any(each > count * (1 + 1e-9) for each in layer.used):
                raise ValueError(f"layer {layer.name}: a kernel cannot be used more often than there are pictures")
            per_kernel = [layer.squares] if gate is None else [layer.squares, gate.used_squares, gate.unit_of]
            if any(len(values) != layer.kernels for values in per_kernel):
                raise ValueError(f"layer {layer.name}: numbers of kernels differ")
            if gate is not None and tuple(gate_vectors(layer, count).sum(0)) != layer.used:
                raise ValueError(f"layer {layer.name}: its gate vectors do not add up to its use")
        if len({layer.name for layer in self.layers}) != len(self.layers):
            raise ValueError("a layer stands there twice")
        expected = None
        if self.kind == "gates":
            expected = summarise_reduction(operation_reduction(self.layers, count, self.scope_macs))
        if (expected is None) != (self.reduction is None):
            raise ValueError(f"a profile of {self.kind} {'needs' if expected else 'has no'} reduction")
        if expected is not None and self.reduction is not None:
            pairs = zip(expected.model_dump().values(), self.reduction.model_dump().values(), strict=True)
            if not all(math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9) for one, other in pairs):
                raise ValueError("the reduction does not follow from the gate vectors")
        return self

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
            f"the profile says nothing about layer {name}",
            context={"network": self.network, "profiled": f"{len(self.layers)} layers"},
            hint=f"make it again for this network with `{self.MADE_BY}`",
        )


def utilisation(profile: UtilisationProfile, layer: LayerUse) -> Array:
    """Mean use of each kernel, 0..1: share of the pictures in which it is on, or mean share of non-zero responses."""
    return np.array(layer.used) / profile.pictures.count


def least_squares_coefficients(layer: LayerUse) -> Array:
    """The constant c that minimises E[(g y - c y)^2] for each kernel: E[g y^2] / E[y^2]; 0 where y is always 0.

    Raises:
        ValueError: the layer has no gate.
    """
    if layer.gate is None:
        raise ValueError(f"layer {layer.name} has no gate")
    squares, used = np.array(layer.squares), np.array(layer.gate.used_squares)
    coefficients: Array = np.divide(used, squares, out=np.zeros_like(squares), where=squares > 0)
    return coefficients


def gate_vectors(layer: LayerUse, pictures: int) -> NDArray[np.bool_]:
    """Decisions of a layer's gate, [pictures, kernels].

    Args:
        layer: of a profile of gates.
        pictures: their number, `UtilisationProfile.pictures`.

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
        raise ValueError(f"layer {layer.name}: its gate vectors are not {pictures} times {kernels} bits")
    return np.unpackbits(packed.reshape(pictures, -1), axis=1, count=kernels).astype(np.bool_)


def pack_vectors(packed: bytes) -> str:
    """Text of `GateRecord.vectors`, from one row of packed bits after the other."""
    return base64.b64encode(zlib.compress(packed, 9)).decode("ascii")


def operation_reduction(layers: Sequence[LayerUse], pictures: int, scope_macs: int) -> Array:
    """Share of the operations that each picture saves, 0..1, [pictures]; see `REDUCTION`.

    Raises:
        ValueError: as `gate_vectors`.
    """
    saved = np.zeros(pictures)
    for layer in layers:
        saved += layer.macs * (1 - gate_vectors(layer, pictures).mean(1))
    return saved / scope_macs


def summarise_reduction(reduction: Array) -> Reduction:
    """Mean, standard deviation (of these pictures, not of a sample of more), minimum and maximum."""
    percent = 100 * reduction
    return Reduction(
        average_percent=float(percent.mean()),
        std_percent=float(percent.std()),
        min_percent=float(percent.min()),
        max_percent=float(percent.max()),
    )


def read_profile(path: Path) -> UtilisationProfile:
    """Read a profile; raises ArtefactError as `deploycc.documents.document.read_document`."""
    return read_document(path, UtilisationProfile)


def check_profile(
    profile: UtilisationProfile, source_sha256: str, random_weights: int | None, kernels: Mapping[str, int]
) -> None:
    """Refuse a profile that was not made from this network.

    Args:
        profile: as read.
        source_sha256: of the network's trained files.
        random_weights: their seed, where nothing was trained.
        kernels: the network's convolutions with their numbers of kernels.

    Raises:
        ArtefactError: ``profile-other-model``, ``profile-other-layers``.
    """
    hint = f"make it again for this network with `{profile.MADE_BY}`"
    made_from = (profile.source_sha256, profile.random_weights)
    if made_from != (source_sha256, random_weights):
        raise ArtefactError(
            "profile-other-model",
            "the profile was made from another network",
            context={"profile": _weights(*made_from), "network": _weights(source_sha256, random_weights)},
            hint=hint,
        )
    for layer in profile.layers:
        if kernels.get(layer.name) != layer.kernels:
            has = kernels.get(layer.name)
            fact = f"has {has} kernels" if has else "does not exist"
            raise ArtefactError(
                "profile-other-layers",
                f"layer {layer.name} has {layer.kernels} kernels in the profile and {fact} in the network",
                note="a pass or another version changed the network in between",
                hint=hint,
            )


def _weights(sha256: str, seed: int | None) -> str:
    return f"sha256 {sha256[:16]}..." + ("" if seed is None else f", random weights of seed {seed}")
