from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from deploycc.graph.predictors import Untraceable, trace_head


def test_a_reshape_that_does_not_hold_its_values_is_untraceable() -> None:
    x, c, y = (
        gs.Variable(name, np.float32, shape)
        for name, shape in (("x", [1, 3, 2, 2]), ("c", [1, 4, 2, 2]), ("y", [1, 3, 4]))
    )
    weight = gs.Constant("w", np.ones((4, 3, 1, 1), np.float32))
    nodes = [
        gs.Node("Conv", "conv", inputs=[x, weight], outputs=[c]),
        gs.Node("Reshape", "rows", inputs=[c], outputs=[y]),
    ]
    gs.Graph(nodes=nodes, inputs=[x], outputs=[y])
    with pytest.raises(Untraceable) as caught:
        trace_head(y)
    assert (caught.value.node, caught.value.reason) == (
        "rows",
        "its output [1, 3, 4] does not hold the values of its input",
    )
