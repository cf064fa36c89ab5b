"""How long two convolutions in a row take whose first is gated: dense, multiplied by the gate, and as branches.

    python tests/benchmarks/bench_gate_branches.py [CHANNELS [SIZE]]

3x3 convolutions, 256 channels on 75x75 maps by default, in ONNX Runtime with two threads. The networks take turns, so
that whatever else the machine does meets all of them; the median counts. Joined branches compute the second convolution
from the active channels only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort
from numpy.typing import NDArray

from deploycc.detector import Detector, InputSpec, Source
from deploycc.documents.gate_plan import LayerPlan
from deploycc.graph.export import to_onnx
from deploycc.graph.shapes import infer_shapes
from deploycc.parsers.support import Contract
from deploycc.passes.lower_gates import lower_gates
from deploycc.passes.options import Options
from deploycc.timing.turns import time_in_turns

ROUNDS = 15
QUARTERS = (1, 2, 3, 4)


def gated_pair(channels: int, size: int, active: int, *, gate: bool = True) -> Detector:
    """Two convolutions with ReLUs; the first ``active`` kernels of the first are on, whatever the picture."""
    random = np.random.default_rng(0)
    nodes: list[gs.Node] = []

    def node(op: str, name: str, *operands: gs.Tensor, **attrs: object) -> gs.Variable:
        result = gs.Variable(f"{name}_out", np.dtype(np.bool_ if op == "Greater" else np.float32))
        nodes.append(gs.Node(op, name, attrs, list(operands), [result]))
        return result

    def weight(name: str, *shape: int) -> gs.Constant:
        return gs.Constant(name, random.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32))

    x = gs.Variable("x", np.float32, [1, channels, size, size])
    made = node("Conv", "first", x, weight("w1", channels, channels, 3, 3), weight("b1", channels), pads=[1, 1, 1, 1])
    if gate:
        bias = np.where(np.arange(channels) < active, 1e4, -1e4).astype(np.float32)
        score = node("Conv", "decide", node("GlobalAveragePool", "pool", x), weight("wg", channels, channels, 1, 1),
                     gs.Constant("bg", bias))  # fmt: skip
        half = gs.Constant("half", np.array(0.5, np.float32))
        above = node("Greater", "above", node("Sigmoid", "sigmoid", score), half)
        made = node("Mul", "switch", made, node("Cast", "vector", above, to=1))
    made = node("Relu", "relu1", made)
    w2, b2 = weight("w2", channels, channels, 3, 3), weight("b2", channels)
    made = node("Conv", "second", made, w2, b2, pads=[1, 1, 1, 1])
    made = node("Relu", "relu2", made)
    graph = gs.Graph(nodes, [x], [made], opset=13, ir_version=8)
    infer_shapes(graph)
    return Detector(graph, InputSpec("x", size, size), Source(("benchmark",), "0" * 64, "onnx"))


def plan(channels: int, *, joined: bool) -> tuple[LayerPlan, ...]:
    """Prefix widths of quarters; the second convolution inside the branches or after them."""
    order = tuple(range(channels))
    first = LayerPlan(layer="first", lowering="widths", order=order, sizes=tuple(channels * q // 4 for q in QUARTERS))
    second = LayerPlan(layer="second", lowering="widths", order=order, sizes=(channels,), joined=True)
    return (first, second) if joined else (first,)


def run_of(detector: Detector) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Load a network in ONNX Runtime: from its input to its output."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = to_onnx(detector.graph).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def main() -> int:
    channels, size = (int(sys.argv[number]) if len(sys.argv) > number else each for number, each in ((1, 256), (2, 75)))
    x = np.random.default_rng(1).normal(size=(1, channels, size, size)).astype(np.float32)
    runs = {("dense", 4): run_of(gated_pair(channels, size, 0, gate=False))}
    plans = {"multiply": (), "padded": plan(channels, joined=False), "joined": plan(channels, joined=True)}
    for quarter in QUARTERS:
        for name, layers in plans.items():
            detector = gated_pair(channels, size, channels * quarter // 4)
            options = Options(Contract("onnxruntime"), gate_plan=layers)
            runs[name, quarter] = run_of(lower_gates(detector, options).detector)
            np.testing.assert_allclose(
                runs[name, quarter](x), runs["multiply", quarter](x), rtol=1e-4, atol=1e-4, err_msg=name
            )
    samples_ms = time_in_turns(runs, [x], most_rounds=ROUNDS)
    median_ms = {key: float(np.median(samples)) for key, samples in samples_ms.items()}
    print(f"two {channels}->{channels} 3x3 on {size}x{size}, {ROUNDS} rounds, median ms")
    print(f"dense    {median_ms['dense', 4]:37.1f}")
    print("active   " + "".join(f"{channels * quarter // 4:10d}" for quarter in QUARTERS))
    for name in plans:
        print(f"{name:9}" + "".join(f"{median_ms[name, quarter]:10.1f}" for quarter in QUARTERS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
