"""SSD detectors as their users export them, for `check_exporters.py`: PyTorch programs, and how a file of each is made."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import library as operator_libraries
from torch import nn

Picture = NDArray[np.uint8]
Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""Boxes [N, 4] as xmin ymin xmax ymax in 0..1, scores [N] and labels [N]."""
Raw = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Decoded boxes [P, 4] in 0..1 and scores [P, C], which nothing has suppressed yet."""


# ---- torchvision -----------------------------------------------------------------------------------------------------


@cache
def register_nms() -> None:
    """Give torchvision its NMS in Python where its compiled operators do not fit the installed PyTorch.

    Exported files are the same: exporters write the operator, not what it computes.
    """
    try:
        library = operator_libraries.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:  # it is there
        return
    library.impl("nms", suppress, "CPU")
    _registered.append(library)
    import torchvision.extension

    torchvision.extension._has_ops = _has_operators


def _has_operators() -> bool:
    return True


_registered: list[operator_libraries.Library] = []
"""A library is unregistered when it is collected."""


def suppress(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Greedy suppression of one class: rows that stay, by descending score."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    gone = torch.zeros(len(boxes), dtype=torch.bool)
    kept = []
    for row in scores.sort(stable=True, descending=True).indices.tolist():
        if gone[row]:
            continue
        kept.append(row)
        low, high = torch.maximum(boxes[row, :2], boxes[:, :2]), torch.minimum(boxes[row, 2:], boxes[:, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        gone |= shared / (area[row] + area - shared) > threshold
    return torch.tensor(kept, dtype=torch.int64)


def torchvision_ssd(name: str) -> nn.Module:
    """torchvision's program with seeded weights; scores are spread, so that there is something to detect."""
    register_nms()
    import torchvision

    torch.manual_seed(0)
    model: nn.Module = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None)
    pictures = torch.rand(4, 3, 320, 320)
    model.train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # the statistics of these pictures: no layer dies out
        maps = list(model.backbone(pictures).values())
        model.head(maps)
        model.eval()
        maps = list(model.backbone(pictures).values())
        for part, key, spread in (
            (model.head.classification_head, "cls_logits", 0.5),  # more saturates at 1, where rounding gives the order
            (model.head.regression_head, "bbox_regression", 1.0),
        ):
            size = model.head(maps)[key].std()
            for predictor in part.module_list:
                last = [module for module in predictor.modules() if isinstance(module, nn.Conv2d)][-1]
                last.weight *= spread / size
    return model


class WithoutTransform(nn.Module):
    """torchvision's detector as users strip it: no resizing, no normalising, no suppression."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        from torchvision.models.detection.image_list import ImageList
        from torchvision.ops import clip_boxes_to_image

        size = (picture.shape[2], picture.shape[3])
        maps = list(self.model.backbone(picture).values())
        heads = self.model.head(maps)
        (anchors,) = self.model.anchor_generator(ImageList(picture, [size]), maps)
        boxes = self.model.box_coder.decode_single(heads["bbox_regression"][0], anchors)
        return clip_boxes_to_image(boxes, size)[None], heads["cls_logits"].softmax(-1)


class Whole(nn.Module):
    """torchvision's detector as it is, as three outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        (found,) = self.model([picture[0]])
        return found["boxes"], found["labels"], found["scores"]


# ---- in the style of other projects -----------------------------------------------------------------------------------


