"""Kernels without their zero borders compute the same."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from channel_removal import NO_NETWORK
from examples import examples
from golden_files import assert_golden
from graph_text import network, run
from hypothesis import given, settings
from hypothesis import strategies as st
from mutation import find_example, mutant

from deploycc.detector import Detector
from deploycc.graph.cost import measure_cost
from deploycc.graph.text import to_text
from deploycc.importers import load
from deploycc.parsers.support import Contract
from deploycc.passes.options import Options

PASS = importlib.import_module("deploycc.passes.trim_kernels")
OPTIONS = Options(Contract("onnxruntime"))


def convolution(
    kernel: tuple[int, int],
    zeros: tuple[int, int, int, int],
    pads: list[int],
    dilations: list[int],
    group: int = 1,
    bordered: int = 4,
) -> Detector:
    """One convolution on a 9x11 map; so many of its 4 kernels have zero borders (top, left, bottom, right)."""
    weight = np.random.default_rng(3).uniform(0.5, 1.0, (4, 4 // group, *kernel)).astype(np.float32)
    top, left, bottom, right = zeros
    first = weight[:bordered]
    first[:, :, :top] = first[:, :, :, :left] = 0
    first[:, :, kernel[0] - bottom :] = first[:, :, :, kernel[1] - right :] = 0
    text = f"""<ir_version: 7, opset_import: ["": 13]>
    g (float[1,4,9,11] x, float[4,{4 // group},{kernel[0]},{kernel[1]}] w) => (float[1,4,h,v] y)
    {{ y = Conv <pads={pads}, dilations={dilations}, group={group}, strides=[2,1]> (x, w) }}"""
    return network(text, {"w": weight})


@st.composite
def convolutions(draw: st.DrawFn) -> Detector:
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    zeros = tuple(draw(st.integers(0, 2)) for _ in range(4))
    pads = [draw(st.integers(0, 3)) for _ in range(4)]
    dilations, group = [draw(st.integers(1, 2)), draw(st.integers(1, 2))], draw(st.sampled_from([1, 4]))
    return convolution(kernel, zeros, pads, dilations, group, draw(st.sampled_from([4, 1])))


def same(source: Detector, module: object = PASS) -> bool:
    """Return whether a copy with trimmed kernels computes the same."""
    copy = replace(source, graph=source.graph.copy())
    [expected] = run(source.graph)
    [got] = run(module.trim_kernels(copy, OPTIONS).detector.graph)  # type: ignore[attr-defined]
    return got.shape == expected.shape and np.allclose(got, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=examples(60))
@given(convolutions())
def test_trimmed_kernels_compute_the_same(source: Detector) -> None:
    before = measure_cost(source.graph).macs
    assert same(source)
    assert measure_cost(PASS.trim_kernels(source, OPTIONS).detector.graph).macs <= before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("pads[axes + axis] -= dilation", "pads[axis] -= dilation", id="padding of the other side"),
        pytest.param(
            "        pads[axis] -= dilation\n    while", "        pads[axis] -= 1\n    while", id="dilation forgotten"
        ),
        pytest.param("and not used[start] and", "and", id="taps that are used"),
        pytest.param("if not used.all():", "if not used.any():", id="taps that another kernel uses"),
        pytest.param("and pads[axis] >= dilation:", "and pads[axis]:", id="no padding left"),
    ],
)
def test_planted_bugs_are_caught(old: str, new: str) -> None:
    buggy = mutant(PASS, old, new)

    def shows(source: Detector) -> bool:
        try:
            return not same(source, buggy)
        except NO_NETWORK:  # a network that ONNX Runtime refuses shows the bug too
            return True

    shown = find_example(convolutions(), shows)
    assert shows(shown)
    assert same(shown)


def test_golden() -> None:
    source = convolution((4, 4), (1, 1, 0, 0), [1, 1, 1, 1], [1, 1])
    assert_golden("passes/trim_kernels.before.txt", to_text(source.graph) + "\n")
    result = PASS.trim_kernels(source, OPTIONS)
    assert result.changed
    assert_golden("passes/trim_kernels.after.txt", to_text(result.detector.graph) + "\n")


def test_a_kernel_of_zeros_keeps_one_tap() -> None:
    source = convolution((3, 3), (2, 0, 2, 0), [3, 3, 3, 3], [1, 1])
    PASS.trim_kernels(source, OPTIONS)
    assert min(source.graph.nodes[0].inputs[1].shape[2:]) == 1


def test_a_shared_kernel_stays_for_its_other_reader() -> None:
    text = """<ir_version: 7, opset_import: ["": 13]>
    g (float[1,1,4,4] x, float[1,1,3,3] w) => (float[1,1,4,4] y, float[1,1,2,2] z)
    { y = Conv <pads=[1,1,1,1]> (x, w) z = Conv (x, w) }"""
    weight = np.zeros((1, 1, 3, 3), np.float32)
    weight[0, 0, 1, 1] = 2
    source = network(text, {"w": weight})
    expected = run(source.graph)
    PASS.trim_kernels(source, OPTIONS)
    for got, want in zip(run(source.graph), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=0)
    assert [list(node.inputs[1].shape) for node in source.graph.nodes] == [[1, 1, 1, 1], [1, 1, 3, 3]]


def test_a_detector_written_for_caffe_gets_its_kernels_back(assets: Path) -> None:
    detector = load(assets / "voc21_ssd_mobilenet" / "voc21_ssd_mnv1_075.prototxt")
    as_onnx = measure_cost(load(assets / "voc21_ssd_mobilenet" / "voc21_ssd_mnv1_075_boxes.onnx").graph).macs
    more_priors = 19 * 19 * 384 * 3 * (4 + 21)  # the Caffe spelling lays three more at each place of the first map
    assert measure_cost(detector.graph).macs > as_onnx + more_priors
    result = PASS.trim_kernels(detector, OPTIONS)
    assert result.changed
    assert measure_cost(result.detector.graph).macs == as_onnx + more_priors
