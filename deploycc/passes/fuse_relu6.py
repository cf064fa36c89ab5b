"""Fusing a ReLU6 that is written with stock Caffe layers."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.detector import Detector
from deploycc.graph.affine import affine_chain, compose
from deploycc.graph.edit import fresh_name, sole_reader
from deploycc.passes.options import Options
from deploycc.passes.runner import Result


def fuse_relu6(detector: Detector, options: Options) -> Result:
    """Fuse a capped ReLU: ``c - relu(c - relu(x)) = min(relu(x), c) = clip(x, 0, c)`` for c > 0.

    With r = relu(x): r <= c gives c - (c - r) = r, r > c gives c - 0 = c. In floating point the long form also rounds
    r to the grid of c - r (up to half a unit in the last place of c: 2.4e-7 for c = 6); Clip does not.

    Before: ``a = Relu(x); b = 6 - a; d = Relu(b); y = 6 - d``
    After:  ``y = Clip(x, 0, 6)``
    """
    graph, fused = detector.graph, 0
    for node in list(graph.nodes):
        if node.op == "Relu" and node.inputs:
            fused += _fuse(graph, node)
    if fused:
        graph.cleanup().toposort()
    return Result(detector, bool(fused))


def _fuse(graph: gs.Graph, first: gs.Node) -> bool:
    down = _mirror(graph, first.outputs[0])
    if down is None:
        return False
    cap, mirrored = down
    second = sole_reader(graph, mirrored)
    if second is None or second.op != "Relu":
        return False
    up = _mirror(graph, second.outputs[0])
    if up is None or up[0] != cap:
        return False
    source, target = first.inputs[0], up[1]
    dtype = np.dtype(source.dtype or np.float32)
    target.inputs.clear()
    clip = gs.Node("Clip", first.name, inputs=[source], outputs=[target])
    if graph.opset >= 11:
        for bound, value in (("min", 0.0), ("max", cap)):
            name = fresh_name(graph, f"{target.name}_{bound}")
            clip.inputs.append(gs.Constant(name, np.array(value, dtype=dtype)))
    else:
        clip.attrs.update(min=0.0, max=float(cap))
    graph.nodes.append(clip)
    first.inputs.clear()
    return True


def _mirror(graph: gs.Graph, tensor: gs.Tensor) -> tuple[float, gs.Tensor] | None:
    """Find ``c - tensor``, written with any number of affine nodes; return c and the result."""
    chain = affine_chain(graph, tensor)
    for length in range(1, len(chain) + 1):
        total = compose(chain[:length])
        if total.scale.ndim == total.shift.ndim == 0 and total.scale == -1.0 and total.shift > 0.0:
            return float(total.shift), chain[length - 1].node.outputs[0]
    return None
