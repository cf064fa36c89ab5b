"""Small utilisation profiles, written by hand."""

from __future__ import annotations

import numpy as np

from deploycc.documents.document import Evidence, this_tool
from deploycc.documents.utilisation import (
    GateRecord,
    LayerUse,
    Pictures,
    Preparation,
    UtilisationProfile,
    operation_reduction,
    pack_vectors,
    summarise_reduction,
)


def layer(vectors: np.ndarray, name: str = "conv", macs: int = 100) -> LayerUse:
    """Record a gated layer whose gate took the decisions ``vectors``, [pictures, kernels]."""
    kernels = vectors.shape[1]
    packed = b"".join(np.packbits(row).tobytes() for row in vectors)
    gate = GateRecord(
        place="after-bias",
        granularity="kernel",
        threshold=0.5,
        unit_of=tuple(range(kernels)),
        macs=3,
        used_squares=(0.5,) * kernels,
        vectors=pack_vectors(packed),
    )
    used = tuple(map(float, vectors.sum(0)))
    return LayerUse(name=name, macs=macs, response="y", activation=None, used=used, squares=(1.0,) * kernels, gate=gate)


VECTORS = np.array([[1, 0, 0, 1, 1, 0, 0, 0, 1], [1, 0, 1, 1, 1, 0, 0, 0, 1]], bool)


def profile(*vectors: np.ndarray) -> UtilisationProfile:
    """Record gated layers ``conv0``, ``conv1``, ... of 100 MACs each in a back-end of 400."""
    rows = vectors or (VECTORS,)
    layers = tuple(layer(decisions, f"conv{number}") for number, decisions in enumerate(rows))
    count = len(rows[0])
    return UtilisationProfile(
        tool=this_tool(),
        evidence=Evidence(kind="measured", source="test"),
        source_sha256="a" * 64,
        random_weights=None,
        network="net",
        kind="gates",
        input=Preparation(shape=(1, 3, 8, 8), colour="RGB", mean=(0.0,) * 3, scale=(1.0,) * 3, assumed=False),
        pictures=Pictures(source="folder", count=count, sha256="b" * 64),
        scope="back-end",
        scope_macs=400,
        layers=layers,
        reduction=summarise_reduction(operation_reduction(layers, count, 400)),
    )
