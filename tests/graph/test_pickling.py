"""Graphs come out of a pickle as they went in, with branches, and shared where they were shared."""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graph_text import network

from deploycc.detector import Detector
from deploycc.graph.export import to_onnx

BRANCHES = """<ir_version: 8, opset_import: ["": 13]>
net (float[1, 3, 4, 4] x, float[2, 3, 1, 1] w, bool c) => (float[1, 2, 4, 4] y) {
  h = Conv (x, w)
  t = Relu (h)
  y = If (c) <
    then_branch = one () => (float[1, 2, 4, 4] a) { a = Add (t, h) },
    else_branch = two () => (float[1, 2, 4, 4] b) { b = Identity (t) }
  >
}"""


def again(value: object) -> object:
    buffer = io.BytesIO()
    ForkingPickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)  # as processes of an executor get it
    return pickle.loads(buffer.getvalue())


def links(graph: gs.Graph) -> list[object]:
    """Producers and consumers of every tensor, in order."""
    return [
        (name, [node.name for node in tensor.inputs], [node.name for node in tensor.outputs])
        for name, tensor in graph.tensors().items()
    ]


def test_a_graph_with_branches_stays_what_it_is() -> None:
    detector = network(BRANCHES, {"c": np.array(True)})
    for number, node in enumerate(detector.graph.nodes):
        node.name = f"node {number}"
    copy = again(detector)
    assert isinstance(copy, Detector)
    assert links(copy.graph) == links(detector.graph)
    texts = [to_onnx(each.graph).SerializeToString(deterministic=True) for each in (detector, copy)]
    assert texts[0] == texts[1]
    inner = copy.graph.nodes[2].attrs["then_branch"]
    assert inner.nodes[0].inputs[0] is copy.graph.nodes[1].outputs[0]  # a branch reads tensors from outside
    copy.graph.nodes[1].inputs.clear()  # which the tensor on the other side learns
    assert [node.op for node in copy.graph.tensors()["h"].outputs] == ["Add"]


def test_two_detectors_share_their_graph_afterwards_too() -> None:
    detector = network(BRANCHES, {"c": np.array(True)})
    one, other = again((detector, replace(detector, class_names=("a",))))  # type: ignore[misc]
    assert one.graph is other.graph


@pytest.mark.parametrize("length", [400])
def test_a_deep_graph_does_not_exhaust_the_stack(length: int) -> None:
    tensors = [gs.Variable(f"t{number}", np.float32, [1]) for number in range(length + 1)]
    nodes = [gs.Node("Relu", inputs=[tensors[n]], outputs=[tensors[n + 1]]) for n in range(length)]
    copy = again(gs.Graph(nodes, [tensors[0]], [tensors[-1]]))
    assert isinstance(copy, gs.Graph)
    assert len(copy.nodes) == length
