"""PVA-SSD: its trunk is PVANet 9.1, its size the white paper's, its outputs those of OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx_graphsurgeon as gs
import pytest
from caffe_files import run, seeded_files
from pva_ssd import pva_ssd

from deploycc.detector import Detector
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.cost import measure_cost
from deploycc.graph.split import split_heads
from deploycc.importers.caffe import load


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pva") / "pva_ssd.prototxt"
    path.write_text(pva_ssd(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def detector(definition: Path) -> Detector:
    return load(definition, random_weights=1)


def test_size_is_the_papers(detector: Detector) -> None:
    cost = measure_cost(detector.graph)
    assert detector.heads is not None
    split = split_heads(detector.graph, detector.heads.locations, detector.heads.scores)
    assert split.backend.macs / 1e9 == pytest.approx(0.976, rel=0, abs=5e-4)
    assert cost.macs / 1e9 == pytest.approx(1.3, rel=0, abs=0.05)
    assert cost.params / 1e6 == pytest.approx(5.7, rel=0, abs=0.05)
    assert cost.nodes > 400
    assert detector.heads.priors.shape == (8732, 4)


def test_trunk_is_the_published_one(detector: Detector, assets: Path) -> None:
    published = load(assets / "prototxt" / "pvanet_pva9.1_imagenet.prototxt", random_weights=1).graph.nodes
    here = {node.name: node for node in detector.graph.nodes}
    trunk = published[: [node.name for node in published].index("pool5")]
    assert len(trunk) > 350
    for node in trunk:
        own = here[node.name]
        assert (own.op, wires(own), weights(own)) == (node.op, wires(node), weights(node)), node.name
        # 19 pixels here are 12 there, and only their border differs.
        border = {"pads", "ceil_mode"} if node.name == "conv5_1/incep/pool" else set()
        assert {**own.attrs, **dict.fromkeys(border)} == {**node.attrs, **dict.fromkeys(border)}, node.name


def wires(node: gs.Node) -> list[str]:
    return [tensor.name for tensor in (*node.inputs, *node.outputs) if isinstance(tensor, gs.Variable)]


def weights(node: gs.Node) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in node.inputs if isinstance(tensor, gs.Constant)]


def test_every_operator_has_a_channel_rule(detector: Detector) -> None:
    assert channel_groups(detector.graph).notes == ()


def test_outputs_are_opencvs(definition: Path, tmp_path: Path) -> None:
    # Cut before the softmax, which would turn the rounding of scores that reach hundreds into other classes.
    text, model = seeded_files(definition, tmp_path, seed=7, until="mbox_conf_reshape")
    net = cv2.dnn.readNetFromCaffe(str(text), str(model))
    detector = load(text, model)
    picture = np.random.default_rng(5).uniform(-120, 140, detector.input.shape).astype(np.float32)
    net.setInput(picture)
    found = run(detector, picture)
    assert {"mbox_loc", "mbox_conf"} <= set(found)
    for name, expected in zip(found, net.forward(list(found)), strict=True):
        atol = 2e-5 * float(np.abs(expected).max())
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=atol, err_msg=name)
