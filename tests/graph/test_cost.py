"""Counts against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from deploycc.graph.cost import layer_costs, measure_cost
from deploycc.graph.shapes import infer_shapes


def graph_of(body: str, constants: dict[str, list[int]]) -> gs.Graph:
    inputs = ", ".join(["float[1,4,8,8] x", *(f"float{dims} {name}" for name, dims in constants.items())])
    model = onnx.parser.parse_model(
        f'<ir_version: 7, opset_import: ["" : 13]>\nnet ({inputs}) => (float[] y) {{\n {body}\n}}'
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for name, dims in constants.items():
        values = np.full(dims, 0.5, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    graph = gs.import_onnx(model)
    graph.inputs = [tensor for tensor in graph.inputs if tensor.name == "x"]
    infer_shapes(graph)
    return graph


@pytest.mark.parametrize(
    ("body", "constants", "macs", "params"),
    [
        # 8x8 outputs of 6 channels, each 4 inputs x 3x3
        ("y = Conv <pads=[1,1,1,1]> (x, w, b)", {"w": [6, 4, 3, 3], "b": [6]}, 64 * 6 * 36, 6 * 36 + 6),
        # depthwise: one input channel an output
        ("y = Conv <group=4> (x, w)", {"w": [4, 1, 3, 3]}, 36 * 4 * 9, 36),
        # transposed: every input element times the kernel of every output channel
        ("y = ConvTranspose <strides=[2,2]> (x, w)", {"w": [4, 5, 2, 2]}, 4 * 64 * 5 * 4, 80),
        ("f = Flatten (x)\n y = Gemm <transB=1> (f, w)", {"w": [10, 256]}, 2560, 2560),
        ("f = Flatten (x)\n y = MatMul (f, w)", {"w": [256, 10]}, 2560, 2560),
        # a shared weight: twice the work, once the parameters
        ("a = Conv (x, w)\n b = Conv (x, w)\n y = Add (a, b)", {"w": [4, 4, 1, 1]}, 2 * 64 * 16, 16),
        # statistics of a BatchNormalization are not parameters; its scale and shift are
        ("y = BatchNormalization (x, s, b, m, v)", {key: [4] for key in "sbmv"}, 0, 8),
        ("y = Relu (x)", {}, 0, 0),
    ],
)
def test_counts(body: str, constants: dict[str, list[int]], macs: int, params: int) -> None:
    cost = measure_cost(graph_of(body, constants))
    assert (cost.macs, cost.params) == (macs, params)


def test_an_identity_scale_and_shift_are_no_parameters() -> None:
    graph = graph_of("y = BatchNormalization (x, s, b, m, v)", {key: [4] for key in "sbmv"})
    scale, shift = graph.nodes[0].inputs[1:3]
    scale.values, shift.values = np.ones(4, np.float32), np.zeros(4, np.float32)
    assert measure_cost(graph).params == 0


def test_layers_carry_shapes_and_traffic() -> None:
    [layer] = layer_costs(graph_of("c = Conv (x, w)\n y = Relu (c)", {"w": [2, 4, 1, 1]}))
    assert (layer.op, layer.input_shape, layer.output_shape) == ("Conv", (1, 4, 8, 8), (1, 2, 8, 8))
    assert layer.activation_bytes == 4 * (4 * 64 + 2 * 64)
