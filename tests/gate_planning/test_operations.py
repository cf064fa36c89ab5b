"""The small networks behind the costs of branches, multiplications, padding, concatenation and zeros."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from deploycc.documents.costs import Operation, OperationTiming
from deploycc.gate_planning.operations import OPERATIONS, fit_lines, network

FEEDS = {
    "x": np.random.default_rng(0).standard_normal((1, 16, 6, 6), np.float32),
    "p": np.random.default_rng(1).standard_normal((1, 8, 6, 6), np.float32),
    "factors": np.full((1, 8, 1, 1), 2, np.float32),
}


def run(model: onnx.ModelProto, **changes: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {each.name: {**FEEDS, **changes}[each.name] for each in session.get_inputs()}
    result: np.ndarray = session.run(None, feeds)[0]
    return result


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("present", [False, True])
def test_the_networks_are_valid(operation: Operation, present: bool) -> None:
    model = network(operation, 8, 6, present)
    onnx.checker.check_model(model, full_check=True)
    half = FEEDS["p"][:, :4]
    assert np.isfinite(run(model, p=half if operation == "pad" else FEEDS["p"])).all()


def test_each_operation_does_what_it_is_called() -> None:
    plain = run(network("branch", 8, 6, False))
    np.testing.assert_allclose(run(network("branch", 8, 6, True)), plain, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run(network("multiply", 8, 6, True)), 2 * plain, rtol=1e-5, atol=1e-5)
    half = FEEDS["p"][:, :4]
    padded = run(network("pad", 8, 6, True), p=half)
    np.testing.assert_array_equal(padded[:, :4], run(network("pad", 8, 6, False), p=half))
    assert padded.shape[1] == 8
    assert not padded[:, 4:].any()
    assert not run(network("zeros", 8, 6, True)).any()
    assert [node.op_type for node in network("concat", 8, 6, True).graph.node].count("Conv") == 3


def test_the_branch_is_not_folded_away() -> None:
    model = network("branch", 8, 6, True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    session.run(None, {"x": FEEDS["x"], "factors": np.full((1, 8, 1, 1), -np.inf, np.float32)})  # the other branch
    branches = [attribute.g for node in model.graph.node if node.op_type == "If" for attribute in node.attribute]
    assert len(branches) == 2
    assert len({branch.output[0].name for branch in branches}) == 2


def timing(operation: Operation, elements: int, cost: float) -> OperationTiming:
    return OperationTiming(operation=operation, elements=elements, without_ms=(5.0, 1.0), with_ms=(1 + cost, 9.0))


def test_lines_are_fitted_to_the_least_times() -> None:
    timings = [timing("multiply", n, 0.02 + 1e-6 * n) for n in (1000, 30_000, 400_000)]
    timings += [timing("pad", n, 0.0) for n in (1000, 30_000)]
    lines = fit_lines(timings)
    assert lines["multiply"].fixed_ms == pytest.approx(0.02, rel=1e-6, abs=0)
    assert lines["multiply"].element_ms == pytest.approx(1e-6, rel=1e-6, abs=0)
    assert lines["multiply"](2000) == pytest.approx(0.022, rel=1e-6, abs=0)
    assert (lines["pad"].fixed_ms, lines["pad"].element_ms) == (0.0, 0.0)


def test_a_line_is_never_below_zero() -> None:
    falling = [timing("multiply", 1000, 0.5), timing("multiply", 100_000, 0.1)]
    line = fit_lines(falling)["multiply"]
    assert line.fixed_ms >= 0
    assert line.element_ms >= 0
    faster = OperationTiming(operation="multiply", elements=10, without_ms=(3.0,), with_ms=(2.0,))
    assert faster.cost_ms == 0
