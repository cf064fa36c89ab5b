"""What the outputs depend on, against the divergence that is measured when channels are really turned down."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Literal

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from graph_text import network  # noqa: E402
from mutation import mutant  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from ssd_tails import grid_priors  # noqa: E402

from deploycc.detector import Detector, SsdHeads  # noqa: E402
from deploycc.distillation import importance, loss  # noqa: E402
from deploycc.distillation.heads import score_tensor  # noqa: E402
from deploycc.distillation.loss import distillation_loss, probabilities_of  # noqa: E402
from deploycc.graph.channels.labels import channel_groups  # noqa: E402
from deploycc.trainable.network import TrainableNetwork  # noqa: E402

PICTURES = 6
PROBES = 25
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


def measured(detector: Detector) -> dict[str, list[float]]:
    """The divergence when a channel is turned down a little, as if it rose with the square all the way to 0."""
    activation = score_tensor(detector).activation
    assert detector.heads is not None
    background, before = detector.heads.background, outputs(detector)
    found: dict[str, list[float]] = {}
    for layers in MAKERS:
        kernels = 4 if layers == ("one",) else 5
        for kernel in range(kernels):
            losses = [
                distillation_loss(scores, offsets, probabilities_of(its, activation), locations, activation, background)
                for (scores, offsets), (its, locations) in zip(
                    outputs(turned_down(detector, layers, kernel)), before, strict=True
                )
            ]
            found.setdefault(layers[0], []).append(float(np.mean([loss.total for loss in losses])) / TURNED_DOWN**2)
    return found


def estimated(detector: Detector, module: ModuleType = importance) -> dict[str, NDArray[np.float64]]:
    groups = channel_groups(detector.graph)
    by_layer = module.output_change(detector, groups, picture, list(range(PICTURES)) * PROBES)
    return {layers[0]: sum(by_layer[name] for name in layers if name in by_layer) for layers in MAKERS}


def errors(detector: Detector, module: ModuleType = importance) -> list[float]:
    """Of the estimates, relative to what was measured, per layer; and how badly they order the kernels."""
    truth, estimate = measured(detector), estimated(detector, module)
    return [float(np.abs(estimate[name] / values - 1).max()) for name, values in truth.items()]


@pytest.mark.parametrize("activation", ["Sigmoid", "Softmax"])
def test_the_estimate_is_the_divergence(activation: Literal["Sigmoid", "Softmax"]) -> None:
    assert max(errors(small(activation))) < 0.5  # 150 random directions: 4 standard deviations are 0.46


@pytest.mark.parametrize(
    ("old", "new", "activation"),
    [
        ("continue  # a depthwise", "pass  # a depthwise", "Softmax"),
        ("root * noise - probabilities * (root * noise).sum(1, keepdim=True)", "root * noise", "Softmax"),
        ("(probabilities * (1 - probabilities)).sqrt() * noise", "noise", "Sigmoid"),
        (
            "change += np.bincount(labels, _by_kernel(weights, axis), groups.count)",
            "change = np.bincount(labels, _by_kernel(weights, axis), groups.count)",
            "Softmax",
        ),
        ("+ (weight * noise * offsets).sum()", "", "Sigmoid"),
        ("np.maximum(members, 1)", "1", "Softmax"),
    ],
)
def test_planted_bugs_are_noticed(old: str, new: str, activation: Literal["Sigmoid", "Softmax"]) -> None:
    assert max(errors(small(activation), mutant(importance, old, new))) > 0.7


@pytest.mark.parametrize(
    ("old", "new", "activation"),
    [
        ("+ _doubts(probabilities, scores.activation, background, generator)", "", "Sigmoid"),
        ("weight.sqrt() * torch", "weight * torch", "Sigmoid"),
        ("noise - probabilities * noise.sum(1, keepdim=True)", "noise", "Softmax"),
    ],
)
def test_planted_bugs_of_doubts_are_noticed(
    old: str, new: str, activation: Literal["Sigmoid", "Softmax"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "DOUBT_WEIGHT", 20.0)  # of all terms this one counts most
    assert max(errors(small(activation), mutant(importance, "import torch\n", "import torch\n"))) < 0.5
    assert max(errors(small(activation), mutant(importance, old, new))) > 0.7