class Heads(nn.Module):
    """Two feature maps of a small network, and 3 boxes per cell."""

    def __init__(self, classes: int, size: int = 96, landmarks: bool = False) -> None:
        super().__init__()
        channels = [3, 16, 24, 32, 32]
        self.trunk = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in itertools.pairwise(channels))
        self.boxes = nn.ModuleList(nn.Conv2d(32, 12, 3, 1, 1) for _ in range(2))
        self.scores = nn.ModuleList(nn.Conv2d(32, 3 * classes, 3, 1, 1) for _ in range(2))
        self.points = nn.ModuleList(nn.Conv2d(32, 30, 3, 1, 1) for _ in range(2)) if landmarks else None
        self.classes, self.size = classes, size
        priors = []
        for cells, sides in ((size // 8, (0.15, 0.3)), (size // 16, (0.4, 0.7))):
            centre = (torch.arange(cells) + 0.5) / cells
            y, x = torch.meshgrid(centre, centre, indexing="ij")
            small, large = sides
            for row, column in zip(y.flatten(), x.flatten(), strict=True):
                priors += [[column, row, small, small], [column, row, large, small], [column, row, small, large]]
        self.register_buffer("priors", torch.tensor(priors))

    def forward(self, picture: torch.Tensor) -> list[torch.Tensor]:
        maps, x = [], picture
        for layer in self.trunk:
            x = torch.relu(layer(x))
            maps.append(x)
        kinds = [(self.boxes, 4), (self.scores, self.classes), *([(self.points, 10)] if self.points else [])]
        return [
            torch.cat(
                [head(m).permute(0, 2, 3, 1).reshape(1, -1, width) for head, m in zip(heads, maps[2:], strict=True)], 1
            )
            for heads, width in kinds
        ]


def _corners(priors: torch.Tensor, size: float) -> torch.Tensor:
    return torch.cat([priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2], 1) * size


class _OnnxNms(torch.autograd.Function):
    """mmdetection's way: the program suppresses, the file gets the operator."""

    @staticmethod
    def forward(ctx: object, boxes: torch.Tensor, scores: torch.Tensor, iou: float, score: float) -> torch.Tensor:
        rows = []
        for label in range(scores.shape[1]):
            good = (scores[0, label] > score).nonzero()[:, 0]
            kept = good[suppress(boxes[0, good], scores[0, label, good], iou)]
            rows.append(torch.stack([torch.zeros_like(kept), torch.full_like(kept, label), kept], 1))
        return torch.cat(rows)

    @staticmethod
    def symbolic(g, boxes, scores, iou, score):
        limits = [
            g.op("Constant", value_t=torch.tensor([value], dtype=kind))
            for value, kind in ((2**31, torch.int64), (iou, torch.float32), (score, torch.float32))
        ]
        return g.op("NonMaxSuppression", boxes, scores, *limits)


class MmdetectionStyle(nn.Module):
    """Corner priors in pixels, exponents limited, clipping by coordinate, background last, suppression inside."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.heads = Heads(5)

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        offsets, scores = self.heads(picture)
        offsets = offsets * 3 * offsets.new_tensor([0.1, 0.1, 0.2, 0.2])
        scores = (scores * 8).softmax(-1)
        size = float(self.heads.size)
        priors = _corners(self.heads.priors, size).expand_as(offsets)
        centre = (priors[..., :2] + priors[..., 2:]) / 2
        side = priors[..., 2:] - priors[..., :2]
        limit = abs(np.log(16 / 1000))
        half = side * offsets[..., 2:].clamp(-limit, limit).exp() / 2
        centre = centre + side * offsets[..., :2]
        edges = [*(centre - half).split(1, -1), *(centre + half).split(1, -1)]
        boxes = torch.cat([edge.clamp(0, size) for edge in edges], -1)
        classes = scores[..., :-1].permute(0, 2, 1)
        rows = _OnnxNms.apply(boxes, classes, 0.45, 0.3)
        best = classes[0, rows[:, 1], rows[:, 2]]
        return torch.cat([boxes[0, rows[:, 2]], best[:, None]], 1), rows[:, 1]


class RetinaFaceStyle(nn.Module):
    """Decoded boxes in 0..1, softmax scores, and decoded landmarks as a third output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.heads = Heads(2, landmarks=True)

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        offsets, scores, points = self.heads(picture)
        offsets, priors = offsets * 3, self.heads.priors
        centre = priors[:, :2] + offsets[..., :2] * 0.1 * priors[:, 2:]
        half = priors[:, 2:] * (offsets[..., 2:] * 0.2).exp() / 2
        marks = priors[:, :2].repeat(1, 5) + points * 0.1 * priors[:, 2:].repeat(1, 5)
        return torch.cat([centre - half, centre + half], -1), (scores * 8).softmax(-1), marks


# ---- files ------------------------------------------------------------------------------------------------------------


def export(program: nn.Module, size: int, path: Path, *, dynamo: bool) -> None:
    """Write a program with PyTorch's older (TorchScript) or newer (dynamo) exporter."""
    picture = (torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(3)),)
    if dynamo:
        torch.onnx.export(program, picture, path, dynamo=True, external_data=False, verbose=False)
    else:
        torch.onnx.export(copy.deepcopy(program), picture, path, dynamo=False, opset_version=13)


def tensorflow_style(path: Path) -> None:
    """Write a file as tf2onnx does: uint8 NHWC of open size, a loop that resizes, y before x, one suppression a class."""
    heads = Heads(4)
    torch.manual_seed(4)
    for parameter in heads.parameters():
        nn.init.normal_(parameter, 0, 0.12)
    torch.onnx.export(heads, (torch.rand(1, 3, 96, 96),), path, dynamo=False, opset_version=13, input_names=["planes"],
                      output_names=["offsets", "logits"])  # fmt: skip
    network = onnx.load(path)
    around = onnx.parser.parse_model(TENSORFLOW.replace("LOOP", LOOP))
    priors = heads.priors[:, [1, 0, 3, 2]].numpy()
    for name, values in (("place", priors[None, :, :2]), ("sides", priors[None, :, 2:])):
        around.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
    first = [node for node in around.graph.node if node.output[0] in _BEFORE]
    last = [node for node in around.graph.node if node.output[0] not in _BEFORE]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (*first, *network.graph.node, *last)]
    del network.graph.node[:]
    network.graph.node.extend(nodes)
    network.graph.initializer.extend(around.graph.initializer)
    del network.graph.input[:], network.graph.output[:]
    network.graph.input.extend(around.graph.input)
    network.graph.output.extend(around.graph.output)
    onnx.save(network, path)


