"""Draw random weights for a definition without trained ones.

An array depends only on the seed, the layer's name and its index in the layer, so that adding or reordering layers
does not change the others; it is then scaled by the magnitude of the layer's input. Kernels are normal with variance
1 / (fan_in E[x^2]), which keeps the mean square of activations near 1 (see `deploycc.importers.caffe.magnitude`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from deploycc.importers.caffe.definition import LayerDef
from deploycc.importers.caffe.weights import Array, Blob


class SeededWeights:
    """Draws weights from a seed.

    Args:
        seed: any integer; the same seed gives the same network everywhere.

    Attributes:
        most: number of parameters that are drawn at most: five times as many as a VGG-SSD has.
    """

    most = 1 << 27

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def blobs(self, layer: LayerDef, wanted: Sequence[Blob]) -> list[Array]:
        """Return one array per wanted blob."""
        return [self._draw(layer, index, blob) for index, blob in enumerate(wanted)]

    def stored(self, layer: LayerDef) -> int | None:
        """Return None: a layer gets as many arrays as it wants."""
        return None

    def _draw(self, layer: LayerDef, index: int, blob: Blob) -> Array:
        shared = layer.shared[index] if index < len(layer.shared) else ""
        key = f"param/{shared}" if shared else f"layer/{layer.name}/{index}"
        digest = hashlib.sha256(f"{self.seed}/{key}".encode()).digest()
        rng = np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "little")))
        return _fill(rng, blob)


def _fill(rng: np.random.Generator, blob: Blob) -> Array:
    if blob.role == "factor":
        return np.ones(blob.shape, np.float32)
    values = np.asarray(rng.standard_normal(blob.shape, dtype=np.float32))
    if blob.role == "weight":
        values *= np.float32(np.sqrt(1.0 / max(blob.fan_in, 1)) / blob.input_scale)  # in place: VGG has 26 million
    elif blob.role == "variance":
        # Only products and sums: the last bit of an exponential differs between processors.
        values = (np.float32(0.8) + np.float32(0.2) * values * values) * np.float32(blob.input_scale**2)
    elif blob.role == "mean":
        values *= np.float32(0.1 * blob.input_scale)
    elif blob.role == "slope":
        values = np.float32(0.25) + np.float32(0.05) * values
    elif blob.role in ("scale", "norm"):
        values = np.float32(blob.value if blob.value is not None else 1.0) * (1 + np.float32(0.1) * values)
    else:  # bias, shift
        values *= np.float32(0.1)
    return np.asarray(values, np.float32)
