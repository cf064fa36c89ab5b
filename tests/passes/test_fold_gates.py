"""Gates become constants: the network equals numpy's, wherever the gate multiplies."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import ModuleType

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from gated_networks import KERNELS, LAYOUTS, Spelling, gated, text_network
from graph_text import RTX, operators, run
from mutation import mutant
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.errors import ModelError
from deploycc.graph.gates.metadata import DescribedGate
from deploycc.graph.gates.search import Gate, find_gates
from deploycc.passes.options import Options, Prune

affine_module = importlib.import_module("deploycc.passes.fold_affine")  # its package offers the function instead
module = importlib.import_module("deploycc.passes.fold_gates")

RTOL, ATOL = 1e-4, 1e-4
COEFFICIENTS = np.array([0.0, 0.05, 0.2, 0.5, 0.8, 0.95, 1.0, 0.3])

BEHIND = {
    "relu6": ("Clip(c0, f_zero, f_two)", lambda y: np.clip(y, 0, 2), False),
    "clip-open": ("Clip(c0, f_zero)", lambda y: np.maximum(y, 0), True),
    "leaky": ("LeakyRelu<alpha=0.3>(c0)", lambda y: np.where(y < 0, 0.3 * y, y), True),
    "prelu": ("PRelu(c0, b4)", None, True),
    "sigmoid": ("Sigmoid(c0)", lambda y: 1 / (1 + np.exp(-y)), False),
    "average": ("AveragePool<kernel_shape=[2,2], strides=[2,2]>(c0)", None, True),
    "tanh": ("Tanh(c0)", np.tanh, False),
}
"""How c follows from c0; in numpy; whether a factor passes it."""


def behind(activation: str) -> Detector:
    """A gate behind an activation."""
    body = ["a = Conv<pads=[1,1,1,1]>(x, w_first)", "p = GlobalAveragePool(a)", "z = Conv(p, w_gate, b_gate)"]
    body += ["o = Greater(z, f_zero)", "m = Cast<to=1>(o)", "c0 = Conv<pads=[1,1,1,1]>(a, w, b)"]
    return text_network([*body, f"c = {BEHIND[activation][0]}", "y = Mul(c, m)", "out = Conv(y, w_last)"], seed=1)


def tensor(graph: gs.Graph, name: str) -> NDArray[np.float64]:
    """What the network computes for the seeded picture."""
    copy = graph.copy()
    copy.outputs = [copy.tensors()[name]]
    return run(copy.cleanup().toposort())[0].astype(np.float64)


def constant(graph: gs.Graph, name: str) -> NDArray[np.float64]:
    return np.asarray(graph.tensors()[name].values, np.float64).reshape(-1, 1, 1)


def expected(found: Detector, layout: str, c: NDArray[np.float64]) -> NDArray[np.float64]:
    """The output with constants in the gate's place, in numpy from the convolution's response on."""
    graph = found.graph
    held = {name: constant(graph, name) for name in ("b", "b4", "k", "k2", "v") if name in graph.tensors()}
    c = c.reshape(-1, 1, 1)

    def normalised(y: NDArray[np.float64]) -> NDArray[np.float64]:
        return held["k"] * (y - held["k2"]) / np.sqrt(held["v"] + 1e-5) + held["b"]

    relu = lambda y: np.maximum(y, 0)  # noqa: E731
    response = tensor(graph, "c0" if "c0" in graph.tensors() else "c")
    formulas = {
        "before-bias": lambda y: relu(c * y + held["b4"]),
        "after-bias": lambda y: relu(c * y),
        "bias-added": lambda y: relu(c * (y + held["b4"])),
        "before-batchnorm": lambda y: relu(normalised(c * y)),
        "after-batchnorm": lambda y: relu(c * normalised(y)),
        "after-activation": lambda y: c * relu(y),
        "pooled": lambda y: c * relu(y).reshape(1, KERNELS, 3, 2, 3, 2).max((3, 5)),
        **{name: lambda y, f=f: c * f(y) for name, (_, f, _) in BEHIND.items() if f is not None},
    }
    last = constant(graph, "w_last").reshape(2, KERNELS)
    return np.einsum("ok,nkhw->nohw", last, formulas[layout](response))


def folded(found: Detector, c: NDArray[np.float64], use: ModuleType = module, affine: bool = True) -> Detector:
    """A copy with the gate's constants folded as far as they go."""
    copy = replace(found, graph=found.graph.copy())
    use.replace_gates(copy, find_gates(copy.graph), {"gated": c})
    return affine_module.fold_affine(copy, Options(RTX)).detector if affine else copy


