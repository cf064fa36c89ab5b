"""ONNX files: to a static graph of one picture, its heads recognised or described; or a detector saved by deploycc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs

from deploycc.detector import Detector, InputSpec, Nms, Source, SsdHeads
from deploycc.detector.file import holds_detector, read_detector, read_gates
from deploycc.errors import ModelError, Note
from deploycc.graph.edit import type_float_constants
from deploycc.graph.shapes import infer_shapes
from deploycc.importers.described_detector import describe_known_heads
from deploycc.importers.described_heads import describe_heads
from deploycc.importers.description import Description
from deploycc.importers.head_scores import settle_scores
from deploycc.importers.onnx_read import OPSET, first_line, read_model, to_common_opset
from deploycc.importers.picture_input import fix_picture_input, override
from deploycc.importers.ssd_heads import find_decoded_heads

SUFFIXES = (".onnx",)


def load(path: Path, description: Description | None = None) -> Detector:
    """Read an ONNX detector.

    Args:
        path: the file; weights may lie in files beside it.
        description: what the file does not say.

    Raises:
        ModelError: the file is unreadable, inconsistent, no network of one picture, or contradicts the description.
    """
    try:
        return _load(path, description or Description())
    except UnicodeDecodeError as reason:  # protobuf checks its text only where it is read
        raise ModelError(
            "onnx-unreadable", f"{path.name} is a damaged ONNX file", context={"file": path}, note=str(reason)
        ) from None


def _load(path: Path, description: Description) -> Detector:
    model, files, digest, read_notes = read_model(path)
    if holds_detector(model):
        return _restored(model, path, files, digest, description)
    model, written = to_common_opset(model, path)
    gates, gate_notes = read_gates(model)
    graph = _import(model, path)
    spec, notes = fix_picture_input(graph, description.input, path)
    notes[:0] = read_notes
    if written < OPSET:
        notes.insert(0, Note("", "onnx-opset-converted", f"operators are brought from opset {written} to {OPSET}"))
    _settle_shapes(graph, path)
    graph, heads, nms, found = _heads(graph, spec, description)
    return Detector(
        graph=graph,
        input=spec,
        source=Source(tuple(str(file) for file in files), digest, "onnx"),
        heads=heads,
        nms=nms or Nms(),
        notes=(*notes, *gate_notes, *found),
        gates=gates,
    )


def _restored(
    model: onnx.ModelProto, path: Path, files: Sequence[Path], digest: str, description: Description
) -> Detector:
    """What `deploycc.detector.file.save` wrote; this file is the source now, whatever it was made from."""
    detector = read_detector(model, path)
    infer_shapes(detector.graph)
    source = replace(detector.source, files=tuple(str(file) for file in files), sha256=digest, format="onnx")
    detector = replace(detector, source=source, input=override(detector.input, description.input, path))
    return describe_known_heads(detector, description)


def _import(model: onnx.ModelProto, path: Path) -> gs.Graph:
    graph = gs.import_onnx(model)
    graph.name = path.stem  # exporters write the same placeholder into every file
    _name_nodes(graph)
    return graph


def _name_nodes(graph: gs.Graph) -> None:
    """Give every node a name of its own: notes, reports and per-layer times refer to it."""
    taken: set[str] = set()
    for node in graph.nodes:
        base = node.name or (node.outputs[0].name if node.outputs else "") or node.op
        name, number = base, 1
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        node.name = name


def _settle_shapes(graph: gs.Graph, path: Path) -> None:
    """Infer every shape for the fixed input and fold what is computed from shapes alone, in place.

    Raises:
        ModelError: shapes contradict one another.
    """
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Variable) and tensor not in graph.inputs:
            tensor.shape = None  # stated for an open batch; inferred anew below
    try:
        type_float_constants(graph)
        infer_shapes(graph)
        for _ in range(4):  # a folded shape may make the next one static; exporters nest two deep
            nodes = len(graph.nodes)
            graph.fold_constants(size_threshold=1 << 26).cleanup().toposort()
            infer_shapes(graph)
            if len(graph.nodes) == nodes:
                break
    except onnx.shape_inference.InferenceError as reason:
        raise ModelError(
            "onnx-shapes",
            "the shapes inside the network contradict one another",
            context={"file": path},
            note=first_line(reason),
        ) from None


def _heads(
    graph: gs.Graph, spec: InputSpec, description: Description
) -> tuple[gs.Graph, SsdHeads | None, Nms | None, list[Note]]:
    """Recognise or describe the heads on a copy; the graph as it came where that fails."""
    cut = graph.copy()
    wanted = description.heads
    if wanted.has_priors or wanted.locations or wanted.scores:
        found, notes = describe_heads(cut, spec, description)
    else:
        recognised, notes = find_decoded_heads(cut, spec)
        if recognised is None:
            return graph, None, None, notes
        found = recognised
    heads, more = settle_scores(cut, found, spec, description)
    if heads is None:
        return graph, None, None, more
    return cut, heads, found.nms, [*notes, *more]
