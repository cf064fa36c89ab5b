"""What does reading the sensors cost an engine that is being timed?

Goal: less than 1 % of the latency of an engine of 5 ms, measured in turns: a block while the sensors are read, as the
agent reads them, and a block while they are not, in changing order.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from deploycc.agent import telemetry

GOAL = 0.01
PICTURE_MS = 5.0
_AGENTS_RUN_S = 10.0  # what a valid measurement takes: the period is the agent's own


def engine() -> Callable[[], object]:
    """Return a network that takes about 5 ms here, as a function that runs one picture."""
    layers = 1
    while True:
        run = network(layers)
        for _ in range(10):
            run()
        start = time.perf_counter()
        for _ in range(20):
            run()
        milliseconds = (time.perf_counter() - start) * 50
        if milliseconds >= PICTURE_MS * 0.8:
            return run
        layers = max(layers + 1, round(layers * PICTURE_MS / milliseconds))


def network(layers: int) -> Callable[[], object]:
    """Return a stack of 3x3 convolutions over 32 channels of 64x64."""
    random = np.random.default_rng(0)
    names = [f"t{number}" for number in range(layers + 1)]
    weights = [
        numpy_helper.from_array(random.standard_normal((32, 32, 3, 3)).astype(np.float32) / 17, f"w{number}")
        for number in range(layers)
    ]
    nodes = [
        helper.make_node("Conv", [names[number], f"w{number}"], [names[number + 1]], pads=[1, 1, 1, 1])
        for number in range(layers)
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 32, 64, 64)) for name in (names[0], names[-1])]
    graph = helper.make_graph(nodes, "stack", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    picture = {names[0]: random.standard_normal((1, 32, 64, 64)).astype(np.float32)}
    return lambda: session.run(None, picture)


def block(run: Callable[[], object], seconds: float) -> float:
    """Return the mean latency of a block, in milliseconds."""
    begin = time.perf_counter()
    count = 0
    while time.perf_counter() - begin < seconds:
        run()
        count += 1
    return (time.perf_counter() - begin) / count * 1e3


def main() -> int:
    """Take turns, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="pairs of blocks (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each block (default: %(default)s)")
    arguments = parser.parse_args()
    telemetry.starter = lambda: [sys.executable, "-m", "deploycc.agent"]
    run = engine()
    block(run, 1.0)
    with_ms, without_ms = [], []
    for number in range(arguments.rounds):
        for watched in (True, False) if number % 2 else (False, True):
            if watched:
                with telemetry.Recorder(expected_s=_AGENTS_RUN_S):
                    with_ms.append(block(run, arguments.seconds))
            else:
                without_ms.append(block(run, arguments.seconds))
    changes = [one / other - 1 for one, other in zip(with_ms, without_ms, strict=True)]
    change = statistics.median(changes)
    print(f"without {statistics.median(without_ms):.3f} ms, with {statistics.median(with_ms):.3f} ms per picture")
    print(f"median change {change:+.2%} over {len(changes)} pairs (from {min(changes):+.2%} to {max(changes):+.2%})")
    print(f"{'met' if change < GOAL else 'MISSED'}: under {GOAL:.0%}")
    return 0 if change < GOAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
