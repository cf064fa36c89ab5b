"""Check that a utilisation profile belongs to a network."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from deploycc.documents.utilisation import UtilisationProfile
from deploycc.errors import ArtefactError
from deploycc.graph.edit import constant_values, static_shape


def kernels_of(graph: gs.Graph) -> dict[str, int]:
    """Return the number of kernels of each convolution of a graph, by node name."""
    kernels = {}
    for node in graph.nodes:
        weights = constant_values(node.inputs[1]) if node.op in ("Conv", "ConvTranspose") else None
        shape = static_shape(node.outputs[0]) if weights is not None else None
        if shape is not None:
            kernels[node.name] = shape[1]
    return kernels


def check_profile(
    profile: UtilisationProfile, source_sha256: str, random_weights: int | None, kernels: Mapping[str, int]
) -> None:
    """Refuse a profile that was made from another network.

    Args:
        profile: as read.
        source_sha256: of the network's trained files.
        random_weights: seed of the weights, if the network is not trained.
        kernels: number of kernels of each convolution of the network, see `kernels_of`.

    Raises:
        ArtefactError: ``profile-other-model``, ``profile-other-layers``.
    """
    hint = f"profile this network again with `{profile.MADE_BY}`"
    made_from = (profile.source_sha256, profile.random_weights)
    if made_from != (source_sha256, random_weights):
        raise ArtefactError(
            "profile-other-model",
            "the profile was made from another network",
            context={"profile": _weights(*made_from), "network": _weights(source_sha256, random_weights)},
            hint=hint,
        )
    for layer in profile.layers:
        count = kernels.get(layer.name)
        if count != layer.kernels:
            fact = f"has {count} kernels" if count else "does not exist"
            raise ArtefactError(
                "profile-other-layers",
                f"layer {layer.name} has {layer.kernels} kernels in the profile, but {fact} in the network",
                note="a pass or another version of deploycc changed the network in between",
                hint=hint,
            )


def _weights(sha256: str, seed: int | None) -> str:
    return f"sha256 {sha256[:16]}..." + ("" if seed is None else f", random weights of seed {seed}")
