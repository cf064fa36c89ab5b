"""Writing a detector as Caffe with its SSD layers: one PriorBox per feature map, and DetectionOutput.

The heads are rewritten in the form of every Caffe SSD (Convolution, Permute, Flatten, Concat), whatever form the graph
has, so that kernels can follow the order in which PriorBox writes its boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import BoxCoding, Detector, InputSpec, Nms, SsdHeads
from deploycc.errors import ModelError, Note
from deploycc.exporters.caffe.caffemodel import write_caffemodel
from deploycc.exporters.caffe.head_layout import Activation, MapHead, lay_out
from deploycc.exporters.caffe.prior_boxes import NoPriorBox, PriorBox, find_prior_box, with_whole_sizes
from deploycc.exporters.caffe.prototxt import Enum, to_prototxt
from deploycc.exporters.caffe.writer import Writer, constant, refuse
from deploycc.files import replacing

_CODES = {"corner": "CORNER", "center_size": "CENTER_SIZE", "corner_size": "CORNER_SIZE"}
_SILENT = -20.0  # logit of a class that is never detected: sigmoid(-20) = 2e-9


@dataclass(frozen=True, eq=False)
class _Map:
    """A feature map and its PriorBox layer.

    Attributes:
        head: its predictors.
        box: the layer; its sizes are whole, because Caffe drops their fractions.
        variance: [4].
        factors, terms: [slots, 4] what each offset x y w h is multiplied by, and what is added, so that they mean the
            same box from the layer's boxes as they do from the priors.
    """

    head: MapHead
    box: PriorBox
    variance: NDArray[np.float32]
    factors: NDArray[np.float64]
    terms: NDArray[np.float64]


def save_with_detection(detector: Detector, prototxt: Path, caffemodel: Path) -> tuple[Note, ...]:
    """Write a detector so that Caffe's DetectionOutput gives the same detections.

    Args:
        detector: FP32, static shapes, batch 1, raw heads; graph in topological order. It is not changed.
        prototxt: file to write.
        caffemodel: file to write; both files are complete or neither exists.

    Returns:
        Notes on anchors that were reordered or added, and on the preparation of pictures.

    Raises:
        ModelError: ``caffe-cannot-express``: an operator, the layout of the heads or the priors, with the node.
        ArtefactError: ``file-unwritable``.
    """
    heads = detector.heads
    if heads is None:
        reason = "its detections are computed in the graph" if detector.detections else "it has no SSD heads"
        raise ModelError(
            "caffe-cannot-express",
            f"the network cannot be written with SSD layers: {reason}",
            hint="export the trained file, or describe its heads in MODEL.detector.toml",
        )
    graph = detector.graph
    map_heads, activation = lay_out(graph, heads)
    maps = [_with_boxes(head, heads, detector.input) for head in map_heads]
    writer = Writer(detector.extra_outputs)
    writer.layer("input", "Input", [], [detector.input.name], _input_parameters(detector.input))
    extra = [tensor for tensor in graph.outputs if tensor.name in detector.extra_outputs]
    for node in _trunk(graph, map_heads, extra):
        writer.node(node)
    tail = _Tail(writer, detector, activation)
    for number, feature_map in enumerate(maps):
        tail.add_map(feature_map, number)
    tail.finish()
    with replacing(prototxt) as text, replacing(caffemodel) as weights:
        body = to_prototxt({"name": detector.name, "layer": writer.layers})
        text.write_text(f"# {_preparation(detector.input)}\n{body}", encoding="utf-8")
        with weights.open("wb") as stream:
            write_caffemodel(stream, detector.name, writer.weights)
    return tuple(_notes(maps, detector.input))


def _with_boxes(head: MapHead, heads: SsdHeads, spec: InputSpec) -> _Map:
    rows, columns = head.cells
    boxes = heads.priors[head.priors].reshape(rows, columns, -1, 4)
    variances = heads.variances[head.priors].reshape(-1, 4)
    if (variances != variances[0]).any():
        refuse(head.scores, "the variances of its priors differ; a PriorBox layer has one set")
    try:
        box = find_prior_box(boxes, (spec.height, spec.width))
        whole = with_whole_sizes(box)
    except NoPriorBox as reason:
        refuse(head.scores, f"its priors do not fit PriorBox: {reason}")
    # Ones if offsets include their variances: OpenCV cannot read variance_encoded_in_target with PriorBox layers.
    variance = np.ones_like(variances[0]) if heads.variance_encoded else variances[0]
    return _Map(head, whole, variance, *_rebased(box, whole, heads.box_coding, variance))


def _rebased(
    box: PriorBox, whole: PriorBox, coding: BoxCoding, variance: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the factors and terms that turn offsets from one layer's boxes into offsets from the other's.

    The boxes have the same centres and the sizes s and s'. With t' the new offset and v its variance, DetectionOutput's
    formulas (bbox_util.cpp, DecodeBBox) give t' = t s / s' for a centre, t + ln(s / s') / v for a size, and for a
    corner t -+ (s - s') / 2v in shares of the picture (CORNER) or that over s' with t s / s' (CORNER_SIZE).
    """
    old, new = np.array(box.sizes()), np.array(whole.sizes())
    ratio, none = old / new, np.zeros_like(old)
    if coding == "center_size":
        factors, terms = np.hstack([ratio, none + 1]), np.hstack([none, np.log(ratio)])
    elif coding == "corner_size":
        half = (ratio - 1) / 2
        factors, terms = np.hstack([ratio, ratio]), np.hstack([-half, half])
    else:
        half = (old - new) / (2 * np.array(box.image[::-1]))
        factors, terms = np.ones((len(old), 4)), np.hstack([-half, half])
    return factors, terms / variance


