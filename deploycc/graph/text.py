"""ONNX text of a graph, for reading and for golden files; weights show only their shapes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs

from deploycc import files
from deploycc.graph.skeleton import export_without_weights

_SHOWN = 16  # elements of a constant that are printed


def to_text(graph: gs.Graph) -> str:
    """Return the graph in ONNX text form; constants of more than 16 elements appear as inputs of their shape."""
    return str(onnx.printer.to_text(export_without_weights(graph, _SHOWN)))


def write_text(graph: gs.Graph, path: Path) -> None:
    """Write `to_text` to ``path``, creating its folder.

    Raises:
        ArtefactError: the folder or the file cannot be written.
    """
    with contextlib.suppress(OSError):  # writing the file reports why
        path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, to_text(graph))
