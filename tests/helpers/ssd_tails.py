"""Small SSD networks whose decoding is spelled in the graph, in the ways exporters spell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SWAP = [1, 0, 3, 2]


@dataclass(frozen=True, eq=False)
class Tail:
    """One SSD network: two 1x1 convolutions, then box arithmetic.

    Attributes:
        grid: rows, columns of the only feature map.
        centres: priors of every cell position, [P, 4] as centre x, centre y, width, height, 0..1.
        variances: [P, 4] x y w h.
        classes: C.
        slicing: operator that takes offsets apart.
        form: of the boxes that leave the graph.
        y_out, y_offsets: y before x in the boxes, in the offsets.
        variances_first: all offsets are multiplied before they are taken apart.
        flat: offsets pass through [1, P * 4].
        pixels: boxes leave in pixels.
        clip: boxes are clipped to the picture.
        clipping: one Clip for all (not in pixels), one for each coordinate, or Min and Max with a row of limits.
        limit: offsets of width and height are limited to this before the exponential.
        best: only so many boxes, with the highest scores, are decoded.
        columns: boxes leave as [1, 4, P].
        nms: a NonMaxSuppression follows.
        logits: scores leave without softmax.
        distortion: what makes the decoding none of SSD's; "" for a true one.
        seed: of the convolutions.
    """

    grid: tuple[int, int]
    centres: NDArray[np.float32]
    variances: NDArray[np.float32]
    classes: int = 3
    slicing: Literal["Slice", "Split", "Gather"] = "Slice"
    form: Literal["corners", "centre", "top_left"] = "corners"
    y_out: bool = False
    y_offsets: bool = False
    variances_first: bool = False
    flat: bool = False
    pixels: bool = False
    clip: bool = False
    clipping: Literal["tensor", "coordinate", "vector"] = "tensor"
    limit: float | None = None
    best: int | None = None
    columns: bool = False
    nms: bool = False
    logits: bool = False
    distortion: str = ""
    seed: int = 0

    @property
    def picture(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.grid[0] * 8, self.grid[1] * 8

    @property
    def corners(self) -> NDArray[np.float32]:
        """The priors as xmin ymin xmax ymax."""
        half = self.centres[:, 2:] / 2
        return np.concatenate([self.centres[:, :2] - half, self.centres[:, :2] + half], axis=1)


def grid_priors(grid: tuple[int, int], shapes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Priors of ``shapes`` (width, height) in every cell, row by row, centre form."""
    y, x = np.meshgrid((np.arange(grid[0]) + 0.5) / grid[0], (np.arange(grid[1]) + 0.5) / grid[1], indexing="ij")
    centres = np.stack([x, y], axis=-1).reshape(-1, 1, 2).repeat(len(shapes), axis=1)
    return np.concatenate([centres, np.broadcast_to(shapes, centres.shape)], axis=-1).reshape(-1, 4).astype(np.float32)


class _Net:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, values: object, dtype: type = np.float32) -> str:
        name = f"k{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, name: str | None = None, **attrs: object) -> str:
        names = [name or f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"n{len(self.nodes)}", **attrs))
        return names[0]

    def part(self, slicing: str, source: str, begin: int, end: int) -> str:
        """Columns begin..end of the last axis of [1, P, 4]."""
        if slicing == "Gather":
            return self.add("Gather", source, self.constant(range(begin, end), np.int64), axis=2)
        if slicing == "Split":
            sizes = [begin, end - begin, 4 - end]
            kept = [size for size in sizes if size]
            first = self.add("Split", source, self.constant(kept, np.int64), outputs=len(kept), axis=2)
            return first if begin == 0 else first[:-1] + "1"
        index = [self.constant([value], np.int64) for value in (begin, end, 2)]
        return self.add("Slice", source, *index)


def build(tail: Tail) -> onnx.ModelProto:
    """The network: input ``data``; outputs ``boxes`` and ``scores``, or ``selected`` where NMS follows."""
    net, rng = _Net(), np.random.default_rng(tail.seed)
    count = len(tail.centres)
    anchors = count // (tail.grid[0] * tail.grid[1])
    offsets = _head(net, rng, anchors * 4, [1, -1] if tail.flat else [1, count, 4])
    if tail.flat:
        offsets = net.add("Reshape", offsets, net.constant([1, -1, 4], np.int64))
    scores = _head(net, rng, anchors * tail.classes, [1, count, tail.classes])
    if tail.logits:
        net.add("Identity", scores, name="scores")
    else:
        net.add("Softmax", scores, name="scores", axis=2)
    rows = None
    if tail.best is not None:
        highest = net.add("ReduceMax", "scores", axes=[2], keepdims=0)
        net.add("TopK", highest, net.constant([tail.best], np.int64), outputs=2, axis=1)
        rows = net.add("Reshape", net.nodes[-1].output[1], net.constant([-1], np.int64))
        count = tail.best
    _decode(net, tail, offsets, rows)
    if rows is not None:
        net.add("Gather", "scores", rows, name="best_scores", axis=1)
    outputs = {"boxes": [1, 4, count] if tail.columns else [1, count, 4], "scores": [1, count, tail.classes]}
    kinds = dict.fromkeys(outputs, TensorProto.FLOAT)
    if tail.nms:
        columns = net.add("Transpose", "best_scores" if rows is not None else "scores", perm=[0, 2, 1])
        limits = [net.constant(10, np.int64), net.constant([0.5]), net.constant([0.25])]
        net.add("NonMaxSuppression", "boxes", columns, *limits, name="selected")
        outputs, kinds = {"selected": ["n", 3]}, {"selected": TensorProto.INT64}
    graph = helper.make_graph(
        net.nodes,
        "tail",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, *tail.picture])],
        [helper.make_tensor_value_info(name, kinds[name], shape) for name, shape in outputs.items()],
        net.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _head(net: _Net, rng: np.random.Generator, channels: int, shape: list[int]) -> str:
    weight = net.constant(rng.normal(0, 0.5, (channels, 3, 1, 1)))
    planes = net.add("Conv", "data", weight, net.constant(rng.normal(0, 0.5, channels)), strides=[8, 8])
    return net.add("Reshape", net.add("Transpose", planes, perm=[0, 2, 3, 1]), net.constant(shape, np.int64))


