"""Parsers of the shipped targets: what they refuse of real detectors; they accept what lowerings write for them."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_graphsurgeon as gs
import pytest

from deploycc.parsers.support import refusals
from deploycc.parsers.tensorrt_releases import numbers
from deploycc.target import capabilities, contract, load, names


@pytest.mark.parametrize("name", names())
def test_real_models_are_read_against_every_target(assets: Path, name: str) -> None:
    agreed = contract(load(name))
    for path in sorted(assets.rglob("*.onnx")):
        graph = gs.import_onnx(onnx.shape_inference.infer_shapes(onnx.load(path)))
        for refusal in refusals(graph, agreed):
            assert refusal.reason
            assert refusal.node or refusal.op in ("opset", "ir")
            assert refusal.first_release is None or numbers(refusal.first_release) > agreed.version


def test_the_real_onnx_detectors_fit_every_onnx_target_except_for_opset_and_ir(assets: Path) -> None:
    for path in sorted(assets.rglob("*.onnx")):
        graph = gs.import_onnx(onnx.shape_inference.infer_shapes(onnx.load(path)))
        for name in names():
            if load(name).model_format == "onnx":
                assert {r.op for r in refusals(graph, contract(load(name)))} <= {"opset", "ir"}, (path.name, name)


def test_preferred_detections_are_known_to_the_parser_of_every_target() -> None:
    """The parser of a target accepts the plugin or operator of that target's lowering."""
    needs = {"efficient-nms": "EfficientNMS_TRT", "nms-plugin": "NMS_TRT", "onnx-nms": "NonMaxSuppression"}
    for name in names():
        target = load(name)
        for lowering in capabilities(target).detections:
            if lowering != "raw":
                graph = gs.Graph([gs.Node(needs[lowering], name="n")], opset=13)
                assert refusals(graph, contract(target)) == [], (name, lowering)
