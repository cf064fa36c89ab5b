"""Shape and type inference reaches branches, and says types where shapes stay unknown."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from deploycc.graph.shapes import infer_shapes


def test_branches_and_types_without_shapes() -> None:
    graph = gs.import_onnx(
        onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 13]>
        g (float[1,2,2,2] x, float[2,2,1,1] w, bool on, int64 turns) => (float[1,2,2,2] y, float z) {
          a = Conv (x, w)
          r = If (on) <
            then_branch = t () => (t_out) { t1 = Relu (a) t_out = Conv (t1, w) },
            else_branch = e () => (e_out) { e_out = Neg (a) }
          >
          l = Loop (turns, on, a) <body = b (int64 i, bool c, float s) => (bool c_out, float s_out) {
            c_out = Identity (c)
            s_out = Add (s, a)
          }>
          y = Relu (r)
          z = Neg (l)
        }""")
    )
    infer_shapes(graph)
    tensors = graph.tensors()
    then = graph.nodes[1].attrs["then_branch"]
    assert [then.tensors()[name].shape for name in ("t1", "t_out")] == [[1, 2, 2, 2]] * 2
    assert then.tensors()["t1"].dtype == np.float32
    assert tensors["r"].shape == [1, 2, 2, 2]
    assert (tensors["l"].shape, tensors["l"].dtype) == (None, np.float32)
