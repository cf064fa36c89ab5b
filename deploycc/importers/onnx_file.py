"""Import ONNX files: trained networks, whose heads are recognised or described, and detectors saved by deploycc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs

from deploycc.detector import Detector, InputSpec, Nms, Source, SsdHeads
from deploycc.detector.file import holds_detector, read_detector, read_gates
from deploycc.errors import ModelError, Note
from deploycc.files import path_text, sha256_of
from deploycc.graph.edit import type_float_constants
from deploycc.graph.padding import pad_dilated_convolutions
from deploycc.graph.shapes import infer_shapes
from deploycc.importers.described_detector import describe_known_heads, refuse_keys_of_raw_heads
from deploycc.importers.described_heads import describe_heads
from deploycc.importers.description import Description
from deploycc.importers.head_scores import resolve_scores
from deploycc.importers.onnx_half import widen_half
from deploycc.importers.onnx_opset import OPSET, ROUNDS_DOWN, round_up_where_shrinking, to_common_opset
from deploycc.importers.onnx_read import first_line, read_model
from deploycc.importers.onnx_sizes import check_operands, check_operators, check_sizes
from deploycc.importers.onnx_tensors import check_folded, check_output_types
from deploycc.importers.own_preparation import drop_idle_resizing
from deploycc.importers.picture_input import describe_picture, fix_picture_input, override
from deploycc.importers.single_loops import inline_single_loops
from deploycc.importers.ssd_heads import RawHeads, find_decoded_heads

SUFFIXES = (".onnx",)


def load(path: Path, description: Description | None = None) -> Detector:
    """Read an ONNX detector.

    Args:
        path: the file; external weights may lie beside it.
        description: facts about the detector that the file lacks.

    Raises:
        ModelError: the file is unreadable or inconsistent, does not take one picture, or contradicts the description.
    """
    try:
        return _load(path, description or Description())
    except UnicodeDecodeError as reason:  # protobuf validates a string only when it is accessed
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
    notes = [*read_notes, *widen_half(graph), *inline_single_loops(graph)]
    fixed = fix_picture_input(graph, description.input, path)
    if written < OPSET:
        notes.insert(0, Note("", "onnx-opset-converted", f"the network is converted from opset {written} to {OPSET}"))
    _fix_shapes(graph, path)
    if written <= ROUNDS_DOWN:
        round_up_where_shrinking(graph)
    drop_idle_resizing(graph)
    spec, picture_notes = describe_picture(graph, fixed, description.input, path)
    notes += [*fixed.notes, *picture_notes]
    graph, heads, nms, head_notes = _heads(graph, spec, description)
    check_folded(graph, path)
    return Detector(
        graph=graph,
        input=spec,
        source=_source(files, digest),
        heads=heads,
        nms=nms or Nms(),
        notes=(*notes, *gate_notes, *head_notes),
        gates=gates,
    )


def _restored(
    model: onnx.ModelProto, path: Path, files: Sequence[Path], digest: str, description: Description
) -> Detector:
    """Read a detector that `deploycc.detector.file.save` wrote; the file itself becomes its source."""
    detector = read_detector(model, path)
    _infer(detector.graph, path)
    check_operands(detector.graph, path)
    check_operators(detector.graph, path)
    source = replace(_source(files, digest), random_weights=detector.source.random_weights)
    detector = replace(detector, source=source, input=override(detector.input, description.input, path))
    return describe_known_heads(detector, description)


def _source(files: Sequence[Path], digest: str) -> Source:
    alone = (digest,) if len(files) == 1 else tuple(map(sha256_of, files))
    return Source(tuple(map(path_text, files)), digest, "onnx", file_sha256=alone)


def _import(model: onnx.ModelProto, path: Path) -> gs.Graph:
    graph = gs.import_onnx(model)
    graph.name = path_text(path.stem)  # exporters write the same placeholder into every file
    _name_nodes(graph)
    return graph


def _name_nodes(graph: gs.Graph) -> None:
    """Give every node a unique name, which notes, reports and per-layer times refer to."""
    taken: set[str] = set()
    for node in graph.nodes:
        base = node.name or (node.outputs[0].name if node.outputs else "") or node.op
        name, number = base, 1
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        node.name = name


def _fix_shapes(graph: gs.Graph, path: Path) -> None:
    """Infer every shape for the fixed input and fold values computed from shapes alone, in place.

    Raises:
        ModelError: shapes contradict one another.
    """
    stated = [(output, output.shape) for output in graph.outputs]
    for scope in (graph, *graph.subgraphs(recursive=True)):
        for node in scope.nodes:
            for tensor in node.outputs:
                tensor.shape = None  # stored for an open batch; inferred again below
    type_float_constants(graph)
    check_output_types(graph, path)
    _infer(graph, path)
    for _ in range(4):  # a folded shape may make the next one static; exporters nest two deep
        nodes = len(graph.nodes)
        graph.fold_constants(size_threshold=1 << 26).cleanup().toposort()
        _infer(graph, path)
        if len(graph.nodes) == nodes:
            break
    for output, shape in stated:
        if output.shape is None:  # it follows operators that inference does not understand
            output.shape = shape
    pad_dilated_convolutions(graph)
    check_operands(graph, path)
    check_operators(graph, path)


def _infer(graph: gs.Graph, path: Path) -> None:
    """Infer shapes, and refuse what is too large before anything of that size is allocated."""
    try:
        infer_shapes(graph)
    except onnx.shape_inference.InferenceError as reason:
        raise ModelError(
            "onnx-shapes",
            "the shapes inside the network contradict one another",
            context={"file": path},
            note=first_line(reason),
        ) from None
    check_sizes(graph, path)


def _heads(
    graph: gs.Graph, spec: InputSpec, description: Description
) -> tuple[gs.Graph, SsdHeads | None, Nms | None, list[Note]]:
    """Recognise or describe the heads in a copy of the graph; return the original graph if there are none."""
    cut = graph.copy()
    described = description.heads
    raw_heads: RawHeads | None
    if described.has_priors:
        raw_heads, notes = describe_heads(cut, spec, description)
    else:
        raw_heads, notes = find_decoded_heads(cut, spec, description)
        if raw_heads is None:
            return graph, None, None, notes
        refuse_keys_of_raw_heads(description)
    heads, score_notes = resolve_scores(cut, raw_heads, spec, description)
    if heads is None:
        return graph, None, None, score_notes
    return cut, heads, raw_heads.nms, [*notes, *score_notes]
