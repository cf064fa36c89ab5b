"""The white paper's division of a detector into back-end and front-end."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploycc import importers
from deploycc.graph.cost import measure_cost
from deploycc.graph.split import backend_maps, split_heads

TINY = Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt"


def test_predictors_are_the_front_end_and_feature_layers_the_back_end() -> None:
    detector = importers.load(TINY, random_weights=1)
    assert detector.heads is not None
    split = split_heads(detector.graph, detector.heads.locations, detector.heads.scores)
    assert split.backend.nodes == ("conv1", "conv2dw", "conv2", "conv3", "conv4")
    assert split.frontend.nodes == ("conv3_loc", "conv3_conf", "conv4_loc", "conv4_conf")
    cost = measure_cost(detector.graph)
    maps = backend_maps(detector.graph, detector.heads.locations, detector.heads.scores)
    assert [detector.graph.tensors()[name].shape[1] for name in maps] == [
        node.inputs[1].shape[1] for node in detector.graph.nodes if node.name in ("conv3_loc", "conv4_loc")
    ]
    assert split.backend.macs + split.frontend.macs == cost.macs
    assert split.backend.params + split.frontend.params == cost.params


@pytest.mark.parametrize(
    ("definition", "gmacs", "mparams", "backend_gmacs"),
    [  # total: table 1 of the white paper; back-end: its table 3
        ("vgg_ssd300_voc_deploy", 31.374, 26.285, 30.1),
        ("squeezenet_ssd_voc_deploy", 1.176, 5.531, 0.535),
    ],
)
def test_published_sizes(assets: Path, definition: str, gmacs: float, mparams: float, backend_gmacs: float) -> None:
    detector = importers.load(assets / "prototxt" / f"{definition}.prototxt", random_weights=0)
    cost = measure_cost(detector.graph)
    assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0, abs=0.0005 if gmacs < 10 else 0.005)
    assert cost.params / 1e6 == pytest.approx(mparams, rel=0, abs=0.0005)
    assert detector.heads is not None
    split = split_heads(detector.graph, detector.heads.locations, detector.heads.scores)
    assert split.backend.macs / 1e9 == pytest.approx(backend_gmacs, rel=0, abs=0.05 if gmacs > 10 else 0.0005)