_BEFORE = ("float", "small", "scaled_", "scaled", "planes")
LOOP = """<body = one (int64 i, bool go) => (bool on, float[a,b,c] resized)
        <int64[1] front = {0}, int64[1] from = {0}, int64[1] to = {2}, float[0] none = {}, int64[2] size = {96, 96}> {
        on = Identity (go)
        one = Gather (float, i)
        batch = Unsqueeze (one, front)
        first = Transpose <perm = [0, 3, 1, 2]> (batch)
        shape = Shape (first)
        start = Slice (shape, from, to)
        sizes = Concat <axis = 0> (start, size)
        r = Resize <coordinate_transformation_mode = "half_pixel", mode = "linear"> (first, none, none, sizes)
        last = Transpose <perm = [0, 2, 3, 1]> (r)
        resized = Squeeze (last, front)
    }>"""
TENSORFLOW = """<ir_version: 8, opset_import: ["": 13]>
g (uint8[1,h,w,3] pixels) => (float[n,4] boxes, float[n] found_scores, float[n] labels)
<int64 once = {1}, bool holds = {1}, float factor = {0.0078431}, float one_f = {1}, float tenth = {0.1},
 float fifth = {0.2}, float half_f = {0.5}, int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] i3 = {3},
 int64[1] i4 = {4}, int64[1] axis = {2}, int64[2] parts = {2, 2}, int64 most = {1000}, float overlap = {0.6},
 float least = {0.68}, int64 column = {2}, int64[1] flat = {-1}, int64[2] rows4 = {-1, 4}, float l1 = {1}, float l2 = {2},
 float l3 = {3}> {
    float = Cast <to = 1> (pixels)
    small = Loop LOOP (once, holds)
    scaled_ = Mul (small, factor)
    scaled = Sub (scaled_, one_f)
    planes = Transpose <perm = [0, 3, 1, 2]> (scaled)
    moved, grown = Split <axis = 2> (offsets, parts)
    m1 = Mul (moved, tenth)
    m2 = Mul (m1, sides)
    centre = Add (m2, place)
    g1 = Mul (grown, fifth)
    g2 = Exp (g1)
    g3 = Mul (g2, sides)
    half = Mul (g3, half_f)
    low = Sub (centre, half)
    high = Add (centre, half)
    decoded = Concat <axis = 2> (low, high)
    scores = Sigmoid (logits)
    corners = Reshape (decoded, rows4)
CLASSES
    boxes = Concat <axis = 0> (b1, b2, b3)
    found_scores = Concat <axis = 0> (s1, s2, s3)
    labels = Concat <axis = 0> (n1, n2, n3)
}""".replace(
    "CLASSES",
    "".join(
        f"""
    c{i} = Slice (scores, i{i}, i{i + 1}, axis)
    t{i} = Transpose <perm = [0, 2, 1]> (c{i})
    k{i} = NonMaxSuppression (decoded, t{i}, most, overlap, least)
    r{i} = Gather <axis = 1> (k{i}, column)
    v{i} = Reshape (c{i}, flat)
    b{i} = Gather <axis = 0> (corners, r{i})
    s{i} = Gather <axis = 0> (v{i}, r{i})
    h{i} = Shape (r{i})
    n{i} = Expand (l{i}, h{i})"""
        for i in (1, 2, 3)
    ),
)
Program = Callable[[Picture], Found | Raw]
