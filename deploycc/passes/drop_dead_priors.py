"""Removing priors that can never give a detection, with the kernels that predict them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import Detector, SsdHeads
from deploycc.errors import Note
from deploycc.graph.edit import constant_values, is_output, set_constant
from deploycc.graph.predictors import HeadTrace, Predictor, Untraceable, softmax_axis, trace_head
from deploycc.passes.options import Options
from deploycc.passes.runner import Result

Mask = NDArray[np.bool_]

_CLEARLY_BELOW = 0.01  # share of the threshold: more than any rounding of a score, FP16's included


def drop_dead_priors(detector: Detector, options: Options) -> Result:
    """Drop the priors whose foreground scores are constants below the score threshold.

    A kernel of zeros predicts its bias for every picture. Converters write such kernels to complete an anchor layout
    that the trained detector does not have. Suppression drops these boxes in every picture, so dropping their priors
    changes no detection. A kernel serves one anchor at all positions of its map, so whole anchors are dropped.

    Before: ``s = Sigmoid(Reshape(Conv(x, W[126, 384, 1, 1])))``   63 of 126 filters are zero, bias -6; 3000 priors
    After:  ``s = Sigmoid(Reshape(Conv(x, W'[63, 384, 1, 1])))``   1917 priors
    """
    heads, graph = detector.heads, detector.graph
    if heads is None:
        return Result(detector, False)
    tensors = graph.tensors()
    try:
        scores = trace_head(tensors[heads.scores])
        dead = never_detected(heads, scores, detector.nms.score_threshold)
        if not dead.any():
            return Result(detector, False)
        for name in detector.extra_outputs:
            if len(heads.priors) in (tensors[name].shape or ()):
                raise Untraceable(name, "this output has one row for each prior too")
        locations = trace_head(tensors[heads.locations])
        gone = _whole_anchors(dead, [_rows(scores, heads), _rows(locations, heads)])
        cuts = [_Cut(graph, trace, _rows(trace, heads)[gone]) for trace in (scores, locations)] if gone.any() else []
        if gone.all():
            raise Untraceable(heads.scores, "no prior would be left")
        for cut in cuts:
            cut.check()
    except Untraceable as stop:
        return Result(detector, False, _stays(graph, stop))
    notes = []
    if (dead & ~gone).any():
        reason = (
            f"{int((dead & ~gone).sum())} priors that never give a detection share kernels with others, so they stay"
        )
        notes.append(Note(heads.scores, "dead-priors-stay", reason))
    if not cuts:
        return Result(detector, False, tuple(notes))
    for cut in cuts:
        cut.apply()
    graph.cleanup()
    count = int(gone.sum())
    reason = f"{count} of {len(gone)} priors are dropped: their scores are constants below the score threshold"
    notes.insert(0, Note(heads.scores, "dead-priors", f"{reason} {detector.nms.score_threshold:g}"))
    rows = np.arange(len(gone)) if heads.trained_rows is None else heads.trained_rows
    kept = replace(
        heads,
        priors=heads.priors[~gone],
        variances=heads.variances[~gone],
        trained_priors=heads.trained_priors or len(gone),
        trained_rows=rows[~gone].astype(np.int64),
    )
    return Result(replace(detector, heads=kept), True, tuple(notes))


def never_detected(heads: SsdHeads, scores: HeadTrace, threshold: float) -> Mask:
    """Return [P]: whether all foreground scores of a prior are constants clearly below the threshold."""
    values = scores.values.reshape(len(heads.priors), heads.classes)
    foreground = [label for label in range(heads.classes) if label != heads.background]
    below = values[:, foreground] <= threshold - _CLEARLY_BELOW * abs(threshold)  # False for NaN
    return np.asarray(below.all(axis=1)) & bool(foreground)


def _rows(trace: HeadTrace, heads: SsdHeads) -> NDArray[np.int64]:
    """Return [P, values per prior]: the channel that each value comes from."""
    return trace.channels.reshape(len(heads.priors), -1)


def _whole_anchors(dead: Mask, rows: Sequence[NDArray[np.int64]]) -> Mask:
    """Return the dead priors whose kernels serve only dead priors, in every head."""
    while True:
        before = dead
        for channels in rows:
            alive = np.zeros(channels.max() + 1, np.bool_)
            alive[channels[~dead]] = True
            dead = dead & ~alive[channels].any(axis=1)
        if (dead == before).all():
            return dead


class _Cut:
    """Removing channels of the predictors of one head."""

    def __init__(self, graph: gs.Graph, trace: HeadTrace, channels: NDArray[np.int64]) -> None:
        self.graph, self.trace = graph, trace
        total = sum(predictor.shape[0] for predictor in trace.predictors)
        self.stays: Mask = np.ones(total, np.bool_)
        self.stays[channels] = False
        self.elements = np.concatenate(
            [
                np.repeat(self._kept(predictor), predictor.shape[1] * predictor.shape[2])
                for predictor in trace.predictors
            ]
        )
        self.shapes: dict[str, list[int]] = {}

    def _kept(self, predictor: Predictor) -> Mask:
        return self.stays[predictor.first_channel : predictor.first_channel + predictor.shape[0]]

    def check(self) -> None:
        """Compute the new shapes, without changing the graph.

        Raises:
            Untraceable: another node reads a tensor that would shrink, or a tensor would have holes.
        """
        trace, tensors = self.trace, self.graph.tensors()
        traced = {id(node) for node in trace.nodes}
        for predictor in trace.predictors:
            if not self._kept(predictor).all() and predictor.node.attrs.get("group", 1) != 1:
                raise Untraceable(str(predictor.node.name), "the predictor is a grouped convolution")
        for name, elements in trace.elements.items():
            stays = self.elements[elements]
            tensor = tensors[name]
            if stays.all():
                self.shapes[name] = list(stays.shape)
                continue
            elsewhere = is_output(self.graph, tensor) and name != trace.head
            if elsewhere or any(id(reader) not in traced for reader in tensor.outputs):
                raise Untraceable(str(tensor.inputs[0].name), "other nodes read its output")
            along = [stays.any(axis=tuple(a for a in range(stays.ndim) if a != axis)) for axis in range(stays.ndim)]
            self.shapes[name] = [int(kept.sum()) for kept in along]
            if np.prod(self.shapes[name]) != stays.sum():
                raise Untraceable(str(tensor.inputs[0].name), "the rest of its output would not be a whole tensor")
        for node in trace.nodes:
            if node.op == "Softmax":
                name, axis = node.outputs[0].name, softmax_axis(node, len(node.outputs[0].shape))
                if self.shapes[name][axis] != node.outputs[0].shape[axis]:
                    raise Untraceable(str(node.name), "it sums over priors")

    def apply(self) -> None:
        """Cut weights, then apply the new shapes; empty maps are removed from Concat."""
        for predictor in self.trace.predictors:
            kept = self._kept(predictor)
            for index, tensor in enumerate(predictor.node.inputs[1:], 1):
                values = None if tensor.is_empty() else constant_values(tensor)
                if values is not None and kept.any() and not kept.all():
                    set_constant(self.graph, predictor.node, index, values[kept], f"{tensor.name}_alive")
        for node in self.trace.nodes:
            shape = self.shapes[node.outputs[0].name]
            if 0 in shape:
                continue
            if node.op == "Concat":
                node.inputs = [tensor for tensor in node.inputs if 0 not in self.shapes[tensor.name]]
            if node.op == "Reshape" and list(node.outputs[0].shape) != shape:
                set_constant(self.graph, node, 1, np.array(shape, np.int64), f"{node.outputs[0].name}_shape")
                node.attrs.pop("allowzero", None)
        tensors = self.graph.tensors()
        for name, shape in self.shapes.items():
            tensors[name].shape = shape


def _stays(graph: gs.Graph, stop: Untraceable) -> tuple[Note, ...]:
    """Note that priors stay, only if a kernel is all zeros: there may have been priors to drop."""
    operands = (constant_values(node.inputs[1]) for node in graph.nodes if node.op == "Conv")
    weights = (values.reshape(len(values), -1) for values in operands if values is not None)
    if all(values.any(axis=1).all() for values in weights):
        return ()
    reason = f"any priors that never give a detection stay: {stop.reason}"
    return (Note(stop.node, "dead-priors-stay", reason),)
