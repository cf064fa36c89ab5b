"""The text form of a graph, without its weights."""

from __future__ import annotations

from pathlib import Path

import onnx

from deploycc import importers
from deploycc.graph.skeleton import without_weights
from deploycc.graph.text import to_text, write_text

TINY = Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt"


def test_text_is_valid_onnx_without_the_weights() -> None:
    graph = importers.load(TINY, random_weights=1).graph
    text = to_text(graph)
    model = onnx.parser.parse_model(text)
    assert [node.op_type for node in model.graph.node] == [node.op for node in graph.nodes]
    assert len(text) < 20_000


def test_a_graph_without_weights_leaves_the_original_alone() -> None:
    graph = importers.load(TINY, random_weights=1).graph
    before = {name: type(tensor) for name, tensor in graph.tensors().items()}
    clone = without_weights(graph, keep_up_to=0)
    assert {name: type(tensor) for name, tensor in graph.tensors().items()} == before
    assert len(clone.inputs) > len(graph.inputs)


def test_write_text_makes_the_folder(tmp_path: Path) -> None:
    graph = importers.load(TINY, random_weights=1).graph
    write_text(graph, tmp_path / "a" / "b.txt")
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == to_text(graph)
