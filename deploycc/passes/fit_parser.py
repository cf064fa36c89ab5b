"""Fitting a network to the target's parser: IR, operator set, number types, attributes."""

from __future__ import annotations

from dataclasses import replace

import onnx_graphsurgeon as gs

from deploycc.detector import Detector
from deploycc.errors import Note
from deploycc.graph.expansions import expand
from deploycc.graph.half import all_nodes
from deploycc.graph.narrow_types import narrow_floats, narrow_integers
from deploycc.graph.opset import lower_opset
from deploycc.graph.padding import explicit_pads
from deploycc.graph.shapes import infer_shapes
from deploycc.parsers.support import Contract, has_operator
from deploycc.passes.options import Options
from deploycc.passes.runner import Result

_OLDEST_IR = 4  # the first in which weights need not be graph inputs
_WINDOWED = ("Conv", "MaxPool", "AveragePool", "LpPool")


def fit_parser(detector: Detector, options: Options) -> Result:
    """Bring the network within ``options.contract``; a node without an exact equivalent stays, with a note.

    * IR: at most ``max_ir``.
    * Operator set: stepped down to ``max_opset`` (`deploycc.graph.opset`).
    * INT64 becomes INT32 if the parser lacks INT64 (`deploycc.graph.narrow_types`); FP64 becomes FP32 for every
      TensorRT.
    * Operators that the release does not know are written out in older ones (`deploycc.graph.expansions`).
    * Attributes: ``auto_pad`` becomes explicit pads; poolings lose dilations of 1; for every TensorRT, a Resize that
      takes the floor of TensorFlow's half-pixel coordinates rounds ONNX's instead, which gives the same positions.

    Before: ``y = Softmax<axis=1>(x); i = Gather(a, <int64>)``   x [1, 21, 8732], opset 17
    After:  ``t = Transpose(x); s = Softmax<axis=2>(t); y = Transpose(s); i = Gather(a, <int32>)``   opset 12
    """
    contract, notes = options.contract, list[Note]()
    graph, changed = detector.graph, False
    infer_shapes(graph)
    changed |= sum(_plain_attributes(node) for node in all_nodes(graph)) > 0
    if contract.parser != "onnxruntime":
        changed |= sum(_plain_resize(node) for node in all_nodes(graph)) > 0
        narrowed, more = narrow_floats(graph)
        changed, notes = changed | narrowed, notes + more
    if not contract.int64:
        narrowed, more = narrow_integers(graph)
        changed, notes = changed | narrowed, notes + more
    if graph.opset > contract.max_opset:
        lowered, stuck = lower_opset(graph, contract.max_opset)
        changed |= lowered is not graph
        graph = lowered
        notes += [Note(node.name, "opset-stays", f"opset {graph.opset} stays: {reason}") for node, reason in stuck]
    graph, expanded = _expand_unknown(graph, contract)
    changed |= expanded
    ir_version = max(_OLDEST_IR, min(graph.ir_version or contract.max_ir, contract.max_ir))
    changed |= graph.ir_version != ir_version
    graph.ir_version = ir_version
    return Result(replace(detector, graph=graph), changed, tuple(notes))


def _expand_unknown(graph: gs.Graph, contract: Contract) -> tuple[gs.Graph, bool]:
    """Write out operators that the parser's release does not know, in a copy."""
    if all(has_operator(node.op, contract) for node in all_nodes(graph)):
        return graph, False
    graph = graph.copy()
    expanded = [expand(graph, node) for node in list(all_nodes(graph)) if not has_operator(node.op, contract)]
    return graph.cleanup().toposort(), any(expanded)


def _plain_attributes(node: gs.Node) -> bool:
    if node.op not in _WINDOWED:
        return False
    changed = node.op != "Conv" and set(node.attrs.get("dilations", ())) == {1}
    if changed:
        del node.attrs["dilations"]
    auto_pad = node.attrs.get("auto_pad", "NOTSET")
    if auto_pad == "NOTSET":
        changed |= node.attrs.pop("auto_pad", None) is not None
        return bool(changed)
    pads = explicit_pads(node, auto_pad)
    if pads is None:
        return bool(changed)
    del node.attrs["auto_pad"]
    node.attrs["pads"] = pads
    return True


def _plain_resize(node: gs.Node) -> bool:
    """Write floor((i + 0.5) / s) as the rounding of (i + 0.5) / s - 0.5; TensorRT's parser reads only the second."""
    attrs = node.attrs
    nearest = node.op == "Resize" and attrs.get("mode", "nearest") == "nearest" and attrs.get("nearest_mode") == "floor"
    if not nearest or attrs.get("coordinate_transformation_mode") != "tf_half_pixel_for_nn":
        return False
    attrs |= {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}
    return True
