"""Refusals for TensorRT-RTX against the real TensorRT-RTX, if it is installed."""

from __future__ import annotations

import functools

import onnx
import onnx_graphsurgeon as gs
import pytest
from parser_networks import RULES, model, network

from deploycc.parsers.support import refusals
from deploycc.target import contract, load

RTX = contract(load("x86-rtx"))


@functools.cache
def rtx_builder():
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (extra `rtx`)")
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    return trt, logger, trt.Builder(logger)


def builds_for_rtx(proto: onnx.ModelProto) -> bool:
    """Return whether TensorRT-RTX parses a network and builds its engine, without a GPU."""
    trt, logger, builder = rtx_builder()
    network_ = builder.create_network()
    if not trt.OnnxParser(network_, logger).parse(proto.SerializeToString()):
        return False
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    return builder.build_serialized_network(network_, config) is not None


# Rules that TensorRT-RTX 1.7.1 does not confirm, and why they stay.
UNCONFIRMED = {
    "TopK with computed K": "an input that decides a shape needs an optimisation profile, which a single node does not show",
    "INT8 arithmetic": "documented as refused; without a constant it happens to build",
}


@pytest.mark.parametrize("case", RULES)
def test_tensorrt_rtx_builds_what_is_not_refused_and_nothing_else(case: str) -> None:
    body, opset, *_ = RULES[case]
    found = refusals(network(body, opset), RTX)
    agrees = builds_for_rtx(model(body, opset)) == (not found)
    assert agrees == (case not in UNCONFIRMED), (found, UNCONFIRMED.get(case))


@pytest.mark.parametrize("count", [3839, 3840, 3841])
def test_tensorrt_rtx_takes_the_largest_k_that_is_not_refused(count: int) -> None:
    body = f"(float[1,8732] x) => (float[1,n] y, int64[1,n] i) <int64[1] k = {{{count}}}> {{ y, i = TopK (x, k) }}"
    assert builds_for_rtx(model(body)) == (not refusals(network(body), RTX)) == (count <= 3840)


@pytest.mark.parametrize("rounding", ["floor", "round_prefer_floor", "round_prefer_ceil", "ceil"])
def test_tensorrt_rtx_reads_one_rounding_of_half_pixels_of_tensorflow(rounding: str) -> None:
    body = (
        '(float[1,1,2,2] x) => (float[1,1,4,4] y) <float[4] s = {1,1,2,2}> { y = Resize <mode="nearest",'
        f' coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="{rounding}"> (x, , s) }}'
    )
    refused = bool(refusals(network(body), RTX))
    assert refused == (rounding != "round_prefer_floor")
    assert builds_for_rtx(model(body)) != refused


@pytest.mark.parametrize("op", ["NonZero", "Det", "DeformConv", "RoiAlign", "Compress"])
def test_tensorrt_rtx_operators_that_do_not_build_are_refused(op: str) -> None:
    graph = gs.Graph([gs.Node(op, name="n", inputs=[], outputs=[])], opset=18)
    assert [r.node for r in refusals(graph, RTX)] == ["n"]
