"""Windows multiplied by weights, against ONNX Runtime's convolution."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graph_text import network, picture, run

from deploycc.pruning.windows import Windows

RTOL, ATOL = 1e-5, 1e-5

ATTRIBUTES = [
    "kernel_shape=[1,1]",
    "pads=[1,1,1,1]",
    "pads=[2,0,1,3], strides=[2,1]",
    "dilations=[2,1], pads=[1,2,0,1], strides=[1,3]",
]


def conv(attributes: str, groups: int = 1, *, bias: bool = True) -> gs.Node:
    kernel = "1,1" if "kernel_shape" in attributes else "3,2"
    declared = f"float[6,{4 // groups},{kernel}] w" + (", float[6] b" if bias else "")
    made = network(
        f'<ir_version: 8, opset_import: ["" : 13]> n (float[1,4,7,9] x, {declared}) => (float[1,6,h,v] y) '
        f"{{ y = Conv<{attributes}, group={groups}>(x, w{', b' if bias else ''}) }}"
    )
    return made.graph


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("attributes", ATTRIBUTES)
def test_windows_times_weights_is_the_convolution(attributes: str, groups: int) -> None:
    graph = conv(attributes, groups)
    x, node = picture(graph), graph.nodes[0]
    expected = run(graph, x)[0][0].reshape(6, -1)
    windows = Windows.of(node)
    assert isinstance(windows, Windows)
    places = np.random.default_rng(0).permutation(expected.shape[1])[:5]
    read = windows.at(x, places)
    weight = node.inputs[1].values.reshape(groups, 6 // groups, -1)
    got = np.einsum("gpi,goi->gop", read, weight).reshape(6, -1) + node.inputs[2].values[:, None]
    np.testing.assert_allclose(got, expected[:, places], rtol=RTOL, atol=ATOL)


def test_other_nodes_have_a_reason_instead_of_windows() -> None:
    padded = conv(ATTRIBUTES[1]).nodes[0]
    padded.attrs["auto_pad"] = "SAME_UPPER"
    assert "SAME_UPPER" in str(Windows.of(padded))
    loose = conv(ATTRIBUTES[0]).nodes[0]
    loose.inputs[2] = gs.Variable("computed", np.float32, [6])
    assert "bias is not constant" in str(Windows.of(loose))
    other = conv(ATTRIBUTES[0], bias=False).nodes[0]
    other.op = "ConvTranspose"
    assert "ConvTranspose" in str(Windows.of(other))