@pytest.mark.parametrize("product", ["right", "left", "where"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_place_of_the_gate(layout: str, product: str) -> None:
    found = gated(Spelling(layout=layout, product=product), seed=1)
    want = expected(found, layout, COEFFICIENTS)
    for affine in (False, True):
        small = folded(found, COEFFICIENTS, affine=affine)
        np.testing.assert_allclose(run(small.graph)[0], want, rtol=RTOL, atol=ATOL)
        assert find_gates(small.graph) == ()
    pooling = ["MaxPool"] if layout == "pooled" else []
    assert operators(small.graph) == ["Conv", "Conv", "Relu", *pooling, "Conv"]
    assert np.abs(want - expected(found, layout, np.ones(KERNELS))).max() > 0.1


@pytest.mark.parametrize("activation", [name for name, entry in BEHIND.items() if entry[1] is not None])
def test_activations_that_a_factor_passes_and_others(activation: str) -> None:
    found = behind(activation)
    small = folded(found, COEFFICIENTS, affine=False)
    np.testing.assert_allclose(run(small.graph)[0], expected(found, activation, COEFFICIENTS), rtol=RTOL, atol=ATOL)
    names = operators(small.graph)
    op = BEHIND[activation][0].partition("(")[0].partition("<")[0]
    assert (names.index("Mul") < names.index(op)) == BEHIND[activation][2]


@pytest.mark.parametrize("activation", ["prelu", "average"])
def test_a_factor_passes_these_too(activation: str) -> None:
    """Against the graph with the constants in the gate's place."""
    found = behind(activation)
    copy = found.graph.copy()
    multiply = next(node for node in copy.nodes if node.op == "Mul")
    multiply.inputs[1] = gs.Constant("c_values", COEFFICIENTS.astype(np.float32).reshape(1, -1, 1, 1))
    small = folded(found, COEFFICIENTS)
    np.testing.assert_allclose(run(small.graph)[0], run(copy.cleanup())[0], rtol=RTOL, atol=ATOL)
    assert "Mul" not in operators(small.graph)


def test_ones_leave_nothing_behind() -> None:
    found = gated(Spelling(layout="after-activation"), seed=1)
    weight = found.graph.tensors()["w"].values
    small = folded(found, np.ones(KERNELS), affine=False)
    assert operators(small.graph) == ["Conv", "Conv", "Relu", "Conv"]
    assert small.graph.nodes[1].inputs[1].values is weight


@pytest.mark.parametrize("wrong", [[-0.1] * KERNELS, [np.nan] * KERNELS, [0.5] * 3])
def test_wrong_coefficients_are_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="needs 8 finite coefficients"):
        folded(gated(Spelling()), np.array(wrong))


def described(gate: Gate) -> DescribedGate:
    names = {"layer": gate.layer, "conv": gate.layer, "multiply": gate.multiply, "mask": gate.vector}
    return DescribedGate(
        **names, place=gate.place, probability=gate.score, decision="o", threshold=0.5, granularity="kernel",
        kernels=gate.kernels, units=gate.units, unit_of=gate.unit_of,
    )  # fmt: skip


def test_the_description_of_a_folded_gate_leaves() -> None:
    found = gated(Spelling(layout="after-bias"), seed=1)
    found = replace(found, gates=tuple(described(gate) for gate in find_gates(found.graph)))
    options = Options(RTX, prune=Prune(coefficients={"gated": COEFFICIENTS.tolist()}))
    assert module.fold_gates(found, Options(RTX)).detector.gates == found.gates
    result = module.fold_gates(found, options)
    assert result.changed
    assert result.detector.gates == ()
    assert find_gates(result.detector.graph) == ()


def test_a_layer_without_a_gate_is_refused() -> None:
    options = Options(RTX, prune=Prune(coefficients={"other": [1.0]}))
    with pytest.raises(ModelError, match="prune-unknown-gate"):
        module.fold_gates(gated(Spelling()), options)


BUGS = {
    "the coefficient counts twice": ("values.reshape(1, -1, 1, 1)", "(values**2).reshape(1, -1, 1, 1)"),
    "a factor passes any Clip": ('if node.op != "Clip":', 'if True:\n        return node.op in _HOMOGENEOUS | {"Clip"}\n    if node.op != "Clip":'),
    "the product slides behind the next node": ("[response, factor], [result])", "[result, factor], [response])"),
    "an activation is left out": ("source, last = step.inputs[0], step", "source, last = step.inputs[0], producer(step.inputs[0])"),
    "the gate counts as always on": ("if (values == 1).all():", "if (values <= 1).all():"),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_show(bug: str) -> None:
    broken = mutant(module, *BUGS[bug])
    assert _worst(broken, affine_module) > 1
    assert _worst(module, affine_module) <= 1


AFFINE_BUGS = {
    "the bias is not scaled": ("new_bias = _scaled_bias(bias, scale) + shift", "new_bias = _scaled_bias(bias, np.ones_like(scale)) + shift"),
    "the wrong side of the shift": ("self.scale, after.scale * self.shift + after.shift", "self.scale, after.scale * (self.shift + after.shift)"),
}  # fmt: skip


@pytest.mark.parametrize("bug", AFFINE_BUGS)
def test_bugs_planted_in_the_fold_show(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploycc.graph import affine

    if bug == "the bias is not scaled":
        assert _worst(module, mutant(affine_module, *AFFINE_BUGS[bug])) > 1
    else:
        monkeypatch.setattr(affine.Affine, "then", mutant(affine, *AFFINE_BUGS[bug]).Affine.then)
        assert _worst(module, affine_module) > 1


def _worst(gates: ModuleType, affines: ModuleType) -> float:
    """Largest error over all places and activations, in units of the tolerance; infinite where a network breaks."""
    worst = 0.0
    networks = {layout: gated(Spelling(layout=layout), seed=1) for layout in LAYOUTS}
    networks |= {name: behind(name) for name, entry in BEHIND.items() if entry[1] is not None}
    for layout, found in networks.items():
        want = expected(found, layout, COEFFICIENTS)
        copy = replace(found, graph=found.graph.copy())
        try:
            gates.replace_gates(copy, find_gates(copy.graph), {"gated": COEFFICIENTS})
            got = run(affines.fold_affine(copy, Options(RTX)).detector.graph)[0]
        except Exception:  # a graph with a planted bug may break anywhere
            return np.inf
        worst = max(worst, float(np.max(np.abs(got - want) / (ATOL + RTOL * np.abs(want)))))
    return worst
