"""Networks that multiply by their gates and that have branches, side by side: what the tests of the lowering compare."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from branching_networks import PATTERNS, Branching, Pattern
from channel_removal import NO_NETWORK
from graph_text import runner
from numpy.typing import NDArray
from onnx_graphsurgeon.util.exception import OnnxGraphSurgeonException

from deploycc.detector import Detector
from deploycc.documents.gate_plan import LayerPlan
from deploycc.parsers.support import Contract
from deploycc.passes.options import Options
from deploycc.passes.runner import Result

RTOL, ATOL = 1e-4, 1e-4

MODULE = importlib.import_module("deploycc.passes.lower_gates")  # the package hands out the function under this name


def lowered(detector: Detector, plan: Sequence[LayerPlan], *, plain: bool = False) -> Result:
    """A copy of the detector with the plan carried out, in plain conditionals if asked for."""
    copy = Detector(detector.graph.copy(), detector.input, detector.source)
    options = Options(Contract("onnxruntime"), gate_plan=tuple(plan), plain_conditionals=plain)
    result: Result = MODULE.lower_gates(copy, options)
    return result


def conditionals(graph: gs.Graph) -> list[gs.Node]:
    """Every `If`, nested ones included."""
    return [node for each in (graph, *graph.subgraphs(recursive=True)) for node in each.nodes if node.op == "If"]


def error(one: gs.Graph, other: gs.Graph, *pictures: NDArray[np.float32]) -> float:
    """Largest difference in units of the tolerance; infinity where the other does not run."""
    try:
        run_other = runner(other)
        outputs = [run_other(x) for x in pictures]
    except NO_NETWORK:
        return np.inf
    run_one = runner(one)
    expected = [run_one(x) for x in pictures]
    pairs = [pair for got, wanted in zip(outputs, expected, strict=True) for pair in zip(got, wanted, strict=True)]
    if any(a.shape != b.shape for a, b in pairs):
        return np.inf
    return max(float(np.max(np.abs(a - b) / (ATOL + RTOL * np.abs(b)), initial=0.0)) for a, b in pairs)


def lowering_error(made: Branching, patterns: Sequence[Pattern] = PATTERNS, *, plain: bool = False) -> float:
    """Multiplying against branches, over patterns of the gates, for the picture that they are set for and another."""
    worst = 0.0
    for pattern in patterns:
        detector = made.build(pattern)
        try:
            result = lowered(detector, made.plan(detector.graph), plain=plain)
        except (ValueError, IndexError, KeyError, OnnxGraphSurgeonException):
            return np.inf
        graph = result.detector.graph
        worst = max(worst, error(detector.graph, graph, made.picture(), -made.picture()))
    return worst
