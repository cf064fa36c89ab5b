"""Removing channels and masking them with zeros, for the tests of channel removal to compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from graph_text import run
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, RuntimeException

from deploycc.graph.channels import constants as channel_constants
from deploycc.graph.channels import labels, removal
from deploycc.graph.channels.carriers import pick_carriers
from deploycc.graph.channels.groups import ChannelGroups, layer_names, node_key

# One percent of a channel's contribution is far more than this; float32 sums in another order are far less.
RTOL, ATOL = 1e-4, 1e-4


# What ONNX Runtime raises on a graph that is not a valid network.
NO_NETWORK = (
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    Fail,
    InvalidArgument,
    InvalidGraph,
    RuntimeException,
)


@dataclass(frozen=True)
class Parts:
    """The functions under test; a test of a planted bug replaces one."""

    groups: Callable[..., ChannelGroups] = labels.channel_groups
    constants: Callable[..., Any] = channel_constants.channel_constants
    removable: Callable[..., Any] = channel_constants.removable
    remove: Callable[..., Any] = removal.remove_channels


def masked(graph: gs.Graph, groups: ChannelGroups, gone: Iterable[int]) -> gs.Graph:
    """A copy in which every reader sees zeros in the place of these groups."""
    copy = graph.copy()
    nodes = {node_key(node): node for node in copy.nodes}
    out = set(gone)
    for number, read in enumerate(groups.reads):
        mask = np.array([group not in out for group in read.groups], np.float32)
        if mask.all():
            continue
        node = nodes[read.node]
        seen = node.inputs[read.index]
        shape = [-1 if axis == read.axis else 1 for axis in range(len(seen.shape))]
        zeros = gs.Variable(f"masked{number}", seen.dtype, seen.shape)
        factor = gs.Constant(f"mask{number}", mask.reshape(shape))
        copy.nodes.append(gs.Node("Mul", f"mask{number}", inputs=[seen, factor], outputs=[zeros]))
        node.inputs[read.index] = zeros
    return copy.toposort()


def zeroed(graph: gs.Graph, kernels: dict[str, tuple[int, ...]]) -> gs.Graph:
    """A copy whose layers' outputs are multiplied by zero at these kernels: what the pass promises to equal."""
    copy = graph.copy()
    for node, name in list(layer_names(copy.nodes)):
        if name in kernels:
            out = node.outputs[0]
            axis = len(out.shape) - 1 if node.op == "MatMul" else 1
            mask = np.ones(out.shape[axis], np.float32)
            mask[list(kernels[name])] = 0
            mask = mask.reshape([-1 if index == axis else 1 for index in range(len(out.shape))])
            inner = gs.Variable(f"{out.name}_whole", np.float32, out.shape)
            factor = gs.Constant(f"{out.name}_mask", mask)
            node.outputs = [inner]
            copy.nodes.append(gs.Node("Mul", f"{name}_mask", inputs=[inner, factor], outputs=[out]))
    return copy.toposort()


def choice(groups: ChannelGroups, seed: int, share: float = 0.4) -> list[int]:
    """Return a seeded choice of removable groups, at least one if there are any."""
    free = groups.free
    count = min(len(free), max(1, round(share * len(free))))
    return sorted(np.random.default_rng(seed).choice(free, count, replace=False).tolist()) if count else []


def error(got: list[NDArray[Any]], expected: list[NDArray[Any]]) -> float:
    """Largest error in units of the tolerance."""
    worst = 0.0
    for a, b in zip(got, expected, strict=True):
        if a.shape != b.shape:
            return np.inf
        worst = max(worst, float(np.max(np.abs(a - b) / (ATOL + RTOL * np.abs(b)), initial=0.0)))
    return worst


def _run(graph: gs.Graph) -> list[NDArray[Any]] | None:
    """Outputs; None if the graph is not a valid network."""
    try:
        return run(graph)
    except NO_NETWORK:
        return None


def removal_error(graph: gs.Graph, seed: int, parts: Parts = Parts()) -> tuple[float, int]:
    """Removed against masked: the error in units of the tolerance, and how many groups went."""
    groups = parts.groups(graph)
    cut = graph.copy()
    try:
        result = parts.remove(cut, groups, choice(groups, seed))
    except (ValueError, IndexError):
        return np.inf, 0
    got = _run(cut)
    return np.inf if got is None else error(got, run(masked(graph, groups, result.groups))), len(result.groups)


def kill(graph: gs.Graph, seed: int, share: float = 0.4) -> gs.Graph:
    """A copy in which the weights of some kernels are zero; their biases stay."""
    copy, random = graph.copy(), np.random.default_rng(seed)
    for node in copy.nodes:
        if node.op in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            weight = np.array(node.inputs[1].values)
            axis = 0 if node.op == "Conv" or node.attrs.get("transB", 0) else 1
            dead = random.random(weight.shape[axis]) < share
            np.moveaxis(weight, axis, 0)[dead] = 0
            node.inputs[1].values = weight
            if len(node.inputs) > 2 and random.random() < 0.5:  # some of them entirely dead
                bias = np.array(node.inputs[2].values)
                bias[np.resize(dead, bias.shape)] = 0
                node.inputs[2].values = bias
    return copy


def dead_error(graph: gs.Graph, parts: Parts = Parts()) -> tuple[float, int]:
    """Dead channels removed against the network as it was: error in units of the tolerance, and groups that went."""
    groups = parts.groups(graph)
    cut = graph.copy()
    try:
        constants = parts.constants(graph, groups)
        result = parts.remove(cut, groups, parts.removable(graph, groups, constants).groups, constants)
    except (ValueError, IndexError):
        return np.inf, 0
    got = _run(cut)
    return np.inf if got is None else error(got, run(graph)), len(result.groups)


def carried_error(graph: gs.Graph, parts: Parts = Parts()) -> tuple[float, int]:
    """As `dead_error`, with carriers of constants; the groups that went only because of them."""
    groups = parts.groups(graph)
    cut = graph.copy()
    try:
        constants = parts.constants(graph, groups)
        alone = parts.removable(graph, groups, constants).groups
        use = {group: float(group * 7 % 5) for group in range(groups.count)}
        constants = replace(constants, carriers=pick_carriers(graph, groups, constants, use))
        together = parts.removable(graph, groups, constants).groups
        parts.remove(cut, groups, together, constants)
    except (ValueError, IndexError):
        return np.inf, 0
    got = _run(cut)
    return np.inf if got is None else error(got, run(graph)), len(together - alone)
