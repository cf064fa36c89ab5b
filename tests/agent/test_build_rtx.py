"""TensorRT-RTX builds real engines without a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from small_networks import conv_model, if_model, nms_model, plan_folder, unknown_operator_model

from deploycc import target
from deploycc.agent import build_rtx
from deploycc.agent.outcome import Failed, NotPossible

pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")


def build(folder: Path, model: onnx.ModelProto | bytes, precision: str = "fp32", **board: Any) -> dict[str, Any]:
    plan_folder(folder, target.load("x86-rtx"), {precision: model})
    plan = json.loads((folder / "plan.json").read_text())
    plan["target"].update(board)
    return build_rtx.build(plan, str(folder / f"network-{precision}.onnx"), str(folder / "engine"))


def of_type(facts: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [layer for layer in facts["layers"] if layer["type"] == kind]


@pytest.mark.parametrize(("precision", "element"), [("fp32", "FLOAT"), ("fp16", "HALF")])
def test_convolutions_keep_their_type(tmp_path: Path, precision: str, element: str) -> None:
    facts = build(tmp_path, conv_model(precision), precision)
    assert [layer["precision"] for layer in of_type(facts, "CONVOLUTION")] == [element, element]
    assert [layer["name"] for layer in of_type(facts, "CONVOLUTION")] == ["conv1", "conv2"]
    assert (tmp_path / "engine").stat().st_size > 10_000


def test_if_becomes_a_conditional(tmp_path: Path) -> None:
    facts = build(tmp_path, if_model())
    kinds = {layer["type"] for layer in facts["layers"]}
    assert {"CONDITION", "CONDITIONAL_INPUT", "CONDITIONAL_OUTPUT", "CONVOLUTION"} <= kinds
    assert (tmp_path / "engine").stat().st_size > 10_000


def test_a_node_without_a_kernel_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="has no runners that implement it") as caught:
        build(tmp_path, nms_model())
    assert caught.value.node is not None
    assert "suppress" in caught.value.node
    assert "NMS" in caught.value.node
    assert not (tmp_path / "engine").exists()


def test_a_node_the_parser_refuses_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="Plugin not found") as caught:
        build(tmp_path, unknown_operator_model())
    assert caught.value.node == "frob (Frobnicate)"


@pytest.mark.parametrize("content", [b"", b"not a network", conv_model().SerializeToString()[:300]])
def test_a_corrupt_network_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Failed, match=r"parser refuses the network|must have at least one output"):
        build(tmp_path, content)


def test_another_gpu_can_be_named(tmp_path: Path) -> None:
    build(tmp_path, conv_model(), compute_capability="8.9")
    assert (tmp_path / "engine").exists()


def test_a_gpu_it_does_not_build_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotPossible, match=r"compute capability 6\.2 .*SM86"):
        build(tmp_path, conv_model(), compute_capability="6.2")
