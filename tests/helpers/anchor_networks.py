"""Small SSD networks some of whose anchors are dead: all their score kernels are zero."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from graph_text import network, run
from numpy.typing import NDArray
from ssd_tails import grid_priors

from deploycc.detector import Detector, Nms, SsdHeads
from deploycc.evaluation.decode import read_detections
from deploycc.evaluation.nms import Detections

THRESHOLD = 0.05

# What the score kernels of an anchor are: trained ones; zero ones with constant scores below the threshold, above it,
# and a little below it, where rounding might lift them; zero ones for all classes but one.
AnchorKind = Literal["trained", "dead", "loud", "close", "half"]


@dataclass(frozen=True)
class AnchorNetwork:
    """A picture of 8x8, pooled to one feature map after the other, 1x1 predictors on each.

    Attributes:
        maps: for each feature map (8, 4, 2, 1 cells wide) its anchors.
        classes: C.
        background: index or None.
        activation: of the scores.
        layout: ``flat`` as Caffe joins heads, ``rows`` as ONNX exporters do, ``planes`` with one more axis.
        seed: of the weights.
    """

    maps: tuple[tuple[AnchorKind, ...], ...]
    classes: int = 3
    background: int | None = 0
    activation: Literal["Sigmoid", "Softmax"] = "Softmax"
    layout: Literal["flat", "rows", "planes"] = "flat"
    seed: int = 0

    @property
    def stays(self) -> NDArray[np.bool_]:
        """Return [P]: the priors that a correct pass keeps."""
        return np.concatenate(
            [np.tile([kind != "dead" for kind in kinds], (8 >> index) ** 2) for index, kinds in enumerate(self.maps)]
        )


def build(net: AnchorNetwork) -> Detector:
    """The network as a detector with raw heads ``loc`` and ``scores``."""
    rng, values, body, priors = np.random.default_rng(net.seed), {}, [], []
    joined: dict[str, list[str]] = {"l": [], "s": []}
    for index, kinds in enumerate(net.maps):
        cells, anchors, source = 8 >> index, len(kinds), f"m{index}" if index else "x"
        if index:
            before = f"m{index - 1}" if index > 1 else "x"
            body.append(f"{source} = MaxPool<kernel_shape=[2,2], strides=[2,2]>({before})")
        priors.append(grid_priors((cells, cells), rng.uniform(0.1, 0.6, (anchors, 2)).astype(np.float32)))
        weight, bias = _score_kernels(net, kinds, rng)
        values |= {f"sw{index}": weight, f"sb{index}": bias}
        values[f"lw{index}"] = rng.normal(0, 0.5, (4 * anchors, 3, 1, 1)).astype(np.float32)
        values[f"lb{index}"] = rng.normal(0, 0.5, 4 * anchors).astype(np.float32)
        for head, each in (("l", 4), ("s", net.classes)):
            name = f"{head}{index}"
            body.append(f"{name}c = Conv({source}, {head}w{index}, {head}b{index})")
            body.append(f"{name}t = Transpose<perm=[0,2,3,1]>({name}c)")
            planes = [1, cells, cells, anchors, each]
            if net.layout == "planes":
                values[f"{name}p"] = np.array(planes)
                body.append(f"{name}q = Reshape({name}t, {name}p)")
            last = f"{name}q" if net.layout == "planes" else f"{name}t"
            if net.layout == "flat":
                body.append(f"{name} = Flatten({last})")
            else:
                values[f"{name}r"] = np.array([1, cells * cells * anchors, each])
                body.append(f"{name} = Reshape({last}, {name}r)")
            joined[head].append(name)
    centres = np.concatenate(priors)
    body += _join(net, joined, values, len(centres))
    names = ", ".join(
        f"{'int64' if array.dtype == np.int64 else 'float'}[{','.join(map(str, array.shape))}] {name}"
        for name, array in values.items()
    )
    lines = "\n".join(body)
    text = (
        f'<ir_version: 7, opset_import: ["": 13]>\ng (float[1,3,8,8] x, {names}) => (float[a,b] loc, float[c,d] scores)'
    )
    if net.layout != "flat":
        text = text.replace("[a,b]", "[a,b,e]").replace("[c,d]", "[c,d,f]")
    detector = network(f"{text}\n{{\n{lines}\n}}", values)
    for index in range(len(net.maps)):
        tensors = detector.graph.tensors()
        tensors[f"s{index}c"].inputs[0].name, tensors[f"l{index}c"].inputs[0].name = f"score_{index}", f"box_{index}"
    half = centres[:, 2:] / 2
    heads = SsdHeads(
        "loc",
        "scores",
        np.concatenate([centres[:, :2] - half, centres[:, :2] + half], axis=1),
        np.tile(rng.uniform(0.1, 0.3, 4).astype(np.float32), (len(centres), 1)),
        net.classes,
        net.background,
    )
    return replace(detector, heads=heads, nms=Nms(THRESHOLD, 0.45, 50, 40))


def _join(
    net: AnchorNetwork, joined: dict[str, list[str]], values: dict[str, NDArray[np.generic]], count: int
) -> list[str]:
    body = [f"loc = Concat<axis=1>({', '.join(joined['l'])})", f"all = Concat<axis=1>({', '.join(joined['s'])})"]
    if net.layout != "flat":
        return [*body, f"scores = {net.activation}{_axis(net)}(all)"]
    values["rows"] = np.array([1, count, net.classes])
    return [*body, "each = Reshape(all, rows)", f"act = {net.activation}{_axis(net)}(each)", "scores = Flatten(act)"]


def _axis(net: AnchorNetwork) -> str:
    return "<axis=2>" if net.activation == "Softmax" else ""


def _score_kernels(
    net: AnchorNetwork, kinds: tuple[AnchorKind, ...], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    shape = (len(kinds), net.classes)
    weight, bias = rng.normal(0, 1.0, (*shape, 3)), rng.normal(0, 1.0, shape)
    quiet = np.full(net.classes, -8.0)
    if net.background is not None:
        quiet[net.background] = 0.0
    for anchor, kind in enumerate(kinds):
        if kind in ("dead", "loud", "close"):
            weight[anchor] = 0.0
            bias[anchor] = quiet if kind == "dead" else rng.normal(0, 0.5, net.classes) + (kind == "loud")
        if kind == "close":
            bias[anchor] = _just_below(net)
        if kind == "half":
            weight[anchor, : net.classes - 1] = 0.0
    return weight.reshape(-1, 3, 1, 1).astype(np.float32), bias.reshape(-1).astype(np.float32)


def _just_below(net: AnchorNetwork) -> NDArray[np.float64]:
    """Biases whose highest foreground score is 0.1 % below the threshold."""
    score = THRESHOLD * 0.999
    bias = np.full(net.classes, -30.0)
    foreground = next(label for label in range(net.classes) if label != net.background)
    if net.activation == "Sigmoid":
        bias[foreground] = np.log(score / (1 - score))
    elif net.background is not None:
        bias[net.background], bias[foreground] = np.log(1 - score), np.log(score)
    return bias


def detections(detector: Detector, seed: int) -> Detections:
    """Return the detections in a seeded picture."""
    x = np.random.default_rng(seed).normal(size=(1, 3, 8, 8)).astype(np.float32)
    names = [tensor.name for tensor in detector.graph.outputs]
    return read_detections(detector, dict(zip(names, run(detector.graph, x), strict=True)))
