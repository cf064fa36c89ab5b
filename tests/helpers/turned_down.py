"""A small detector, and the divergence of its outputs that is measured when kernels are turned down (needs PyTorch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from graph_text import network
from numpy.typing import NDArray
from ssd_tails import grid_priors

from deploycc.detector import Detector, SsdHeads
from deploycc.distillation.heads import score_tensor
from deploycc.distillation.loss import distillation_loss, probabilities_of
from deploycc.trainable.network import TrainableNetwork

PICTURES = 6
TURNED_DOWN = 0.02
MAKERS = (("one",), ("two", "three"))
"""Layers that make the same channels: a depthwise layer follows the first, the others are added."""
TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[1,3,8,8] x, float[4,3,3,3] w1, float[4] b1, float[4,1,3,3] wd, float[4] bd, float[5,4,1,1] w2, float[5] b2,
   float[5,4,3,3] w3, float[5] b3, float[4,5,1,1] wl, float[4] bl, float[3,5,1,1] ws, float[3] bs, int64[3] four,
   int64[3] classes) => (float[a,b,c] loc, float[d,e,f] scores)
{
    [one] y = Conv<pads=[1,1,1,1], kernel_shape=[3,3]>(x, w1, b1)
    z = Relu(y)
    [deep] d = Conv<pads=[1,1,1,1], kernel_shape=[3,3], group=4>(z, wd, bd)
    r = Relu(d)
    [two] p = Conv(r, w2, b2)
    [three] q = Conv<pads=[1,1,1,1], kernel_shape=[3,3]>(r, w3, b3)
    s = Add(p, q)
    m = Relu(s)
    [box] lc = Conv(m, wl, bl)
    lt = Transpose<perm=[0,2,3,1]>(lc)
    loc = Reshape(lt, four)
    [score] sc = Conv(m, ws, bs)
    st = Transpose<perm=[0,2,3,1]>(sc)
    logits = Reshape(st, classes)
    scores = ACTIVATION(logits)
}"""


def small(activation: Literal["Sigmoid", "Softmax"]) -> Detector:
    rng = np.random.default_rng(3)
    shapes = {
        "w1": (4, 3, 3, 3),
        "wd": (4, 1, 3, 3),
        "w2": (5, 4, 1, 1),
        "w3": (5, 4, 3, 3),
    }
    values: dict[str, NDArray[np.generic]] = {
        name: rng.normal(0, 0.4, shape).astype(np.float32)
        for name, shape in {**shapes, "ws": (3, 5, 1, 1), "b1": (4,), "bd": (4,), "b2": (5,), "b3": (5,)}.items()
    }
    values["wl"] = rng.normal(0, 0.4, (4, 5, 1, 1)).astype(np.float32)
    values |= {"bl": np.zeros(4, np.float32), "bs": rng.normal(0, 0.5, 3).astype(np.float32)}
    values |= {"four": np.array([1, 64, 4]), "classes": np.array([1, 64, 3])}
    axis = "Softmax<axis=2>" if activation == "Softmax" else activation
    made = network(TEXT.replace("ACTIVATION", axis), values)
    centres = grid_priors((8, 8), np.array([[0.2, 0.3]], np.float32))
    half = centres[:, 2:] / 2
    corners = np.concatenate([centres[:, :2] - half, centres[:, :2] + half], axis=1)
    variances = np.full((64, 4), 0.1, np.float32)
    heads = SsdHeads("loc", "scores", corners, variances, 3, 0 if activation == "Softmax" else None)
    return replace(made, heads=heads)


def picture(number: int) -> NDArray[np.float32]:
    return np.random.default_rng(number).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)


def outputs(detector: Detector) -> list[tuple[torch.Tensor, torch.Tensor]]:
    run = TrainableNetwork(detector, [score_tensor(detector).name, "loc"])
    with torch.no_grad():
        results = [run(torch.from_numpy(picture(number))) for number in range(PICTURES)]
    return [(scores.double(), offsets.double()) for scores, offsets in results]


def turned_down(detector: Detector, layers: tuple[str, ...], kernel: int) -> Detector:
    changed = replace(detector, graph=detector.graph.copy())
    for node in changed.graph.nodes:
        for constant in node.inputs[1:3] if node.name in layers else ():
            values = constant.values.copy()
            values[kernel] *= 1 - TURNED_DOWN
            constant.values = values
    return changed


def measured(detector: Detector, makers: Sequence[tuple[str, ...]] = MAKERS) -> dict[str, NDArray[np.float64]]:
    """The divergence when a channel is turned down a little, as if it rose with the square all the way to 0.

    By the first of the layers that make the same channels, [pictures, kernels].
    """
    activation = score_tensor(detector).activation
    assert detector.heads is not None
    background, before = detector.heads.background, outputs(detector)
    found: dict[str, NDArray[np.float64]] = {}
    for layers in makers:
        by_kernel = []
        for kernel in range(4 if layers == ("one",) else 5):
            losses = [
                distillation_loss(scores, offsets, probabilities_of(its, activation), locations, activation, background)
                for (scores, offsets), (its, locations) in zip(
                    outputs(turned_down(detector, layers, kernel)), before, strict=True
                )
            ]
            by_kernel.append([float(loss.total) / TURNED_DOWN**2 for loss in losses])
        found[layers[0]] = np.array(by_kernel).T
    return found
