"""A profile of a network's kernels in which a seed says how often each is used."""

from __future__ import annotations

import numpy as np

from deploycc.detector import Detector
from deploycc.documents.document import Evidence, this_tool
from deploycc.documents.utilisation import LayerUse, Pictures, Preparation, UtilisationProfile
from deploycc.graph.channels.labels import channel_groups
from deploycc.passes import DROP_DEAD, FOLD, run
from deploycc.utilisation.probe import backend_macs, layers_to_probe
from deploycc.workflows.prune import cpu_options


def seeded_profile(detector: Detector, seed: int = 1) -> UtilisationProfile:
    """Say that kernels are used in 0 to 100 % of a picture, those that can only go together equally often."""
    folded = run(detector, cpu_options(), FOLD + DROP_DEAD).detector
    groups = channel_groups(folded.graph)
    use = np.random.default_rng(seed).uniform(0, 1, groups.count)
    layers = tuple(
        LayerUse(
            name=layer.name,
            macs=layer.macs,
            response=layer.response,
            activation=layer.activation,
            used=tuple(use[groups.layers[layer.name]].tolist()),
            squares=(1.0,) * layer.kernels,
            gate=None,
        )
        for layer in layers_to_probe(folded)
    )
    scope, scope_macs = backend_macs(folded)
    spec = folded.input
    return UtilisationProfile(
        tool=this_tool(),
        evidence=Evidence(kind="predicted", source=f"seed {seed}"),
        source_sha256=folded.source.sha256,
        random_weights=folded.source.random_weights,
        network=folded.name,
        kind="activations",
        input=Preparation(shape=spec.shape, colour=spec.colour, mean=spec.mean, scale=spec.scale, assumed=spec.assumed),
        pictures=Pictures(source=f"seed {seed}", count=1, sha256="0" * 64),
        scope=scope,
        scope_macs=scope_macs,
        layers=layers,
        reduction=None,
    )
