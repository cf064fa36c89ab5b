"""Heads given by a description: tensors of raw offsets and scores, priors from a file or from PriorBox parameters."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import InputSpec, SsdHeads
from deploycc.detector.prior_grid import PriorGrid, box_sizes
from deploycc.errors import ModelError, Note
from deploycc.files import read_bytes
from deploycc.importers.description import Description, HeadsDescription, PriorBoxDescription
from deploycc.importers.head_rows import as_rows
from deploycc.importers.network_part import elements
from deploycc.importers.score_search import kind_of
from deploycc.importers.ssd_heads import RawHeads, named_tensor, output_pairs, set_outputs

Array = NDArray[np.float32]


def describe_heads(graph: gs.Graph, spec: InputSpec, description: Description) -> tuple[RawHeads, list[Note]]:
    """Cut ``graph`` at the head tensors that the description names, in place.

    Raises:
        ModelError: a tensor or file does not exist, or the shapes of tensors and priors do not match.
    """
    described, path = description.heads, description.path
    if not described.has_priors:
        raise ModelError(
            "description-no-priors",
            "the description names heads but no priors",
            context={"file": path, "key": "heads"},
            hint="give priors = 'file.npy' or one [[heads.prior_box]] per feature map",
        )
    priors, variances = _priors(described, spec, path)
    count = len(priors)
    locations, scores = _tensors(graph, description)
    if elements(locations) != 4 * count:
        raise _mismatch(path, locations, f"{count} priors need {4 * count} offsets")
    if not elements(scores) or elements(scores) % count:
        raise _mismatch(path, scores, f"its size is not a multiple of {count} priors")
    classes = elements(scores) // count
    given = [locations, scores]
    locations = _in_rows(graph, locations, count, 4, path)
    scores = _in_rows(graph, scores, count, classes, path)
    output_notes = set_outputs(graph, [locations, scores], given)
    heads = SsdHeads(
        locations=locations.name,
        scores=scores.name,
        priors=priors,
        variances=variances,
        classes=classes,
        box_coding=described.box_coding,
        variance_encoded=described.variance_encoded,
        y_first=described.y_first,
        clip=described.clip,
    )
    note = Note(locations.name, "ssd-heads-described", f"{count} priors and their box coding come from {path.name}")
    return RawHeads(heads, kind_of(graph, scores, count)), [note, *output_notes]


def _in_rows(graph: gs.Graph, tensor: gs.Variable, count: int, width: int, path: Path) -> gs.Variable:
    try:
        return as_rows(graph, tensor, count, width)
    except ValueError as reason:
        raise _mismatch(path, tensor, str(reason)) from None


def _tensors(graph: gs.Graph, description: Description) -> tuple[gs.Variable, gs.Variable]:
    described = description.heads
    guesses = list(output_pairs(graph))
    chosen: list[gs.Variable] = []
    for index, (key, name) in enumerate((("locations", described.locations), ("scores", described.scores))):
        if name is not None:
            chosen.append(named_tensor(graph, name, key, description))
            continue
        if len(guesses) != 1:
            outputs = ", ".join(f"{t.name} {t.shape}" for t in graph.outputs)
            raise ModelError(
                "description-ambiguous",
                f"the shapes of the outputs do not show which of them holds the {key}",
                context={"file": description.path, "key": f"heads.{key}", "outputs": outputs},
                hint=f"name it: [heads] {key} = ...",
            )
        chosen.append(guesses[0][index])
    return chosen[0], chosen[1]


def _priors(described: HeadsDescription, spec: InputSpec, path: Path) -> tuple[Array, Array]:
    if described.priors is not None:
        return _read_priors(described, path.parent / described.priors, path)
    layers = [
        _layer_priors(layer.model_copy(update={"variance": layer.variance or described.variance}), number, spec, path)
        for number, layer in enumerate(described.prior_box)
    ]
    return np.concatenate([boxes for boxes, _ in layers]), np.concatenate([variances for _, variances in layers])


def _layer_priors(layer: PriorBoxDescription, number: int, spec: InputSpec, path: Path) -> tuple[Array, Array]:
    if why := _contradiction(layer):
        raise ModelError(
            "description-priors", why, context={"file": path, "key": f"heads.prior_box, number {number + 1}"}
        )
    picture = (spec.height, spec.width)
    step = layer.step or (picture[0] / layer.feature[0], picture[1] / layer.feature[1])
    sizes = box_sizes(layer.min_size, layer.max_size, layer.aspect_ratio, layer.flip)
    boxes = PriorGrid(layer.feature, picture, step, [(layer.offset, layer.offset)], sizes, layer.clip).boxes()
    variances = np.broadcast_to(np.array(layer.variance, dtype=np.float32), boxes.shape)
    return boxes, variances.copy()


def _contradiction(layer: PriorBoxDescription) -> str | None:
    if min(layer.feature) < 1 or min(layer.min_size) <= 0:
        return "feature and min_size must be positive"
    if layer.max_size and len(layer.max_size) != len(layer.min_size):
        return f"{len(layer.max_size)} max_size for {len(layer.min_size)} min_size"
    if any(large <= small for small, large in zip(layer.min_size, layer.max_size, strict=False)):
        return "max_size must be larger than its min_size"
    if min((*layer.aspect_ratio, *(layer.step or ()), *(layer.variance or ()))) <= 0:
        return "aspect_ratio, step and variance must be positive"
    return None


def _read_priors(described: HeadsDescription, source: Path, path: Path) -> tuple[Array, Array]:
    context = {"file": path, "key": "heads.priors", "priors": source}
    try:
        values: NDArray[np.generic] = np.lib.format.read_array(io.BytesIO(read_bytes(source)), allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as reason:
        raise ModelError("description-file", "the priors cannot be read", context=context, note=str(reason)) from None
    if values.dtype.kind != "f" or values.ndim != 2 or values.shape[1] not in (4, 8) or not len(values):
        message = f"priors must be [P, 4] or [P, 8] floats, but the file holds {list(values.shape)} of {values.dtype}"
        raise ModelError("description-priors", message, context=context)
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ModelError("description-priors", "the priors contain values that are not finite", context=context)
    boxes = numbers[:, :4]
    if described.priors_form == "centers":
        half = boxes[:, 2:] / 2
        boxes = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        row = int(np.argmin((boxes[:, 2:] > boxes[:, :2]).all(axis=1)))
        raise ModelError(
            "description-priors",
            f"prior {row} has no area: {boxes[row].tolist()}",
            context=context,
            hint='priors are xmin ymin xmax ymax, 0..1; set priors_form = "centers" for centre and size',
        )
    if values.shape[1] == 8 and "variance" in described.model_fields_set:
        raise ModelError(
            "description-priors",
            "the variances are given twice: in columns 5 to 8 of the priors and as heads.variance",
            context=context,
            hint="remove one of them",
        )
    variances = numbers[:, 4:]
    if not variances.size:
        variances = np.broadcast_to(np.array(described.variance, np.float32), boxes.shape)
    if (variances <= 0).any():
        raise ModelError("description-priors", "variances must be positive as numbers of 32 bits", context=context)
    return boxes, variances.copy()


def _mismatch(path: Path, tensor: gs.Variable, why: str) -> ModelError:
    return ModelError(
        "description-shape",
        f"{tensor.name} {tensor.shape} does not fit: {why}",
        context={"file": path, "tensor": tensor.name},
    )
