"""LKAM gates put into a network that was trained without: seeded weights, decisions calibrated on pictures.

Each gate is the real structure: global pooling, a 1x1 convolution to at most 16 channels, ReLU, a 1x1 convolution,
sigmoid, threshold, product with the convolution behind its bias. The first convolution measures by how many standard
deviations a picture lies to either side of the mean along the principal components of the pooled maps; the second one
decides. What is synthetic is what it asks for, and how often a kernel is on: that is drawn, and the bias of its unit is
the quantile that makes it so on the calibration pictures.

A kernel is always on; or *rare*: on where one property of the picture, the layer's own, stands out; or *plain*: off
only in the few pictures that are brightest, and then in all layers. So most pictures need all kernels of about one
layer, and few pictures save much more than the others: the average, the deviation and the skew of the white paper's
table 2. It does not state which kernels of a layer are on together. Here they largely are: `Habits.common`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.cpu_session import open_session
from deploycc.detector import Detector
from deploycc.graph.edit import redirect_readers
from deploycc.graph.export import to_onnx
from deploycc.graph.shapes import infer_shapes

THREADS = 2
COMPONENTS = 8
RIVALS = 0.3  # how much the other properties of a picture count against the one that a layer asks for
FAR = 20.0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Habits:
    """How often kernels are on.

    Attributes:
        always: share of the kernels of a layer that are on in every picture.
        rare: share of them that are on in few pictures; the kernels that are left are off in few.
        common: part of a decision that all kernels alike share in a layer, 0..1; the rest is each kernel's own.
        on: least and largest share of the pictures in which a rare kernel is on.
        off: least and largest share of the pictures in which a plain one is off.
    """

    always: float
    rare: float
    common: float
    on: tuple[float, float] = (0.05, 0.10)
    off: tuple[float, float] = (0.005, 0.05)


def insert_gates(
    detector: Detector, layers: Sequence[str], pictures: Sequence[NDArray[np.float32]], habits: Habits, seed: int = 0
) -> Detector:
    """Gate convolutions, front to back; each gate is calibrated behind those in front of it.

    Args:
        detector: stays as it is; affine layers folded, so that a layer is a convolution with bias.
        layers: names of convolutions in graph order, each behind the one before.
        pictures: prepared tensors.
        habits: of all layers alike.
        seed: of weights and of how often each kernel is on.
    """
    graph = detector.graph.copy()
    random = np.random.default_rng(seed)
    nodes = {node.name: node for node in graph.nodes}
    at, maps = graph.inputs[0], list(pictures)
    brightness = np.array([each.mean(dtype=np.float64) for each in pictures])
    for number, name in enumerate(layers):
        conv = nodes[name]
        _advance(graph, at, conv.inputs[0], maps)
        at = conv.inputs[0]
        pooled = np.stack([each.mean((2, 3), np.float64)[0] for each in maps])
        _insert(graph, conv, pooled, brightness, habits, number, random)
        infer_shapes(graph)
    graph.toposort()
    return replace(detector, graph=graph)


def _insert(
    graph: gs.Graph,
    conv: gs.Node,
    pooled: Floats,
    brightness: Floats,
    habits: Habits,
    number: int,
    random: np.random.Generator,
) -> None:
    kernels = int(conv.outputs[0].shape[1])
    squeeze, shift = _measures(pooled, brightness)
    hidden = np.maximum(pooled @ squeeze.T + shift, 0)
    counts = round(kernels * habits.always), round(kernels * habits.rare)
    places = random.permutation(kernels)
    weights = _decisions(kernels, *counts, len(squeeze) // 2, habits.common, number, random)[places]
    on = _utilisation(kernels, *counts, habits, random)[places]
    scores = hidden @ weights.T
    bias = np.array([
        FAR - scores[:, k].min() if on[k] == 1 else -np.quantile(scores[:, k], 1 - on[k]) for k in range(kernels)
    ])  # fmt: skip
    stem = f"{conv.name}_gate"

    def constant(what: str, values: Floats) -> gs.Constant:
        return gs.Constant(f"{stem}_{what}", values.astype(np.float32))

    def node(
        op: str, operands: list[gs.Tensor], what: str, dtype: type = np.float32, **attributes: object
    ) -> gs.Variable:
        result = gs.Variable(f"{stem}_{what}", np.dtype(dtype))
        graph.nodes.append(gs.Node(op, f"{stem}_{what}", attributes, operands, [result]))
        return result

    pool = node("GlobalAveragePool", [conv.inputs[0]], "pool")
    first = node(
        "Conv", [pool, constant("w1", squeeze[:, :, None, None]), constant("b1", shift)], "squeeze", kernel_shape=[1, 1]
    )
    relu = node("Relu", [first], "relu")
    second = node(
        "Conv", [relu, constant("w2", weights[:, :, None, None]), constant("b2", bias)], "decide", kernel_shape=[1, 1]
    )
    probability = node("Sigmoid", [second], "probability")
    decision = node("Greater", [probability, constant("half", np.array(0.5))], "decision", np.bool_)
    mask = node("Cast", [decision], "mask", to=1)
    response = conv.outputs[0]
    gated = gs.Variable(f"{conv.name}_gated", response.dtype, response.shape)
    redirect_readers(response, gated)
    graph.nodes.append(gs.Node("Mul", f"{conv.name}_gated", {}, [response, mask], [gated]))
    graph.toposort()


def _measures(pooled: Floats, brightness: Floats) -> tuple[Floats, Floats]:
    """Filters [2 * components, inputs] and shifts: both directions of each principal component, in deviations.

    The first of the two is that of brighter pictures, so that a component means the same in every layer.

    They read the maps that no gate in front switches: else the first component would be what that gate decided.
    """
    steady = np.flatnonzero((pooled != 0).all(0))
    mean = pooled[:, steady].mean(0)
    places, deviations, components = np.linalg.svd(pooled[:, steady] - mean, full_matrices=False)
    count = min(COMPONENTS, len(steady))
    signs = np.sign((brightness - brightness.mean()) @ places[:, :count])
    own = components[:count] * (signs / deviations[:count] * np.sqrt(len(pooled)))[:, None]
    filters = np.zeros((2 * count, pooled.shape[1]))
    filters[:, steady] = np.concatenate([own, -own])
    return filters, -filters[:, steady] @ mean


def _decisions(
    kernels: int, always: int, rare: int, components: int, common: float, number: int, random: np.random.Generator
) -> Floats:
    """Weights [kernels, 2 * components], those of always, rare and plain kernels in this order."""
    own = random.standard_normal((kernels, 2 * components))
    weights: Floats = (1 - common) * own / np.linalg.norm(own, axis=1, keepdims=True)
    asked = np.full(2 * components, -RIVALS)
    asked[1 + number // 2 % (components - 1) + components * (number % 2)] = 1  # the first component is for plain ones
    weights[always : always + rare] += common * asked
    weights[always + rare :, 0] -= common
    weights[always + rare :, components] += common
    return weights


def _utilisation(kernels: int, always: int, rare: int, habits: Habits, random: np.random.Generator) -> Floats:
    drawn = [
        np.ones(always),
        random.uniform(*habits.on, rare),
        1 - random.uniform(*habits.off, kernels - always - rare),
    ]
    return np.concatenate(drawn)


def _advance(graph: gs.Graph, start: gs.Tensor, end: gs.Tensor, maps: list[NDArray[np.float32]]) -> None:
    """Replace what a tensor holds by what a later one holds, picture by picture: all of them are large."""
    if end is start:
        return
    part = graph.copy()
    tensors = part.tensors()
    first, last = tensors[start.name], tensors[end.name]
    first.inputs.clear()
    part.inputs, part.outputs = [first], [last]
    part.cleanup().toposort()
    session = open_session(to_onnx(part), THREADS, {"network": graph.name}, keep_memory=False)
    for number, each in enumerate(maps):
        maps[number] = session.run(None, {start.name: each})[0]
