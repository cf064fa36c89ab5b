"""A detector as one ONNX file, whose metadata describe the input and the outputs.

Any ONNX tool reads the network; `read_detector` restores the `Detector`, so a network can be saved between passes.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from deploycc.detector import BoxCoding, DetectionOutputs, Detector, InputSpec, Nms, Source, SsdHeads
from deploycc.documents.pruning import PruningRecord
from deploycc.errors import ModelError, Note
from deploycc.files import replacing
from deploycc.graph.export import to_onnx
from deploycc.graph.gates import metadata as gate_metadata
from deploycc.graph.onnx_stream import write_onnx

KEY = "deploycc.detector"


class _Heads(BaseModel):
    """`SsdHeads`; arrays as base64 of zlib of little-endian float32 [P, 4], rows of int64 [P]."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    locations: str
    scores: str
    priors: str
    variances: str
    classes: int
    background: int | None
    box_coding: BoxCoding
    variance_encoded: bool
    y_first: bool
    clip: bool
    trained_priors: int | None = None
    trained_rows: str | None = None


class _Record(BaseModel):
    """Everything of a `Detector` except its graph."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: Literal[1]
    input: InputSpec
    source: Source
    heads: _Heads | None
    nms: Nms
    detections: DetectionOutputs | None
    class_names: tuple[str, ...]
    notes: tuple[Note, ...]
    prunings: tuple[PruningRecord, ...] = ()
    extra_outputs: tuple[str, ...] = ()
    """Graph outputs besides the detections: masks, landmarks."""


def describe(detector: Detector) -> onnx.ModelProto:
    """Return the detector as an ONNX model of the graph's IR version and opset, described in its metadata."""
    model = to_onnx(detector.graph)
    for key, value in _metadata(detector).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model


def _metadata(detector: Detector) -> dict[str, str]:
    entries = {KEY: _record(detector).model_dump_json()}
    if detector.gates:
        entries[gate_metadata.KEY] = gate_metadata.write_entry(detector.gates)
    return entries


def save(detector: Detector, path: Path) -> str:
    """Write the detector to one ONNX file, which appears whole or not at all.

    Returns:
        SHA-256 of the file, hexadecimal.

    Raises:
        ArtefactError: the file cannot be written (no folder, no permission, disk full).
    """
    with replacing(path) as partial, partial.open("wb") as file:
        return write_onnx(detector.graph, _metadata(detector), file)


def holds_detector(model: onnx.ModelProto) -> bool:
    """Return whether `save` wrote this model."""
    return any(entry.key == KEY for entry in model.metadata_props)


