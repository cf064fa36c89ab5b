"""LKAM gates put into a network that was trained without: seeded weights, decisions calibrated on pictures.

Each gate is the real structure: global pooling, a 1x1 convolution to 16 channels, ReLU, a 1x1 convolution, sigmoid,
threshold, product with the convolution behind its bias. What is synthetic is what they decide: how often a kernel is on
is drawn, and the bias of its unit is the quantile that makes it so on the calibration pictures. Kernels that need a
picture more than others do so together, because the last weights have a common part.
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
HIDDEN = 16
FAR = 20.0


@dataclass(frozen=True)
class Habits:
    """How often kernels are on.

    Attributes:
        always: share of the kernels of a layer that are on in every picture.
        rare: share of them that are on in 5 to 15 % of the pictures.
        common: part of a decision that all kernels of a layer share, 0..1; the rest is each kernel's own.

    The kernels that are left are on in 20 to 95 % of the pictures.
    """

    always: float
    rare: float
    common: float


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
    for name in layers:
        conv = nodes[name]
        maps = _between(graph, at, conv.inputs[0], maps)
        at = conv.inputs[0]
        pooled = np.stack([each.mean((2, 3))[0] for each in maps])
        _insert(graph, conv, pooled, habits, random)
        infer_shapes(graph)
    graph.toposort()
    return replace(detector, graph=graph)


def _insert(graph: gs.Graph, conv: gs.Node, pooled: NDArray[np.float32], habits: Habits, random: np.random.Generator) -> None:
    inputs, kernels = pooled.shape[1], int(conv.outputs[0].shape[1])
    squeeze = random.standard_normal((HIDDEN, inputs)) / np.sqrt(inputs)
    hidden = pooled @ squeeze.T
    mean, deviation = hidden.mean(0), hidden.std(0) + 1e-6
    squeeze, shift = squeeze / deviation[:, None], 1 - mean / deviation  # around 1: ReLU leaves most of it alone
    hidden = np.maximum(pooled @ squeeze.T + shift, 0)
    weights = _decisions(kernels, habits, random)
    scores = hidden @ weights.T
    on = _utilisation(kernels, habits, random)
    bias = np.array([
        FAR - scores[:, k].min() if on[k] == 1 else -np.quantile(scores[:, k], 1 - on[k]) for k in range(kernels)
    ])  # fmt: skip
    stem = f"{conv.name}_gate"

    def constant(what: str, values: NDArray[np.float64]) -> gs.Constant:
        return gs.Constant(f"{stem}_{what}", values.astype(np.float32))

    def node(op: str, operands: list[gs.Tensor], what: str, dtype: type = np.float32, **attributes: object) -> gs.Variable:
        result = gs.Variable(f"{stem}_{what}", np.dtype(dtype))
        graph.nodes.append(gs.Node(op, f"{stem}_{what}", attributes, operands, [result]))
        return result

    pool = node("GlobalAveragePool", [conv.inputs[0]], "pool")
    first = node("Conv", [pool, constant("w1", squeeze[:, :, None, None]), constant("b1", shift)], "squeeze", kernel_shape=[1, 1])
    relu = node("Relu", [first], "relu")
    second = node("Conv", [relu, constant("w2", weights[:, :, None, None]), constant("b2", bias)], "decide", kernel_shape=[1, 1])
    probability = node("Sigmoid", [second], "probability")
    decision = node("Greater", [probability, constant("half", np.array(0.5))], "decision", np.bool_)
    mask = node("Cast", [decision], "mask", to=1)
    response = conv.outputs[0]
    gated = gs.Variable(f"{conv.name}_gated", response.dtype, response.shape)
    redirect_readers(response, gated)
    graph.nodes.append(gs.Node("Mul", f"{conv.name}_gated", {}, [response, mask], [gated]))
    graph.toposort()


def _decisions(kernels: int, habits: Habits, random: np.random.Generator) -> NDArray[np.float64]:
    """Weights [kernels, hidden]: the same direction for all, and one of each kernel's own."""
    shared = np.tile(random.standard_normal(HIDDEN), (kernels, 1))
    own = random.standard_normal((kernels, HIDDEN))
    weights: NDArray[np.float64] = habits.common * shared + (1 - habits.common) * own
    return weights


def _utilisation(kernels: int, habits: Habits, random: np.random.Generator) -> NDArray[np.float64]:
    always, rare = round(kernels * habits.always), round(kernels * habits.rare)
    drawn = [np.ones(always), random.uniform(0.05, 0.15, rare), random.uniform(0.2, 0.95, kernels - always - rare)]
    shuffled: NDArray[np.float64] = random.permutation(np.concatenate(drawn))
    return shuffled


def _between(
    graph: gs.Graph, start: gs.Tensor, end: gs.Tensor, maps: Sequence[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """What a tensor holds, from what an earlier one holds."""
    if end is start:
        return list(maps)
    part = graph.copy()
    tensors = part.tensors()
    first, last = tensors[start.name], tensors[end.name]
    first.inputs.clear()
    part.inputs, part.outputs = [first], [last]
    part.cleanup().toposort()
    session = open_session(to_onnx(part), THREADS, {"network": graph.name}, keep_memory=False)
    return [session.run(None, {start.name: each})[0] for each in maps]
