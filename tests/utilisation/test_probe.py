"""Measurements inside the network agree with numpy on its tensors."""

from __future__ import annotations

import numpy as np
import pytest
from gated_networks import KERNELS, LAYOUTS, PRODUCTS, Spelling, gated, text_network
from graph_text import network, run

from deploycc.detector import Detector, SsdHeads
from deploycc.errors import MeasureError, ModelError
from deploycc.graph.cost import measure_cost
from deploycc.utilisation.probe import Probe, backend_macs, layers_to_probe

RTOL, ATOL = 1e-5, 1e-7  # FP32 sums of 36 squares

X = np.random.default_rng(4).normal(size=(1, 3, 6, 6)).astype(np.float32)


def tensors(detector: Detector, *names: str) -> list[np.ndarray]:
    graph = detector.graph.copy()
    graph.outputs = [graph.tensors()[name] for name in names]
    return run(graph.cleanup().toposort(), X)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("product", sorted(PRODUCTS))
def test_gated_layers_give_the_vector_and_the_response_before_it(layout: str, product: str) -> None:
    detector = gated(Spelling(layout=layout, product=product, group="gather"), seed=3)
    (layer,) = layers_to_probe(detector)
    assert layer.gate is not None
    (reading,) = Probe(detector, [layer]).read(X, "x")
    vector, response = tensors(detector, layer.gate.vector, layer.response)
    np.testing.assert_array_equal(reading.used, vector.reshape(-1).astype(np.float64))
    assert 0 < reading.used.sum() < KERNELS
    expected = (response.astype(np.float64) ** 2).mean((0, 2, 3))
    np.testing.assert_allclose(reading.squares, expected, rtol=RTOL, atol=ATOL)


def test_one_decision_for_the_layer_counts_for_every_kernel() -> None:
    body = ["a = Conv<pads=[1,1,1,1]>(x, w_first)", "c = Conv<pads=[1,1,1,1]>(a, w, b)", "p = GlobalAveragePool(a)", "z = ReduceMean<axes=[1]>(p)", "o = Greater(z, f_zero)", "m = Cast<to=1>(o)", "y = Mul(c, m)", "out = Conv(y, w_last)"]  # fmt: skip
    detector = text_network(body)
    (reading,) = Probe(detector, layers_to_probe(detector)).read(X, "x")
    assert reading.used.shape == (KERNELS,)
    assert len(set(reading.used)) == 1


PLAIN = """<ir_version: 8, opset_import: ["" : OPSET]>
plain (float[1,3,6,6] x, float[4,3,3,3] w1, float[4] b1, float[4,4,1,1] w2, float[4,4,1,1] w3, float[2,4,1,1] w4)
  => (float[1,2,6,6] out) {
  c1 = Conv<pads=[1,1,1,1]>(x, w1, b1)
  r1 = Relu(c1)
  c2 = Conv(r1, w2)
  l2 = LeakyRelu<alpha=0.1>(c2)
  c3 = Conv(l2, w3)
  s = Add(c3, r1)
  r3 = Relu(s)
  out = Conv(r3, w4)
}"""


@pytest.mark.parametrize("opset", [13, 18])
def test_without_gates_the_activation_of_each_convolution_is_read(opset: int) -> None:
    detector = network(PLAIN.replace("OPSET", str(opset)))
    layers = layers_to_probe(detector)
    facts = [(layer.response, layer.activation) for layer in layers]
    assert facts == [("r1", "Relu"), ("l2", "LeakyRelu"), ("c3", None), ("out", None)]
    readings = Probe(detector, layers).read(X, "x")
    for layer, reading in zip(layers, readings, strict=True):
        (response,) = tensors(detector, layer.response)
        np.testing.assert_allclose(reading.used, (response != 0).mean((0, 2, 3)), rtol=RTOL, atol=ATOL)
        expected = (response.astype(np.float64) ** 2).mean((0, 2, 3))
        np.testing.assert_allclose(reading.squares, expected, rtol=RTOL, atol=ATOL)
    assert readings[0].used.max() < readings[2].used.min()


def heads(detector: Detector) -> Detector:
    box, unit = np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
    return Detector(detector.graph, detector.input, detector.source, SsdHeads("loc", "conf", box, unit, 2))


TWO_HEADED = """<ir_version: 8, opset_import: ["" : 13]>
ssd (float[1,3,6,6] x, float[4,3,3,3] w1, float[4,4,1,1] w2, float[4,4,1,1] w3)
  => (float[1,4,6,6] loc, float[1,4,6,6] conf) {
  c1 = Conv<pads=[1,1,1,1]>(x, w1)
  r1 = Relu(c1)
  loc = Conv(r1, w2)
  conf = Conv(r1, w3)
}"""


def test_with_known_heads_only_the_backend_is_profiled() -> None:
    detector = network(TWO_HEADED)
    for index, node in enumerate(detector.graph.nodes):
        node.name = f"n{index}"
    assert [layer.name for layer in layers_to_probe(heads(detector))] == ["n0"]
    assert backend_macs(heads(detector)) == ("back-end", 36 * 4 * 27)
    assert backend_macs(detector) == ("network", 36 * 4 * (27 + 4 + 4))


def test_gate_modules_do_not_count_as_the_network() -> None:
    detector = gated(Spelling(layer="two"))
    assert backend_macs(detector) == ("network", measure_cost(detector.graph).macs - (3 * 4 + KERNELS * 3))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e25])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    detector = gated(Spelling())
    layers = layers_to_probe(detector)
    bad = X.copy()
    bad[0, 0, 0, 0] = value
    with pytest.raises(MeasureError) as caught:
        Probe(detector, layers).read(bad, "odd.jpg")
    assert caught.value.code == "response-not-finite"
    assert caught.value.context["picture"] == "odd.jpg"
    assert caught.value.context["layer"] == "gated"


def test_a_network_without_convolutions_is_refused() -> None:
    text = '<ir_version: 8, opset_import: ["" : 13]>\nn (float[1,3,6,6] x) => (float[1,3,6,6] y) {\n y = Relu(x)\n}'
    with pytest.raises(ModelError) as caught:
        layers_to_probe(network(text))
    assert caught.value.code == "profile-no-layers"
