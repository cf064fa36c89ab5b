"""Layer information of TensorRT's engines, as public logs show it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploycc.agent.layer_information import nodes_by_layer, read_nodes


def information(*layers: object) -> dict[str, object]:
    return {"Layers": list(layers), "Bindings": ["images", "boxes"]}


def row(name: str, metadata: object) -> dict[str, object]:
    return {"Name": name, "LayerType": "kgen", "Inputs": [], "Outputs": [], "TacticName": name, "Metadata": metadata}


@pytest.mark.parametrize("between", ["\x1f", "\x1e", "", "\n", ", "])
def test_nodes_of_a_merged_layer_are_listed_in_its_metadata(between: str) -> None:
    nodes = ["/stem/conv/Conv", "/stem/act/Relu[0]", "Add_12"]
    metadata = between.join(f"[ONNX Layer: {node}]" for node in nodes)
    assert nodes_by_layer(information(row("__myl_ConvReluAdd_myl3_5", metadata))) == {"__myl_ConvReluAdd_myl3_5": nodes}


def test_groups_of_nodes_are_one_list() -> None:
    metadata = "[ONNX Layer: a]\x1f[ONNX Layer: b]\x1e[ONNX Layer: a]"
    assert nodes_by_layer(information(row("x", metadata), row("x", "[ONNX Layer: c]"))) == {"x": ["a", "b", "c"]}


@pytest.mark.parametrize(
    "document",
    [
        {"Layers": ["Reformatting CopyNode for Input Tensor 0 to conv1 + relu1", "conv1 + relu1"]},  # names only
        information(row("Reformatting CopyNode for Input Tensor 0 to conv1", "")),
        information({"Name": "conv1 + relu1", "LayerType": "CaskConvolution"}),  # before 8.6
        information(row("x", None), row("y", 3), {"Metadata": "[ONNX Layer: a]"}, None),
        {"Layers": {"Name": "x"}},
        [],
        None,
    ],
)
def test_what_tells_no_nodes_is_left_alone(document: object) -> None:
    assert nodes_by_layer(document) == {}


def test_a_file_is_read_whether_or_not_separators_are_escaped(tmp_path: Path) -> None:
    path, expected = tmp_path / "layers.json", {"x": ["a", "b"]}
    text = json.dumps(information(row("x", "[ONNX Layer: a]\x1f[ONNX Layer: b]")))
    path.write_text(text)
    assert read_nodes(str(path)) == expected
    path.write_text(text.replace("\\u001f", "\x1f"))
    assert read_nodes(str(path)) == expected


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_cannot_be_read_tells_no_nodes(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "layers.json"
    if content is not None:
        path.write_bytes(content)
    assert read_nodes(str(path)) == {}
