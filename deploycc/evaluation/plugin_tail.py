"""Networks that end in a TensorRT plugin, run without TensorRT: up to the plugin, whose part is done on the host.

The plugin's own attributes and constants say what it would do, so the result is the network's as it is. What the two
plugins do is in NVIDIA/TensorRT, ``plugin/efficientNMSPlugin`` and ``plugin/nmsPlugin``, releases 8.0 to 10.16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import BoxCoding, Detector, Nms, SsdHeads
from deploycc.evaluation.decode import read_detections
from deploycc.evaluation.nms import Detections
from deploycc.graph.edit import constant_values

_EFFICIENT_NMS_BOXES = 4096  # candidates over all classes, EfficientNMSParameters::numSelectedBoxes
_CODINGS: dict[int, BoxCoding] = {0: "corner", 1: "center_size", 2: "corner_size"}  # NvInferPlugin.h, CodeTypeSSD


@dataclass(frozen=True, eq=False)
class PluginTail:
    """A network without its plugin, and what is left to do.

    Attributes:
        detector: its outputs are raw heads.
        candidates: boxes that the plugin looks at, over all classes; None for all.
        clips: it clips boxes to the picture after suppression.
    """

    detector: Detector
    candidates: int | None
    clips: bool

    def read(self, outputs: Mapping[str, NDArray[np.generic]]) -> Detections:
        """Return the detections that the plugin would give for the outputs of `detector`."""
        heads = self.detector.heads
        assert heads is not None
        if self.candidates is not None:
            scores = outputs[heads.scores].astype(np.float32).reshape(-1, heads.classes)
            outputs = {**outputs, heads.scores: _best(scores, self.candidates, heads.background)}
        found = read_detections(self.detector, outputs)
        return replace(found, boxes=np.clip(found.boxes, 0, 1)) if self.clips else found


def plugin_tail(detector: Detector) -> PluginTail | None:
    """Return a network without the plugin that it ends in; None where it ends in none that is understood."""
    if detector.detections is None:
        return None
    for index, node in enumerate(detector.graph.nodes):
        if node.op in _TAILS and detector.detections.boxes in {tensor.name for tensor in node.outputs}:
            graph = detector.graph.copy()
            copied = graph.nodes[index]
            found = _TAILS[node.op](copied)
            if found is None:
                return None
            heads, nms, candidates, clips = found
            extra = [tensor for tensor in graph.outputs if tensor.name in detector.extra_outputs]
            graph.outputs = [*copied.inputs[:2], *extra]
            for tensor in graph.outputs[:2]:
                tensor.dtype = tensor.dtype or np.dtype(np.float32)
            graph.cleanup()
            raw = replace(detector, graph=graph, heads=heads, nms=nms, detections=None)
            return PluginTail(raw, candidates, clips)
    return None


_Tail = tuple[SsdHeads, Nms, int | None, bool]


def _efficient_nms(node: gs.Node) -> _Tail | None:
    """EfficientNMS_TRT on corners: it keeps scores that reach the threshold, and drops boxes that reach the IoU."""
    attrs: Mapping[str, Any] = node.attrs
    boxes, scores = node.inputs[:2]
    if len(node.inputs) != 2 or attrs.get("box_coding", 0) or attrs.get("score_activation", 0):
        return None
    _, count, classes = scores.shape
    background = int(attrs.get("background_class", -1))
    heads = SsdHeads(
        locations=boxes.name,
        scores=scores.name,
        priors=np.zeros((count, 4), np.float32),  # corners are offsets from nothing
        variances=np.ones((count, 4), np.float32),
        classes=classes,
        background=None if background < 0 else background,
        box_coding="corner",
        variance_encoded=True,
    )
    nms = Nms(
        score_threshold=_just_below(attrs["score_threshold"]),
        iou_threshold=_just_below(attrs["iou_threshold"]),
        top_k=-1,
        keep_top_k=int(attrs["max_output_boxes"]),
    )
    return heads, nms, _EFFICIENT_NMS_BOXES if count * classes > _EFFICIENT_NMS_BOXES else None, False


def _nms_plugin(node: gs.Node) -> _Tail | None:
    """NMS_TRT, TensorRT's DetectionOutput."""
    attrs: Mapping[str, Any] = node.attrs
    offsets, scores, prior_data = node.inputs
    tables = constant_values(prior_data)
    understood = (list(attrs["inputOrder"]), attrs["shareLocation"], attrs["isNormalized"], attrs["confSigmoid"])
    if tables is None or understood != ([0, 1, 2], 1, 1, 0):
        return None
    priors, variances = tables.astype(np.float32).reshape(2, -1, 4)
    background = int(attrs["backgroundLabelId"])
    heads = SsdHeads(
        locations=offsets.name,
        scores=scores.name,
        priors=priors,
        variances=variances,
        classes=int(attrs["numClasses"]),
        background=None if background < 0 else background,
        box_coding=_CODINGS[int(attrs["codeType"])],
        variance_encoded=bool(attrs["varianceEncodedInTarget"]),
    )
    nms = Nms(
        float(attrs["confidenceThreshold"]), float(attrs["nmsThreshold"]), int(attrs["topK"]), int(attrs["keepTopK"])
    )
    return heads, nms, None, True


_TAILS = {"EfficientNMS_TRT": _efficient_nms, "NMS_TRT": _nms_plugin}


def _just_below(threshold: float) -> float:
    return float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))


def _best(scores: NDArray[np.float32], most: int, background: int | None) -> NDArray[np.float32]:
    """Return scores [P, C] of which only the best ``most`` are left; equal ones by class, then by prior."""
    kept = np.full_like(scores, -np.inf)
    labels = [label for label in range(scores.shape[1]) if label != background]
    column = scores[:, labels].T.reshape(-1)
    best = np.argsort(-column, kind="stable")[:most]
    label, prior = np.divmod(best, len(scores))
    at = prior, np.array(labels)[label]
    kept[at] = scores[at]
    return kept