def _decode(net: _Net, tail: Tail, offsets: str, rows: str | None) -> None:
    order = SWAP if tail.y_offsets else [0, 1, 2, 3]
    priors, variances = tail.centres[:, order][None], tail.variances[:, order][None]

    def constant(values: NDArray[np.float32]) -> str:
        every = net.constant(values)
        return every if rows is None else net.add("Gather", every, rows, axis=1)

    if rows is not None:
        offsets = net.add("Gather", offsets, rows, axis=1)
    if tail.distortion == "tanh":
        offsets = net.add("Tanh", offsets)
    if tail.distortion == "rows":  # every box is decoded from its neighbour's offsets
        turned = [*range(1, len(tail.centres)), 0]
        offsets = net.add("Gather", offsets, net.constant(turned, np.int64), axis=1)
    if tail.variances_first:
        offsets = net.add("Mul", offsets, constant(variances))
    place, size = net.part(tail.slicing, offsets, 0, 2), net.part(tail.slicing, offsets, 2, 4)
    if not tail.variances_first:
        place = net.add("Mul", place, constant(variances[..., :2]))
        size = net.add("Div", size, constant(1 / variances[..., 2:]))
    place = net.add("Add", net.add("Mul", place, constant(priors[..., 2:])), constant(priors[..., :2]))
    if tail.limit is not None:
        size = net.add("Clip", size, "", net.constant(tail.limit))
    size = net.add("Softplus" if tail.distortion == "softplus" else "Exp", size)
    if tail.distortion == "coupled":  # the height follows the width
        size = net.add("Gather", size, net.constant([0, 0], np.int64), axis=2)
    size = net.add("Mul", size, constant(priors[..., 2:]))
    if tail.y_offsets != tail.y_out:
        turn = net.constant([1, 0], np.int64)
        place, size = net.add("Gather", place, turn, axis=2), net.add("Gather", size, turn, axis=2)
    half = net.add("Mul", size, net.constant(0.5))
    low = place if tail.form == "centre" else net.add("Sub", place, half)
    high = net.add("Add", place, half) if tail.form == "corners" else size
    boxes = net.add("Concat", low, high, axis=2)
    if tail.pixels:
        height, width = tail.picture
        boxes = net.add("Mul", boxes, net.constant([height, width] * 2 if tail.y_out else [width, height] * 2))
    if tail.clip:
        boxes = _clip(net, tail, boxes)
    net.add("Transpose", boxes, name="boxes", perm=[0, 2, 1] if tail.columns else [0, 1, 2])


def _clip(net: _Net, tail: Tail, boxes: str) -> str:
    height, width = tail.picture if tail.pixels else (1, 1)
    limits = np.array([height, width] * 2 if tail.y_out else [width, height] * 2, np.float32)
    if tail.clipping == "vector":
        return net.add("Min", net.add("Max", net.constant(0.0), boxes), net.constant(limits))
    if tail.clipping == "tensor":
        return net.add("Clip", boxes, net.constant(0.0), net.constant(1.0))
    parts = [net.part(tail.slicing, boxes, axis, axis + 1) for axis in range(4)]
    clipped = [
        net.add("Clip", part, net.constant(0.0), net.constant(high)) for part, high in zip(parts, limits, strict=True)
    ]
    return net.add("Concat", *clipped, axis=2)


def to_corners(tail: Tail, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """What left the graph, [1, P, 4], as xmin ymin xmax ymax in 0..1."""
    boxes = (boxes[0].T if tail.columns else boxes[0]).astype(np.float64)
    if tail.y_out:
        boxes = boxes[:, SWAP]
    low, high = boxes[:, :2], boxes[:, 2:]
    if tail.form == "centre":
        low, high = low - high / 2, low + high / 2
    if tail.form == "top_left":
        high = low + high
    corners = np.concatenate([low, high], axis=1)
    height, width = tail.picture
    return (corners / ([width, height] * 2) if tail.pixels else corners).astype(np.float32)
