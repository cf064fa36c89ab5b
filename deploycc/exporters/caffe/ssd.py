"""Writing a detector as Caffe with its SSD layers: PriorBox for each feature map, and DetectionOutput.

The heads are written anew as every SSD in Caffe has them (Convolution, Permute, Flatten, Concat), however the graph
spells them, so that kernels can be put into the order in which PriorBox lays out its boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import Detector, InputSpec, Nms, SsdHeads
from deploycc.errors import ModelError, Note
from deploycc.exporters.caffe.caffemodel import write_caffemodel
from deploycc.exporters.caffe.head_layout import Activation, MapHead, lay_out
from deploycc.exporters.caffe.prior_boxes import NoPriorBox, PriorBox, find_prior_box
from deploycc.exporters.caffe.prototxt import Enum, to_prototxt
from deploycc.exporters.caffe.writer import Writer, constant, refuse
from deploycc.files import replacing

_CODES = {"corner": "CORNER", "center_size": "CENTER_SIZE", "corner_size": "CORNER_SIZE"}
_SILENT = -20.0  # logit of a class that is never found: sigmoid(-20) = 2e-9


@dataclass(frozen=True, eq=False)
class _Map:
    """A feature map and the layer that lays out its boxes."""

    head: MapHead
    box: PriorBox
    variance: NDArray[np.float32]


def save_with_detection(detector: Detector, prototxt: Path, caffemodel: Path) -> tuple[Note, ...]:
    """Write a detector so that Caffe's DetectionOutput finds what it finds.

    Args:
        detector: FP32, static shapes, batch 1, raw heads; graph in topological order. It stays as it is.
        prototxt: file to write.
        caffemodel: file to write; both are complete or neither exists.

    Returns:
        What the user should know: anchors that were reordered or added, and how pictures are prepared.

    Raises:
        ModelError: ``caffe-cannot-express``: an operator, the layout of the heads or the priors, with the place.
        ArtefactError: ``file-unwritable``.
    """
    heads = detector.heads
    if heads is None:
        why = "its detections are computed in the graph" if detector.detections else "it has no SSD heads"
        raise ModelError(
            "caffe-cannot-express",
            f"the network cannot be written with SSD layers: {why}",
            hint="export the trained file, or describe its heads in MODEL.detector.toml",
        )
    graph = detector.graph
    found, activation = lay_out(graph, heads)
    maps = [_with_boxes(each, heads, detector.input) for each in found]
    writer = Writer()
    writer.layer("input", "Input", [], [detector.input.name], _input_parameters(detector.input))
    for node in _trunk(graph, found):
        writer.node(node)
    tail = _Tail(writer, detector, activation)
    for number, each in enumerate(maps):
        tail.add_map(each, number)
    tail.finish()
    with replacing(prototxt) as text, replacing(caffemodel) as weights:
        body = to_prototxt({"name": detector.name, "layer": writer.layers})
        text.write_text(f"# {_preparation(detector.input)}\n{body}", encoding="utf-8")
        with weights.open("wb") as stream:
            write_caffemodel(stream, detector.name, writer.weights)
    return tuple(_notes(maps, detector.input))


def _with_boxes(each: MapHead, heads: SsdHeads, spec: InputSpec) -> _Map:
    rows, columns = each.cells
    boxes = heads.priors[each.priors].reshape(rows, columns, -1, 4)
    variances = heads.variances[each.priors].reshape(-1, 4)
    if (variances != variances[0]).any():
        refuse(each.scores, "the variances of its priors differ, and a PriorBox layer has one set")
    try:
        box = find_prior_box(boxes, (spec.height, spec.width))
    except NoPriorBox as reason:
        refuse(each.scores, f"of the priors that it scores, {reason}")
    # Offsets that hold their variances already: OpenCV cannot read variance_encoded_in_target with PriorBox layers.
    return _Map(each, box, np.ones_like(variances[0]) if heads.variance_encoded else variances[0])


def _trunk(graph: gs.Graph, maps: Sequence[MapHead]) -> list[gs.Node]:
    """The nodes before the predictors, in order."""
    queue = [node.inputs[0] for each in maps for node in (each.scores, each.locations)]
    needed: set[int] = set()
    while queue:
        for node in queue.pop().inputs:
            if id(node) not in needed:
                needed.add(id(node))
                queue += node.inputs
    return [node for node in graph.nodes if id(node) in needed]


class _Tail:
    """The layers behind the trunk."""

    def __init__(self, writer: Writer, detector: Detector, activation: Activation | None) -> None:
        assert detector.heads is not None
        self.writer, self.heads, self.nms = writer, detector.heads, detector.nms
        self.picture, self.activation = detector.input.name, activation
        self.parts: dict[str, list[str]] = {"loc": [], "conf": [], "priorbox": []}
        self._taken = {top for layer in writer.layers for top in layer["top"]}

    def name(self, stem: str) -> str:
        """A name for a blob that is not there yet."""
        while stem in self._taken:
            stem += "_"
        self._taken.add(stem)
        return stem

    def add_map(self, each: _Map, number: int) -> None:
        """Predictors in the order of the layer's boxes, and the layer."""
        stem = f"map{number + 1}_mbox"
        head, slots = each.head, each.box.slots
        quiet = self._silent(head) if None in slots else np.zeros(self.heads.classes)
        score_rows = _rows(head.score_kernels, slots)
        self._predict("loc", head.locations, _rows(head.location_kernels, slots), np.zeros(4), f"{stem}_loc")
        top = self._predict("conf", head.scores, score_rows, quiet, f"{stem}_conf")
        feature = head.scores.inputs[0]
        bottom = feature.name if tuple(feature.shape[2:]) == head.cells else top
        parameters = {"prior_box_param": _prior_box(each)}
        prior_top = self.name(f"{stem}_priorbox")
        self.writer.layer(prior_top, "PriorBox", [bottom, self.picture], [prior_top], parameters)
        self.parts["priorbox"].append(prior_top)

    def _silent(self, head: MapHead) -> NDArray[np.float64]:
        """Biases of an anchor that is never found."""
        background = self.heads.background
        if self.nms.score_threshold <= 1e-6 or (self.activation == "Softmax" and background is None):
            refuse(head.scores, "its anchors are not those of a PriorBox layer, and every box would be found")
        quiet = np.full(self.heads.classes, _SILENT)
        if background is not None:
            quiet[background] = 0.0
        return quiet

    def _predict(self, part: str, node: gs.Node, rows: NDArray[np.int64], spare: NDArray[np.float64], top: str) -> str:
        """Write one predictor with its kernels in the order ``rows``, and its layout; return its blob.

        Kernels of -1 are zeros with the biases ``spare``.
        """
        weight, bias = constant(node, 1), constant(node, 2)
        assert weight is not None
        kernels = len(weight)
        reordered = rows.tolist() != list(range(kernels))
        if reordered and node.attrs.get("group", 1) != 1:
            refuse(node, "it is a grouped convolution, whose kernels cannot be put into another order")
        used = rows >= 0
        values = [np.where(used[:, None, None, None], weight[rows], 0)]
        if bias is not None or not used.all():
            known = np.zeros(kernels) if bias is None else bias
            values.append(np.where(used, known[rows], np.tile(spare, len(rows) // len(spare))))
        blob = self.name(top)
        inputs = [gs.Constant(f"{blob}/{index}", array.astype(np.float32)) for index, array in enumerate(values)]
        copy = gs.Node("Conv", top, dict(node.attrs), [node.inputs[0], *inputs], [gs.Variable(blob, np.float32)])
        self.writer.node(copy)
        turned, flat = self.name(f"{top}_perm"), self.name(f"{top}_flat")
        self.writer.layer(turned, "Permute", [blob], [turned], {"permute_param": {"order": [0, 2, 3, 1]}})
        self.writer.layer(flat, "Flatten", [turned], [flat], {"flatten_param": {"axis": 1}})
        self.parts[part].append(flat)
        return blob

    def finish(self) -> None:
        """Join the maps, activate the scores, and say how boxes are decoded and suppressed."""
        tops = {part: self._join(part, tops) for part, tops in self.parts.items()}
        conf = tops["conf"]
        if self.activation is not None:
            conf = self._activate(self.activation, conf)
        out = self.name("detection_out")
        parameters = {"detection_output_param": _detection_output(self.heads, self.nms)}
        self.writer.layer(out, "DetectionOutput", [tops["loc"], conf, tops["priorbox"]], [out], parameters)

    def _join(self, part: str, bottoms: list[str]) -> str:
        top = self.name(f"mbox_{part}")
        axis = 2 if part == "priorbox" else 1
        self.writer.layer(top, "Concat", bottoms, [top], {"concat_param": {"axis": axis}})
        return top

    def _activate(self, activation: Activation, source: str) -> str:
        """Softmax runs over the classes of each prior, which needs an axis of their own."""
        if activation == "Sigmoid":
            top = self.name("mbox_conf_flatten")
            self.writer.layer(top, "Sigmoid", [source], [top])
            return top
        rows, soft, top = (self.name(f"mbox_conf_{what}") for what in ("reshape", "softmax", "flatten"))
        shape = {"shape": {"dim": [0, -1, self.heads.classes]}}
        self.writer.layer(rows, "Reshape", [source], [rows], {"reshape_param": shape})
        self.writer.layer(soft, "Softmax", [rows], [soft], {"softmax_param": {"axis": 2}})
        self.writer.layer(top, "Flatten", [soft], [top], {"flatten_param": {"axis": 1}})
        return top


def _rows(kernels: NDArray[np.int64], slots: Sequence[int | None]) -> NDArray[np.int64]:
    """Kernels slot after slot; -1 for those of spare slots."""
    width = kernels.shape[1]
    return np.concatenate([np.full(width, -1) if slot is None else kernels[slot] for slot in slots])


def _prior_box(each: _Map) -> dict[str, Any]:
    box = each.box
    parameters: dict[str, Any] = {"min_size": list(box.min_sizes)}
    parameters |= {"max_size": list(box.max_sizes), "aspect_ratio": list(box.ratios)}
    parameters |= {"flip": box.flip, "clip": box.clip, "variance": [float(str(value)) for value in each.variance]}
    if box.step is not None:
        vertical, horizontal = box.step
        parameters |= {"step": vertical} if vertical == horizontal else {"step_h": vertical, "step_w": horizontal}
    return {**parameters, "offset": box.offset}


def _detection_output(heads: SsdHeads, nms: Nms) -> dict[str, Any]:
    """What is Caffe's default and newer than its fields is left out."""
    suppression: dict[str, Any] = {"nms_threshold": float(nms.iou_threshold)}
    if nms.top_k >= 0:
        suppression["top_k"] = nms.top_k
    parameters: dict[str, Any] = {
        "num_classes": heads.classes,
        "share_location": True,
        "background_label_id": -1 if heads.background is None else heads.background,
        "nms_param": suppression,
        "code_type": Enum(_CODES[heads.box_coding]),
        "keep_top_k": nms.keep_top_k,
        "confidence_threshold": float(nms.score_threshold),
    }
    return {**parameters, "clip": True} if heads.clip else parameters


def _input_parameters(spec: InputSpec) -> dict[str, Any]:
    parameters: dict[str, Any] = {"input_param": {"shape": {"dim": list(spec.shape)}}}
    if len(set(spec.scale)) == 1 and not spec.assumed:
        mean = list(spec.mean) if len(set(spec.mean)) > 1 else [spec.mean[0]]
        parameters["transform_param"] = {"scale": float(spec.scale[0]), "mean_value": [float(value) for value in mean]}
    return parameters


def _preparation(spec: InputSpec) -> str:
    mean, scale = (
        ",".join(f"{value:g}" for value in (values if len(set(values)) > 1 else values[:1]))
        for values in (spec.mean, spec.scale)
    )
    prepared = f"{spec.width}x{spec.height} {spec.colour}, (pixel - {mean}) * {scale}"
    return f"{prepared}; assumed: the trained file does not say" if spec.assumed else prepared


def _notes(maps: Sequence[_Map], spec: InputSpec) -> list[Note]:
    notes = []
    for each in maps:
        slots, node = each.box.slots, str(each.head.scores.name)
        spare = slots.count(None)
        if spare:
            reason = f"{spare} of {len(slots)} anchors are added with kernels of zeros: PriorBox cannot leave them out"
            notes.append(Note(node, "caffe-spare-anchors", reason))
        order = [slot for slot in slots if slot is not None]
        if order != sorted(order):
            notes.append(Note(node, "caffe-anchor-order", "its anchors are put into the order of PriorBox"))
    notes.append(Note(spec.name, "caffe-input", f"pictures are fed as {_preparation(spec)}"))
    return notes
