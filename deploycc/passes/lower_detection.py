"""Lowering box decoding and suppression to the host or to operators at the end of the graph.

Every lowering numbers classes like the network's scores, background included, and orders detections by score; equal
scores by class, then by prior, as far as the operator specifies it. Nodes that the pass adds are named
``detection/...``.

    raw            heads                                                        (host: `deploycc.evaluation`)
    onnx-nms       heads -> decode -> TopK per class -> NonMaxSuppression -> TopK over classes
    efficient-nms  heads -> decode -> EfficientNMS_TRT
    nms-plugin     heads -> NMS_TRT (decodes too)

The attributes and semantics of the two plugins are those of NVIDIA/TensorRT ``plugin/efficientNMSPlugin`` and
``plugin/nmsPlugin`` (with ``plugin/common/kernels``), releases 8.0 to 10.16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import ArrayLike, DTypeLike

from deploycc.detector import DetectionOutputs, Detector, Nms, SsdHeads
from deploycc.errors import Note
from deploycc.graph.edit import producer
from deploycc.passes.options import Options
from deploycc.passes.runner import Result

_NMS_OPSET = 13  # TopK, NonMaxSuppression and Min are written as in this operator set
_PLUGIN_DOMAIN = "TRT"  # TensorRT's parser matches the operator's name; checkers skip unknown domains
_MOVES = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Gather", "Slice", "Split")
_NEVER_NEGATIVE = ("Softmax", "Sigmoid", "HardSigmoid", "Relu")
_EFFICIENT_NMS_BOXES = 4096  # candidates over all classes, EfficientNMSParameters::numSelectedBoxes
_NMS_PLUGIN_TOP_K = 4096  # allClassNMS: eight tiles of 512 threads
_NMS_PLUGIN_CODES = {"corner": 0, "center_size": 1, "corner_size": 2}  # NvInferPlugin.h, CodeTypeSSD


def lower_detection(detector: Detector, options: Options) -> Result:
    """Lower the detector's heads to ``options.detection``.

    Before: the graph's outputs are the heads. After: they are the tensors of `Detector.detections`, and `heads` is
    None; further outputs stay. A detector without heads or classes, or with an operator set too old for the lowering,
    is not changed and gets a note.
    """
    if detector.detections is not None:
        return Result(detector, changed=False)
    heads = detector.heads
    if heads is None:
        note = Note("", "opaque", "no SSD heads were recognised: the outputs are not decoded")
        return Result(detector, changed=False, notes=(note,))
    if options.detection == "raw":
        return Result(detector, changed=False)
    if not _foreground(heads):
        note = Note(heads.scores, "detection-raw", "the only class is the background: there is nothing to suppress")
        return Result(detector, changed=False, notes=(note,))
    if options.detection == "onnx-nms" and detector.graph.opset < _NMS_OPSET:
        reason = f"the network's operator set is {detector.graph.opset}; in-graph suppression needs {_NMS_OPSET}"
        return Result(detector, changed=False, notes=(Note("", "detection-raw", f"{reason}: the host decodes"),))
    if reason := _unfit(detector, heads, options.detection):
        note = Note(heads.scores, "detection-raw", f"{reason}: the host decodes")
        return Result(detector, changed=False, notes=(note,))

    tail = _Tail(detector.graph)
    lower = {"onnx-nms": _onnx_nms, "efficient-nms": _efficient_nms, "nms-plugin": _nms_plugin}[options.detection]
    outputs, described, notes = lower(tail, heads, detector.nms)
    extra = [tensor for tensor in detector.graph.outputs if tensor.name in detector.extra_outputs]
    detector.graph.outputs = [*outputs, *extra]
    detector.graph.cleanup()
    return Result(replace(detector, heads=None, detections=described), changed=True, notes=tuple(notes))


def _unfit(detector: Detector, heads: SsdHeads, how: str) -> str:
    """Return why nodes at the end of the graph would not find what the host finds; empty if they do.

    EfficientNMS_TRT validates its fields from TensorRT 8.5 on (efficientNMSPlugin.cpp, createPlugin): a score threshold
    of 0 or more, an IoU threshold above 0, and at least one box.
    """
    nms = detector.nms
    if 0 in (nms.top_k, nms.keep_top_k):
        return (
            f"it keeps no detections (top_k {nms.top_k}, keep_top_k {nms.keep_top_k}), and no plugin has empty outputs"
        )
    if how != "efficient-nms":
        return ""
    if nms.iou_threshold < 0:
        return f"its IoU threshold is {nms.iou_threshold:g}, and EfficientNMS_TRT needs one above 0"
    if nms.score_threshold < 0 and not _never_negative(detector.graph.tensors()[heads.scores]):
        return (
            f"its score threshold is {nms.score_threshold:g}, its scores may be negative, and EfficientNMS_TRT needs a"
            " threshold of 0 or more"
        )
    return ""


def _never_negative(tensor: gs.Tensor) -> bool:
    """Return whether a tensor holds only outputs of activations that are never negative."""
    maker = producer(tensor)
    if maker is None:
        return False
    if maker.op in _MOVES:
        sources = maker.inputs if maker.op == "Concat" else maker.inputs[:1]
        return all(_never_negative(source) for source in sources)
    return maker.op in _NEVER_NEGATIVE


_Lowered = tuple[list[gs.Variable], DetectionOutputs, list[Note]]


class _Tail:
    """Appends nodes to a graph."""

    def __init__(self, graph: gs.Graph) -> None:
        self.graph = graph
        self._tensors = graph.tensors()
        self._names = {*self._tensors, *(node.name for node in graph.nodes)}

    def tensor(self, name: str) -> gs.Tensor:
        """Return an existing tensor."""
        return self._tensors[name]

    def constant(self, name: str, values: ArrayLike, dtype: DTypeLike = np.float32) -> gs.Constant:
        """Make a constant."""
        return gs.Constant(self._unused(f"detection/{name}"), np.array(values, dtype, order="C"))

    def output(self, name: str, shape: Sequence[int | str], dtype: DTypeLike) -> gs.Variable:
        """Make a tensor with exactly this name if it is unused, as for a graph output."""
        return gs.Variable(self._unused(name), np.dtype(dtype).type, list(shape))

    def add(
        self,
        op: str,
        name: str,
        inputs: Sequence[gs.Tensor],
        shape: Sequence[int | str],
        *,
        dtype: DTypeLike = np.float32,
        to: gs.Variable | None = None,
        **attrs: object,
    ) -> gs.Variable:
        """Append a node with one output of this shape and type; ``to`` makes it write an existing tensor."""
        result = to or self.output(f"detection/{name}/out", shape, dtype)
        self.plugin(op, name, inputs, [result], attrs, domain=None)
        return result

    def plugin(
        self,
        op: str,
        name: str,
        inputs: Sequence[gs.Tensor],
        outputs: Sequence[gs.Variable],
        attrs: dict[str, object],
        *,
        domain: str | None = _PLUGIN_DOMAIN,
    ) -> None:
        """Append a node with any number of outputs."""
        node_name = self._unused(f"detection/{name}")
        self.graph.nodes.append(gs.Node(op, node_name, attrs, list(inputs), list(outputs), domain=domain))

    def reshape(self, name: str, data: gs.Tensor, shape: Sequence[int]) -> gs.Tensor:
        """Return ``data`` in a static shape, unchanged if it already has it."""
        if list(data.shape or ()) == list(shape):
            return data
        return self.add("Reshape", name, [data, self.constant(f"{name}/shape", shape, np.int64)], shape)

    def gather(
        self,
        name: str,
        data: gs.Tensor,
        indices: gs.Tensor | Sequence[int] | int,
        shape: Sequence[int | str],
        *,
        axis: int = 0,
        dtype: DTypeLike = np.float32,
        to: gs.Variable | None = None,
    ) -> gs.Variable:
        """Append a Gather; a single index drops the axis."""
        if not isinstance(indices, gs.Tensor):
            indices = self.constant(f"{name}/indices", indices, np.int64)
        return self.add("Gather", name, [data, indices], shape, dtype=dtype, to=to, axis=axis)

    def _unused(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name


def _decode(tail: _Tail, heads: SsdHeads) -> gs.Variable:
    """Append decoding to corners [1, P, 4]: the operations of `deploycc.evaluation.decode.decode_boxes`, in order."""
    count = len(heads.priors)
    x_first = [1, 0, 3, 2] if heads.y_first else [0, 1, 2, 3]  # positions of x, y, w, h among the offsets
    boxes = tail.reshape("offsets", tail.tensor(heads.locations), [1, count, 4])
    if not heads.variance_encoded:
        variances = tail.constant("variances", heads.variances[None][:, :, x_first])  # a swap is its own inverse
        boxes = tail.add("Mul", "scale_offsets", [boxes, variances], [1, count, 4])
    priors = heads.priors.astype(np.float32)
    size = priors[:, 2:] - priors[:, :2]
    if heads.box_coding == "center_size":
        shift = tail.gather("shift", boxes, x_first[:2], [1, count, 2], axis=2)
        growth = tail.gather("growth", boxes, x_first[2:], [1, count, 2], axis=2)
        prior_size = tail.constant("prior_size", size[None])
        prior_centre = tail.constant("prior_centre", (priors[None, :, :2] + priors[None, :, 2:]) / 2)
        moved = tail.add("Mul", "move", [shift, prior_size], [1, count, 2])
        centre = tail.add("Add", "centre", [moved, prior_centre], [1, count, 2])
        grown = tail.add("Exp", "grow", [growth], [1, count, 2])
        half = tail.add("Mul", "half", [grown, tail.constant("prior_half", size[None] / 2)], [1, count, 2])
        low = tail.add("Sub", "low", [centre, half], [1, count, 2])
        high = tail.add("Add", "high", [centre, half], [1, count, 2])
        boxes = tail.add("Concat", "corners", [low, high], [1, count, 4], axis=2)
    else:
        if heads.y_first:
            boxes = tail.gather("x_first", boxes, x_first, [1, count, 4], axis=2)
        if heads.box_coding == "corner_size":
            sides = tail.constant("prior_sides", np.concatenate([size, size], axis=1)[None])
            boxes = tail.add("Mul", "move", [boxes, sides], [1, count, 4])
        boxes = tail.add("Add", "corners", [tail.constant("priors", priors[None]), boxes], [1, count, 4])
    if heads.clip:  # Min and Max, because Clip differs between operator sets
        inside = tail.add("Min", "clip_high", [boxes, tail.constant("one", [1])], [1, count, 4])
        boxes = tail.add("Max", "clip_low", [inside, tail.constant("zero", [0])], [1, count, 4])
    return boxes


def _upright(tail: _Tail, heads: SsdHeads, boxes: gs.Variable, shape: Sequence[int]) -> gs.Variable:
    """Append a fix of boxes with reversed sides: Caffe gives them no area, while the operators would swap the sides.

    Only corner codings can reverse a box.
    """
    if heads.box_coding == "center_size":
        return boxes
    half = [*shape[:-1], 2]
    low = tail.gather("low_corner", boxes, [0, 1], half, axis=len(shape) - 1)
    high = tail.gather("high_corner", boxes, [2, 3], half, axis=len(shape) - 1)
    ordered = tail.add("Max", "ordered", [low, high], half)
    return tail.add("Concat", "upright", [low, ordered], shape, axis=len(shape) - 1)


def _foreground(heads: SsdHeads) -> list[int]:
    return [label for label in range(heads.classes) if label != heads.background]


def _limit(limit: int, everything: int) -> int:
    """Return a limit of the suppression; a negative one means none."""
    return everything if limit < 0 else min(limit, everything)


def _onnx_nms(tail: _Tail, heads: SsdHeads, nms: Nms) -> _Lowered:
    """Append NonMaxSuppression with Caffe's limits.

    The operator limits a class only after suppression, so a TopK cuts to top_k before it. Each class then has boxes of
    its own and is passed as one picture of a batch. TopK and NonMaxSuppression both prefer the lower index among equal
    scores: the order of the priors, then of the classes.
    """
    count, labels = len(heads.priors), _foreground(heads)
    decoded = _decode(tail, heads)
    scores = tail.reshape("scores", tail.tensor(heads.scores), [count, heads.classes])
    scores = tail.add("Transpose", "by_class", [scores], [heads.classes, count], perm=[1, 0])
    scores = tail.gather("foreground", scores, labels, [len(labels), count])
    kept = _limit(nms.top_k, count)
    if kept < count:
        best = tail.output("detection/top_k/scores", [len(labels), kept], np.float32)
        priors = tail.output("detection/top_k/priors", [len(labels), kept], np.int64)
        limit = tail.constant("top_k/limit", [kept], np.int64)
        tail.plugin("TopK", "top_k", [scores, limit], [best, priors], {"axis": 1}, domain=None)
        flat_boxes = tail.reshape("boxes", decoded, [count, 4])
        candidates = tail.gather("candidates", flat_boxes, priors, [len(labels), kept, 4])
        boxes, scores = candidates, tail.reshape("best", best, [len(labels), 1, kept])
        shape, label_column = [len(labels), kept, 4], 0
    else:
        boxes, scores = decoded, tail.reshape("all", scores, [1, len(labels), count])
        shape, label_column = [1, count, 4], 1

    inputs = [_upright(tail, heads, boxes, shape), scores]
    inputs.append(tail.constant("max_per_class", [kept], np.int64))
    inputs.append(tail.constant("iou_threshold", [nms.iou_threshold]))
    inputs.append(tail.constant("score_threshold", [nms.score_threshold]))
    chosen = tail.add("NonMaxSuppression", "suppress", inputs, ["kept", 3], dtype=np.int64)

    label = tail.gather("label", chosen, label_column, ["kept"], axis=1, dtype=np.int64)
    position = tail.gather("position", chosen, 2, ["kept"], axis=1, dtype=np.int64)
    row = tail.add("Mul", "row", [label, tail.constant("width", [kept], np.int64)], ["kept"], dtype=np.int64)
    entry = tail.add("Add", "entry", [row, position], ["kept"], dtype=np.int64)
    found = tail.gather("found", tail.reshape("score_list", scores, [len(labels) * kept]), entry, ["kept"])
    amount = tail.add("Shape", "amount", [found], [1], dtype=np.int64)
    if nms.keep_top_k >= 0:
        most = tail.constant("keep_top_k", [nms.keep_top_k], np.int64)
        amount = tail.add("Min", "keep", [amount, most], [1], dtype=np.int64)

    out_scores = tail.output("detection_scores", ["detections"], np.float32)
    out_boxes = tail.output("detection_boxes", ["detections", 4], np.float32)
    out_classes = tail.output("detection_classes", ["detections"], np.int64)
    order = tail.output("detection/order", ["detections"], np.int64)
    tail.plugin("TopK", "best_of_all", [found, amount], [out_scores, order], {"axis": 0}, domain=None)
    box_of = position if label_column else entry  # boxes are shared by all classes, or listed by class
    box_row = tail.gather("box_row", box_of, order, ["detections"], dtype=np.int64)
    box_list = tail.reshape("box_list", boxes, [shape[0] * shape[1], 4])
    tail.gather("detection_boxes", box_list, box_row, ["detections", 4], to=out_boxes)
    ordinal = tail.gather("ordinal", label, order, ["detections"], dtype=np.int64)
    tail.gather("detection_classes", tail.constant("labels", labels, np.int64), ordinal, ["detections"], to=out_classes)
    described = DetectionOutputs(out_boxes.name, out_scores.name, out_classes.name)
    return [out_boxes, out_scores, out_classes], described, []


def _efficient_nms(tail: _Tail, heads: SsdHeads, nms: Nms) -> _Lowered:
    """Append EfficientNMS_TRT on decoded corners: the plugin's own decoder does not support variances.

    The plugin keeps scores equal to its threshold and drops boxes equal to its IoU threshold; Caffe does so only above.
    The next larger float32 as threshold makes both agree.
    """
    count, labels = len(heads.priors), _foreground(heads)
    corners = _upright(tail, heads, _decode(tail, heads), [1, count, 4])
    scores = tail.reshape("scores", tail.tensor(heads.scores), [1, count, heads.classes])
    most = min(_limit(nms.keep_top_k, count * len(labels)), _EFFICIENT_NMS_BOXES)
    outputs = [
        tail.output("num_detections", [1, 1], np.int32),
        tail.output("detection_boxes", [1, most, 4], np.float32),
        tail.output("detection_scores", [1, most], np.float32),
        tail.output("detection_classes", [1, most], np.int32),
    ]
    attrs: dict[str, object] = {
        "plugin_version": "1",
        "score_threshold": max(0.0, _just_above(nms.score_threshold)),
        "iou_threshold": _just_above(nms.iou_threshold),
        "max_output_boxes": most,
        "background_class": -1 if heads.background is None else heads.background,
        "score_activation": 0,
        "box_coding": 0,
    }
    tail.plugin("EfficientNMS_TRT", "suppress", [corners, scores], outputs, attrs)
    amount, boxes, found, classes = (tensor.name for tensor in outputs)
    notes = []
    if _limit(nms.top_k, count) < count or count * len(labels) > _EFFICIENT_NMS_BOXES:
        reason = (
            f"EfficientNMS_TRT takes the {_EFFICIENT_NMS_BOXES} best candidates over all classes; the network was "
            f"trained with {nms.top_k} per class: low-scored detections may differ"
        )
        notes.append(Note("detection/suppress", "detection-limits", reason))
    return outputs, DetectionOutputs(boxes, found, classes, amount), notes


def _just_above(threshold: float) -> float:
    return float(np.nextafter(np.float32(threshold), np.float32(np.inf)))


def _nms_plugin(tail: _Tail, heads: SsdHeads, nms: Nms) -> _Lowered:
    """Append NMS_TRT, TensorRT's DetectionOutput, which takes offsets and priors and decodes them itself."""
    count = len(heads.priors)
    offsets = tail.tensor(heads.locations)
    if heads.y_first:
        offsets = tail.reshape("offsets", offsets, [1, count, 4])
        offsets = tail.gather("x_first", offsets, [1, 0, 3, 2], [1, count, 4], axis=2)
    offsets = tail.reshape("offset_list", offsets, [1, count * 4, 1, 1])
    scores = tail.reshape("score_list", tail.tensor(heads.scores), [1, count * heads.classes, 1, 1])
    priors = np.stack([heads.priors.reshape(-1), heads.variances.reshape(-1)]).astype(np.float32)
    top_k = min(_limit(nms.top_k, count), _NMS_PLUGIN_TOP_K)
    keep_top_k = _limit(nms.keep_top_k, top_k)  # asked to keep more than top_k, the plugin writes nothing
    outputs = [
        tail.output("detections", [1, 1, keep_top_k, 7], np.float32),
        tail.output("detection_count", [1, 1, 1, 1], np.float32),
    ]
    attrs: dict[str, object] = {
        "plugin_version": "1",
        "shareLocation": 1,
        "varianceEncodedInTarget": int(heads.variance_encoded),
        "backgroundLabelId": -1 if heads.background is None else heads.background,
        "numClasses": heads.classes,
        "topK": top_k,
        "keepTopK": keep_top_k,
        "confidenceThreshold": float(nms.score_threshold),
        "nmsThreshold": float(nms.iou_threshold),
        "inputOrder": [0, 1, 2],
        "confSigmoid": 0,
        "isNormalized": 1,
        "codeType": _NMS_PLUGIN_CODES[heads.box_coding],
    }
    prior_data = tail.constant("prior_data", priors.reshape(1, 2, count * 4, 1))
    tail.plugin("NMS_TRT", "suppress", [offsets, scores, prior_data], outputs, attrs)
    notes = [
        Note("detection/suppress", "detection-clipped", "NMS_TRT clips boxes to the picture, after suppression"),
        Note(
            "detection/suppress",
            "detection-unproven",
            "NMS_TRT was written for networks with an implicit batch; no device has confirmed it with an ONNX parser",
        ),
    ]
    if keep_top_k < _limit(nms.keep_top_k, count * len(_foreground(heads))) or top_k < _limit(nms.top_k, count):
        reason = f"NMS_TRT keeps at most topK ({top_k}) detections; asked for {nms.keep_top_k} of {nms.top_k} per class"
        notes.append(Note("detection/suppress", "detection-limits", reason))
    # The count is an integer's bits in a float tensor; unused rows are recognised by their class -1 instead.
    name = outputs[0].name
    return [outputs[0]], DetectionOutputs(name, name, name, layout="rows"), notes