def _trunk(graph: gs.Graph, maps: Sequence[MapHead], extra: Sequence[gs.Tensor]) -> list[gs.Node]:
    """Return the nodes before the predictors and those that lead to further outputs, in order."""
    queue = [*(node.inputs[0] for head in maps for node in (head.scores, head.locations)), *extra]
    needed: set[int] = set()
    while queue:
        for node in queue.pop().inputs:
            if id(node) not in needed:
                needed.add(id(node))
                queue += node.inputs
    return [node for node in graph.nodes if id(node) in needed]


class _Tail:
    """Writes the layers after the trunk."""

    def __init__(self, writer: Writer, detector: Detector, activation: Activation | None) -> None:
        assert detector.heads is not None
        self.writer, self.heads, self.nms = writer, detector.heads, detector.nms
        self.picture, self.activation = detector.input.name, activation
        self.parts: dict[str, list[str]] = {"loc": [], "conf": [], "priorbox": []}
        self._taken = {top for layer in writer.layers for top in layer["top"]}

    def name(self, stem: str) -> str:
        """Return an unused name for a blob."""
        while stem in self._taken:
            stem += "_"
        self._taken.add(stem)
        return stem

    def add_map(self, feature_map: _Map, number: int) -> None:
        """Write a PriorBox layer, and predictors in the order of its boxes."""
        stem = f"map{number + 1}_mbox"
        head, slots = feature_map.head, feature_map.box.slots
        quiet = self._silent(head) if None in slots else np.zeros(self.heads.classes)
        score_rows = _rows(head.score_kernels, slots)
        location_rows = _rows(head.location_kernels, slots)
        rebased = feature_map.factors.reshape(-1), feature_map.terms.reshape(-1)
        self._predict("loc", head.locations, location_rows, np.zeros(4), f"{stem}_loc", rebased)
        top = self._predict("conf", head.scores, score_rows, quiet, f"{stem}_conf")
        feature = head.scores.inputs[0]
        bottom = feature.name if tuple(feature.shape[2:]) == head.cells else top
        parameters = {"prior_box_param": _prior_box(feature_map)}
        prior_top = self.name(f"{stem}_priorbox")
        self.writer.layer(prior_top, "PriorBox", [bottom, self.picture], [prior_top], parameters)
        self.parts["priorbox"].append(prior_top)

    def _silent(self, head: MapHead) -> NDArray[np.float64]:
        """Return the biases of an anchor that is never detected."""
        background = self.heads.background
        if self.nms.score_threshold <= 1e-6 or (self.activation == "Softmax" and background is None):
            refuse(head.scores, "its anchors do not fit a PriorBox layer without spare ones, which would be detected")
        quiet = np.full(self.heads.classes, _SILENT)
        if background is not None:
            quiet[background] = 0.0
        return quiet

    def _predict(
        self,
        part: str,
        node: gs.Node,
        rows: NDArray[np.int64],
        spare: NDArray[np.float64],
        top: str,
        rebased: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ) -> str:
        """Write one predictor with its kernels in the order ``rows``, then Permute and Flatten; return its blob.

        A row of -1 is a kernel of zeros with the bias in ``spare``. ``rebased`` are a factor and a term for each row.
        """
        weight, bias = constant(node, 1), constant(node, 2)
        assert weight is not None
        kernels = len(weight)
        reordered = rows.tolist() != list(range(kernels))
        if reordered and node.attrs.get("group", 1) != 1:
            refuse(node, "it is a grouped convolution, whose kernels cannot be reordered")
        used = rows >= 0
        values = [np.where(used[:, None, None, None], weight[rows], 0)]
        moved = rebased is not None and bool((rebased[0] != 1).any() or (rebased[1] != 0).any())
        if bias is not None or not used.all() or moved:
            known = np.zeros(kernels) if bias is None else bias
            values.append(np.where(used, known[rows], np.tile(spare, len(rows) // len(spare))))
        if rebased is not None and moved:
            factors, terms = (
                np.where(used, numbers, neutral) for numbers, neutral in zip(rebased, (1, 0), strict=True)
            )
            values = [values[0] * factors[:, None, None, None], values[1] * factors + terms]
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
        """Concatenate the maps, activate the scores, and write DetectionOutput."""
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
        """Write the activation; Softmax needs an axis of classes."""
        if activation == "Sigmoid":
            top = self.name("mbox_conf_flatten")
            self.writer.layer(top, "Sigmoid", [source], [top])
            return top
        rows, soft, top = (self.name(f"mbox_conf_{suffix}") for suffix in ("reshape", "softmax", "flatten"))
        shape = {"shape": {"dim": [0, -1, self.heads.classes]}}
        self.writer.layer(rows, "Reshape", [source], [rows], {"reshape_param": shape})
        self.writer.layer(soft, "Softmax", [rows], [soft], {"softmax_param": {"axis": 2}})
        self.writer.layer(top, "Flatten", [soft], [top], {"flatten_param": {"axis": 1}})
        return top


def _rows(kernels: NDArray[np.int64], slots: Sequence[int | None]) -> NDArray[np.int64]:
    """Return the kernels slot by slot; -1 for those of spare slots."""
    width = kernels.shape[1]
    return np.concatenate([np.full(width, -1) if slot is None else kernels[slot] for slot in slots])


def _prior_box(feature_map: _Map) -> dict[str, Any]:
    box = feature_map.box
    parameters: dict[str, Any] = {"min_size": list(box.min_sizes)}
    parameters |= {"max_size": list(box.max_sizes), "aspect_ratio": list(box.ratios)}
    parameters |= {
        "flip": box.flip,
        "clip": box.clip,
        "variance": [float(str(value)) for value in feature_map.variance],
    }
    if box.step is not None:
        vertical, horizontal = box.step
        parameters |= {"step": vertical} if vertical == horizontal else {"step_h": vertical, "step_w": horizontal}
    return {**parameters, "offset": box.offset}


def _detection_output(heads: SsdHeads, nms: Nms) -> dict[str, Any]:
    """Return the parameters of DetectionOutput, without newer fields at their defaults."""
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
    for feature_map in maps:
        slots, node = feature_map.box.slots, str(feature_map.head.scores.name)
        spare = slots.count(None)
        if spare:
            reason = f"{spare} of {len(slots)} anchors are added with kernels of zeros: PriorBox cannot omit them"
            notes.append(Note(node, "caffe-spare-anchors", reason))
        if (feature_map.factors != 1).any() or (feature_map.terms != 0).any():
            reason = (
                "its box sizes are rounded to pixels, as Caffe reads them, and its kernels of locations make up for it"
            )
            notes.append(Note(node, "caffe-whole-sizes", reason))
        order = [slot for slot in slots if slot is not None]
        if order != sorted(order):
            notes.append(Note(node, "caffe-anchor-order", "its anchors are reordered to match PriorBox"))
    notes.append(Note(spec.name, "caffe-input", f"picture input: {_preparation(spec)}"))
    return notes
