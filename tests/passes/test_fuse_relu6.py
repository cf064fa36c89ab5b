"""ReLU6 spelled with ReLU and Power is one Clip."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from golden_files import assert_golden
from graph_text import FP16, detector, network, operators, run
from hypothesis import given
from hypothesis import strategies as st

from deploycc.graph.text import to_text
from deploycc.importers import caffe

PASS = importlib.import_module("deploycc.passes.fuse_relu6")

MIRRORED = """<ir_version: 8, opset_import: ["": %d]>
g (float[1,2,2,2] x, float[1,2,1,1] minus, float[1,2,1,1] cap) => (float[1,2,2,2] y) {
  [relu] a = Relu (x)
  [neg] b = Mul (a, minus)
  [plus] c = Add (b, cap)
  [relu_b] d = Relu (c)
  [pos] e = Mul (d, minus)
  y = Add (e, cap)
}"""


def constants(cap: float) -> dict[str, np.ndarray]:
    return {"minus": np.full((1, 2, 1, 1), -1.0, np.float32), "cap": np.full((1, 2, 1, 1), cap, np.float32)}


@given(cap=st.sampled_from([6.0, 1.0, 0.25, 100.0]), opset=st.sampled_from([9, 13]), scale=st.sampled_from([1.0, 20.0]))
def test_clip_equals_the_two_mirrors(cap: float, opset: int, scale: float) -> None:
    source = network(MIRRORED % opset, constants(cap))
    x = scale * np.random.default_rng(1).normal(size=(1, 2, 2, 2)).astype(np.float32)
    (expected,) = run(source.graph, x)
    result = PASS.fuse_relu6(detector(source.graph.copy()), FP16)
    assert result.changed
    assert operators(result.detector.graph) == ["Clip"]
    # cap - (cap - r) rounds to the grid of values near cap; Clip does not
    np.testing.assert_allclose(
        run(result.detector.graph, x)[0], expected, rtol=0, atol=float(np.spacing(np.float32(cap)))
    )


def test_golden() -> None:
    source = network(MIRRORED % 13, constants(6.0))
    assert_golden("passes/fuse_relu6.before.txt", to_text(source.graph) + "\n")
    assert_golden("passes/fuse_relu6.after.txt", to_text(PASS.fuse_relu6(source, FP16).detector.graph) + "\n")


@pytest.mark.parametrize(
    "change",
    [
        ("e = Mul (d, minus)", "e = Mul (d, cap)"),  # not a mirror
        ("c = Add (b, cap)", "c = Sub (b, cap)"),  # mirrored at -cap
        ("a = Relu (x)", "a = Sigmoid (x)"),
        ("y = Add (e, cap)", "z = Add (e, cap) y = Add (z, b)"),  # the first mirror is read elsewhere
    ],
)
def test_anything_else_stays(change: tuple[str, str]) -> None:
    source = network(MIRRORED.replace(*change) % 13, constants(6.0))
    assert not PASS.fuse_relu6(source, FP16).changed


def test_both_spellings_of_the_trained_network_agree(assets: Path) -> None:
    folder = assets / "voc21_ssd_mobilenet"
    stock = caffe.load(folder / "voc21_ssd_mnv1_075_bvlc.prototxt", next(folder.glob("*bvlc*.caffemodel"), None))
    fused = PASS.fuse_relu6(detector(stock.graph.copy()), FP16).detector.graph
    assert operators(fused).count("Clip") == 35
    assert "Relu" not in operators(fused)
    for got, want in zip(run(fused), run(stock.graph), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