def read_gates(model: onnx.ModelProto) -> tuple[tuple[gate_metadata.DescribedGate, ...], tuple[Note, ...]]:
    """Return the gates that a model's metadata describe, or a note if they cannot be read.

    The metadata can only confirm what the network itself shows, so a damaged entry does not make the file unusable.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == gate_metadata.KEY), None)
    if text is None:
        return (), ()
    try:
        return gate_metadata.read_entry(text), ()
    except ValueError as reason:  # pydantic's ValidationError is one
        lines = str(reason).splitlines()
        message = f"the metadata {gate_metadata.KEY} cannot be read and are ignored: {'; '.join(lines[1:3]).strip()}"
        return (), (Note("", "gate-metadata", message),)


def read_detector(model: onnx.ModelProto, path: Path) -> Detector:
    """Restore a detector that `save` wrote.

    Args:
        model: read and checked; see `holds_detector`.
        path: of the file, for messages.

    Raises:
        ModelError: ``detector-metadata``: the description has another schema, is damaged, or does not fit the network.
    """
    text = next(entry.value for entry in model.metadata_props if entry.key == KEY)
    try:
        record = _Record.model_validate_json(text)
        heads = _restore_heads(record.heads)
    except (ValidationError, ValueError, zlib.error) as reason:
        first = reason.errors(include_url=False)[0] if isinstance(reason, ValidationError) else None
        raise ModelError(
            "detector-metadata",
            f"the detector's description in {path.name} cannot be read",
            context={"file": path, "metadata": KEY},
            note=f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(reason),
            hint="write the file again with this version of deploycc",
        ) from None
    graph = gs.import_onnx(model)
    borders = {tensor.name for tensor in [*graph.inputs, *graph.outputs]}
    restored = Detector(
        graph=graph,
        input=record.input,
        source=record.source,
        heads=heads,
        nms=record.nms,
        detections=record.detections,
        class_names=record.class_names,
        prunings=record.prunings,
    )
    described = [record.input.name, *restored.detection_outputs, *record.extra_outputs]
    if missing := [name for name in described if name not in borders]:
        raise ModelError(
            "detector-metadata",
            f"{path.name} describes {', '.join(missing)}, which its network does not have",
            context={"file": path, "network": ", ".join(sorted(borders))},
            note="the network was changed after deploycc wrote it",
        )
    _check_fit(graph, record.input, heads, path)
    gates, notes = read_gates(model)
    return replace(restored, notes=(*record.notes, *notes), gates=gates)


def _check_fit(graph: gs.Graph, spec: InputSpec, heads: SsdHeads | None, path: Path) -> None:
    """Refuse a description that does not fit the network.

    Raises:
        ModelError: ``detector-metadata``.
    """
    problem = None
    inputs = {tensor.name: tensor for tensor in graph.inputs}
    tensor = inputs[spec.name] if spec.name in inputs else graph.inputs[0]
    if len(inputs) != 1:
        problem = f"one input is described, and the network has {len(inputs)}: {', '.join(inputs)}"
    elif tuple(tensor.shape or ()) != spec.shape or tensor.dtype != np.float32:
        found = f"{np.dtype(tensor.dtype).name if tensor.dtype else 'unknown'} {list(tensor.shape or ())}"
        problem = f"the input {spec.name} is described as float32 {list(spec.shape)}, and the network's is {found}"
    elif heads is not None and heads.variances.shape != heads.priors.shape:
        problem = f"{len(heads.priors)} priors have {len(heads.variances)} sets of variances"
    elif heads is not None and heads.trained_rows is not None and len(heads.trained_rows) != len(heads.priors):
        problem = f"{len(heads.priors)} priors have {len(heads.trained_rows)} rows in the trained network"
    for name, width in ((heads.locations, 4), (heads.scores, heads.classes)) if heads is not None else ():
        shapes = [output.shape for output in graph.outputs if output.name == name and output.shape is not None]
        sizes = [math.prod(shape) for shape in shapes if all(isinstance(size, int) for size in shape)]
        if problem is None and sizes and heads is not None and sizes[0] != len(heads.priors) * width:
            problem = f"{len(heads.priors)} priors are described, and {name} is {list(shapes[0])}"
    if problem is not None:
        raise ModelError(
            "detector-metadata",
            f"the detector's description in {path.name} does not fit its network",
            context={"file": path, "metadata": KEY},
            note=problem,
            hint="the network was changed after deploycc wrote it: write it again",
        )


def _record(detector: Detector) -> _Record:
    heads = detector.heads
    stored = None
    if heads is not None:
        stored = _Heads(
            locations=heads.locations,
            scores=heads.scores,
            priors=_pack(heads.priors),
            variances=_pack(heads.variances),
            classes=heads.classes,
            background=heads.background,
            box_coding=heads.box_coding,
            variance_encoded=heads.variance_encoded,
            y_first=heads.y_first,
            clip=heads.clip,
            trained_priors=heads.trained_priors,
            trained_rows=None if heads.trained_rows is None else _pack(heads.trained_rows, "<i8"),
        )
    return _Record(
        schema_version=1,
        input=detector.input,
        source=detector.source,
        heads=stored,
        nms=detector.nms,
        detections=detector.detections,
        class_names=detector.class_names,
        notes=detector.notes,
        prunings=detector.prunings,
        extra_outputs=detector.extra_outputs,
    )


def _restore_heads(stored: _Heads | None) -> SsdHeads | None:
    if stored is None:
        return None
    fields = stored.model_dump()
    fields["priors"], fields["variances"] = _corners(stored.priors), _corners(stored.variances)
    if stored.trained_rows is not None:
        fields["trained_rows"] = np.frombuffer(_unpack(stored.trained_rows), "<i8").astype(np.int64)
    return SsdHeads(**fields)


def _pack(values: NDArray[np.generic], dtype: str = "<f4") -> str:
    return base64.b64encode(zlib.compress(values.astype(dtype).tobytes(), 6)).decode("ascii")


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text, validate=True))


def _corners(text: str) -> NDArray[np.float32]:
    return np.frombuffer(_unpack(text), dtype="<f4").astype(np.float32).reshape(-1, 4)
