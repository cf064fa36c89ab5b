"""DetectionOutput: adds no nodes, but describes the heads and the suppression."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.detector import BoxCoding, Nms, SsdHeads
from deploycc.importers.caffe.layer import Decoding, Emitted, Layer, emits
from deploycc.importers.caffe.layers_convolution import positive

_CODINGS: dict[str, BoxCoding] = {"CORNER": "corner", "CENTER_SIZE": "center_size", "CORNER_SIZE": "corner_size"}
_KEEP_ALL = -1


@emits(
    "DetectionOutput",
    param="detection_output_param",
    fields="num_classes share_location background_label_id nms_param code_type variance_encoded_in_target keep_top_k "
    "confidence_threshold clip normalized_bbox",
    ignored="save_output_param visualize visualize_threshold save_file",
    bottoms=(3, 4),
    tops=(1, 2),
)
def detection_output(layer: Layer) -> Emitted:
    """Record locations, scores and priors; nothing is computed in the graph."""
    param, network = layer.param, layer.network
    if network.decoding is not None:
        raise layer.error("caffe-unsupported-layer", "the network has more than one DetectionOutput")
    if len(layer.inputs) == 4 and layer.inputs[3] is not network.picture:
        raise layer.unsupported("a fourth input", "detectors that refine boxes in two stages are not supported")
    if not param.flag("share_location", True):
        raise layer.unsupported("share_location false", "every class would have its own boxes")
    if not param.flag("normalized_bbox", True):
        raise layer.unsupported("normalized_bbox false", "priors must be fractions of the picture")
    nms = param.message("nms_param")
    if nms.number("eta", 1.0) != 1.0:
        raise layer.unsupported(f"eta {nms.number('eta'):g}", "the overlap threshold would change with every box")
    for name, line in nms.unread():
        if name not in ("nms_threshold", "top_k"):
            raise layer.unsupported(f"nms_param {name} (line {line})")
    overlap = nms.number("nms_threshold", 0.3)
    if overlap < 0:
        raise layer.error("caffe-wrong-value", f"nms_threshold is {overlap:g}, but must not be negative")
    classes = positive(layer, "num_classes")
    background = param.integer("background_label_id", 0)
    coding = param.choice("code_type", {"CORNER": 1, "CENTER_SIZE": 2, "CORNER_SIZE": 3}, "CORNER")
    priors, variances = _priors(layer)
    _check_sizes(layer, len(priors), classes)
    locations, scores = layer.definition.bottoms[:2]
    # A second top counts the detections (keep_count of TensorRT's sampleSSD).
    shapes = ([1, 1, None, 7], [1, 1, 1, 1])
    tops = tuple(gs.Variable(n, np.float32, shape) for n, shape in zip(layer.definition.tops, shapes, strict=False))
    network.decoding = Decoding(
        locations=locations,
        scores=scores,
        heads=SsdHeads(
            locations=locations,
            scores=scores,
            priors=priors,
            variances=variances,
            classes=classes,
            background=background if 0 <= background < classes else None,  # as Caffe: another label skips no class
            box_coding=_CODINGS[coding],
            variance_encoded=param.flag("variance_encoded_in_target"),
            clip=param.flag("clip"),
        ),
        nms=Nms(
            # Caffe's default keeps every box: the lowest float32.
            score_threshold=param.number("confidence_threshold", float(np.finfo(np.float32).min)),
            iou_threshold=min(overlap, 1.0),  # no overlap is larger
            top_k=nms.integer("top_k", _KEEP_ALL),
            keep_top_k=param.integer("keep_top_k", _KEEP_ALL),
        ),
        tops=tops,
    )
    return tops


def _priors(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    blob, tensor = layer.definition.bottoms[2], layer.inputs[2]
    if not isinstance(tensor, gs.Constant):
        raise layer.error(
            "caffe-unknown-priors",
            f"the priors {blob} are computed by layers other than PriorBox and Concat",
            note="priors must be known when the network is imported",
        )
    values = tensor.values
    if values.ndim != 3 or values.shape[:2] != (1, 2) or values.shape[2] % 4:
        raise layer.error(
            "caffe-shape-mismatch",
            f"the priors {blob} have the shape {list(values.shape)}, not [1, 2, 4 P]",
            hint="join PriorBox layers by Concat along axis 2",
        )
    boxes, variances = values[0].reshape(2, -1, 4)
    return np.ascontiguousarray(boxes), np.ascontiguousarray(variances)


def _check_sizes(layer: Layer, priors: int, classes: int) -> None:
    for index, per_prior, what in ((0, 4, "coordinates"), (1, classes, "classes")):
        elements = math.prod(layer.shape(index))
        if elements != priors * per_prior:
            raise layer.error(
                "caffe-shape-mismatch",
                f"{layer.definition.bottoms[index]} has {elements} values, "
                f"but {priors} priors x {per_prior} {what} make {priors * per_prior}",
            )
