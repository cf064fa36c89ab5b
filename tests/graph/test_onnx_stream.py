"""Files written piece by piece are the models that are written whole."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from graph_text import network

from deploycc.graph.export import to_onnx
from deploycc.graph.onnx_stream import _varint, write_onnx

BRANCHES = """<ir_version: 8, opset_import: ["" : 13]>
n (float[1,64,4,4] x, float[64,64,1,1] w, int64[2000] i, bool on) => (float[1,64,4,4] y) {
 n = Cast<to=1>(i)
 s = ReduceSum<keepdims=0>(n)
 y = If (on) <
  then_branch = one () => (float[1,64,4,4] a) { a = Conv(x, w) },
  else_branch = other () => (float[1,64,4,4] b) { b = Add(x, s) }
 >
}"""


def written(graph: gs.Graph, metadata: dict[str, str] | None = None) -> onnx.ModelProto:
    file = io.BytesIO()
    digest = write_onnx(graph, metadata or {}, file)
    assert digest == hashlib.sha256(file.getvalue()).hexdigest()
    return onnx.ModelProto.FromString(file.getvalue())


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int64, np.int32, np.bool_])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("lazy", [True, False])
def test_every_type_of_weight(dtype: type, contiguous: bool, lazy: bool) -> None:
    values = (np.random.default_rng(0).normal(size=(40, 60)) * 9).astype(dtype)
    values = values if contiguous else values.T
    x, y = (gs.Variable(name, dtype, values.shape) for name in "xy")
    graph = gs.Graph(
        [gs.Node("Where", "n", {}, [gs.Constant("c", values > 0), x, gs.Constant("w", values)], [y])], [x], [y]
    )
    graph.opset, graph.ir_version = 13, 8
    graph = gs.import_onnx(gs.export_onnx(graph)) if lazy else graph
    got = written(graph, {"key": "value"})
    assert {entry.key: entry.value for entry in got.metadata_props} == {"key": "value"}
    del got.metadata_props[:]
    assert got.SerializeToString(deterministic=True) == to_onnx(graph).SerializeToString(deterministic=True)


def test_weights_of_branches() -> None:
    graph = network(BRANCHES, {"i": np.arange(2000), "on": np.array(True)}).graph
    expected = to_onnx(graph)
    onnx.checker.check_model(expected, full_check=True)
    assert written(graph).SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**35 + 5])
def test_lengths(value: int) -> None:
    expected = onnx.TensorProto(dims=[value]).SerializeToString()
    assert expected.endswith(_varint(value))
