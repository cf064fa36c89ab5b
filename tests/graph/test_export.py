from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from deploycc.graph.export import to_onnx


@pytest.mark.parametrize("channels", [2, 40])  # below and above what goes through graphsurgeon
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_model_is_that_of_graphsurgeon(channels: int, dtype: type) -> None:
    x, y = (gs.Variable(name, dtype, [1, channels, 4, 4]) for name in "xy")
    weight = np.random.default_rng(0).normal(size=(channels, channels, 1, 1)).astype(dtype)
    graph = gs.Graph(
        [gs.Node("Conv", "conv", {}, [x, gs.Constant("w", weight)], [y])], [x], [y], opset=13, ir_version=7
    )
    graph = gs.import_onnx(gs.export_onnx(graph)) if dtype is np.float16 else graph  # weights not yet loaded
    ours, theirs = to_onnx(graph), gs.export_onnx(graph)
    onnx.checker.check_model(ours, full_check=True)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


def test_a_copy_that_is_exported_leaves_the_original_its_opsets() -> None:
    """A detector that was compiled for TensorRT, with its plugin, is the same for ONNX Runtime afterwards."""
    x, y, z = (gs.Variable(name, np.float32, [1, 2, 4, 4]) for name in "xyz")
    graph = gs.Graph([gs.Node("Relu", "relu", {}, [x], [y])], [x], [y], opset=13)
    before = to_onnx(graph).SerializeToString(deterministic=True)
    graph = gs.import_onnx(to_onnx(graph))
    plugin = graph.copy()
    plugin.nodes.append(gs.Node("EfficientNMS_TRT", "nms", {}, [plugin.outputs[0]], [z], domain="TRT"))
    plugin.outputs = [z]
    assert [entry.domain for entry in to_onnx(plugin).opset_import] == ["", "TRT"]
    assert to_onnx(graph).SerializeToString(deterministic=True) == before
