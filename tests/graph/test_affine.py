from __future__ import annotations

from itertools import pairwise
from unittest.mock import patch

from graph_text import network

from deploycc.graph import affine
from deploycc.graph.affine import affine_chain


def test_a_node_that_is_not_affine_is_not_looked_for_among_all() -> None:
    """Asking whether the graph holds a node reads the whole graph: once per node, that took minutes for 10,000."""
    names = ["x", *(f"t{n}" for n in range(5)), "y"]
    nodes = " ".join(f"{b} = Relu({a})" for a, b in pairwise(names))
    text = '<ir_version: 8, opset_import: ["" : 13]> g (float[1,3,4,4] x) => (float[1,3,4,4] y) {'
    graph = network(f"{text} {nodes} }}").graph
    with patch.object(affine, "holds", side_effect=affine.holds) as asked:
        for node in graph.nodes:
            assert affine_chain(graph, node.outputs[0]) == []
    assert asked.call_count == 0
