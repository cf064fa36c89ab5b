"""ONNX text of a graph, for reading and for golden files. Large constants show their shape only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs

_SHOWN = 16  # elements of a constant that are printed


def to_text(graph: gs.Graph) -> str:
    """Return the graph in ONNX text form; constants of more than 16 elements become inputs named for their shape."""
    clone = graph.copy()
    hidden = []
    for tensor in clone.tensors().values():
        if isinstance(tensor, gs.Constant) and np.prod(tensor.shape, dtype=np.int64) > _SHOWN:
            dtype, shape = tensor.dtype, tuple(tensor.shape)
            hidden.append(tensor.to_variable(dtype=dtype, shape=shape))
    clone.inputs = [*clone.inputs, *hidden]
    return str(onnx.printer.to_text(gs.export_onnx(clone)))


def write_text(graph: gs.Graph, path: Path) -> None:
    """Write `to_text` to ``path``, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_text(graph), encoding="utf-8")
