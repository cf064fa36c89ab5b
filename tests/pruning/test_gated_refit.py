"""A network with gates is refitted to what it said without them."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graph_text import network, run
from mutation import mutant
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.errors import InputError
from deploycc.graph.edit import redirect_readers
from deploycc.graph.shapes import infer_shapes
from deploycc.pruning import gated_refit

COUNT = 15
OFF = {
    "first": np.isin(np.arange(8), (1, 4, 6, 7)),
    "second": np.isin(np.arange(6), (0, 3)),
}
MOODY = {"first": [4, 7], "second": [3]}
"""Of these, gates that decide differently in each picture."""

TEXT = """<ir_version: 8, opset_import: ["" : 13]>
n (float[1,3,9,8] x, float[8,3,3,3] u, float[8] ub, float[8,1,3,3] d, float[8] db, float[6,8,3,2] v, float[6] vb,
   float[4,6,1,1] w, float[4] wb, float[2,6,1,1] p, float[3,6,1,1] q, float[3] qb)
   => (float[1,4,height,width] y, float[1,2,height,width] z, float[1,3,height,width] t) {
 [first] a = Conv<pads=[1,1,1,1]>(x, u, ub)
 [relu] b = Relu(a)
 [depthwise] c = Conv<pads=[1,1,1,1], group=8>(b, d, db)
 [second] e = Conv<pads=[1,0,1,1], strides=[2,1]>(c, v, vb)
 [relu2] f = Relu(e)
 [third] y = Conv(f, w, wb)
 [plain] z = Conv(f, p)
 [fourth] t = Conv(f, q, qb)
}"""


def dependent() -> Detector:
    """What is off can be made of the rest: multiples of other kernels, a constant, and what is read twice."""
    random = np.random.default_rng(4)
    shapes = {"u": (8, 3, 3, 3), "d": (8, 1, 3, 3), "v": (6, 8, 3, 2), "w": (4, 6, 1, 1), "p": (2, 6, 1, 1)}
    shapes |= {"ub": (8,), "db": (8,), "vb": (6,), "wb": (4,), "q": (3, 6, 1, 1), "qb": (3,)}
    values = {name: random.normal(size=shape) for name, shape in shapes.items()}
    for kernel, factor, other in ((1, 0.5, 0), (4, 2.0, 2), (6, 1.5, 3), (7, 0.7, 5)):
        for name in ("u", "ub"):
            values[name][kernel] = factor * values[name][other]
        values["d"][kernel] = values["d"][other]
    values["v"][0], values["vb"][0] = 0.6 * values["v"][1], 0.6 * values["vb"][1]
    values["v"][3], values["vb"][3] = 0, 9.0
    return network(TEXT, {name: value.astype(np.float32) for name, value in values.items()})


def read(number: int) -> NDArray[np.float32]:
    return np.random.default_rng(100 + number).normal(size=(1, 3, 9, 8)).astype(np.float32)


def with_values(found: Detector, values: dict[str, NDArray[np.float32]]) -> Detector:
    graph = found.graph.copy()
    tensors = graph.tensors()
    for name, value in values.items():
        assert value.shape == tensors[name].values.shape
        tensors[name].values = value
    return replace(found, graph=graph)


def gated(found: Detector, moody: bool = True) -> Detector:
    """The network with gates behind the bias of two layers; where moody, some kernels are off in bright pictures only."""
    graph = found.graph.copy()
    nodes = {node.name: node for node in graph.nodes}
    for layer in ("first", "second"):
        response = nodes[layer].outputs[0]
        masked, pooled, decided, mask = (gs.Variable(f"{layer}/{what}", np.float32) for what in "mpdk")
        decided.dtype = np.dtype(bool)
        redirect_readers(response, masked)
        limit = np.where(OFF[layer], 9.0, -9.0)
        limit[MOODY[layer]] = 0.0 if moody else 9.0
        source = graph.inputs[0]
        mean = gs.Variable(f"{layer}/mean", np.float32)
        graph.nodes += [
            gs.Node("GlobalAveragePool", f"{layer}/pool", {}, [source], [pooled]),
            gs.Node("ReduceMean", f"{layer}/channels", {"axes": [1], "keepdims": 1}, [pooled], [mean]),
            gs.Node(
                "Greater",
                f"{layer}/decide",
                {},
                [mean, gs.Constant(f"{layer}/limit", limit.astype(np.float32).reshape(1, -1, 1, 1))],
                [decided],
            ),
            gs.Node("Cast", f"{layer}/cast", {"to": 1}, [decided], [mask]),
            gs.Node("Mul", f"{layer}/gate", {}, [response, mask], [masked]),
        ]
    graph.toposort()
    infer_shapes(graph)
    return replace(found, graph=graph)


def wrong(found: Detector, other: Detector, output: int) -> float:
    """Share of an output's energy that is wrong on new pictures."""
    errors, energy = 0.0, 0.0
    for number in range(COUNT, COUNT + 5):
        expected, got = run(found.graph, read(number))[output], run(other.graph, read(number))[output]
        errors, energy = errors + float(np.sum((got - expected) ** 2)), energy + float(np.sum(expected**2))
    return errors / energy


def errors_of(module: ModuleType = gated_refit, moody: bool = True) -> tuple[float, float]:
    found = dependent()
    plan = gated(found, moody)
    values = module.refit_gated(found, plan, read, COUNT)
    return tuple(max(wrong(found, one, output) for output in (0, 2)) for one in (plan, with_values(plan, values)))  # type: ignore[return-value]


def test_what_is_on_says_what_all_said() -> None:
    before, after = errors_of(moody=False)
    assert before > 0.2
    assert after < 0.01


def test_gates_that_differ_between_pictures_are_made_up_for_as_far_as_one_set_of_weights_can() -> None:
    before, after = errors_of()
    assert before > 0.1
    assert after < 0.6 * before
    found, plan = dependent(), gated(dependent())
    always = with_values(plan, gated_refit.refit_gated(found, gated(found, moody=False), read, COUNT))
    assert after < 0.9 * max(wrong(found, always, output) for output in (0, 2))


def test_the_networks_stay_as_they_are() -> None:
    found = dependent()
    plan = gated(found)
    before = [
        {name: tensor.values.copy() for name, tensor in one.graph.tensors().items() if hasattr(tensor, "values")}
        for one in (found, plan)
    ]
    assert gated_refit.refit_gated(found, plan, read, COUNT)
    for one, values in zip((found, plan), before, strict=True):
        for name, value in values.items():
            np.testing.assert_array_equal(one.graph.tensors()[name].values, value, err_msg=name)


def test_layers_without_bias_and_before_all_gates_stay() -> None:
    found = dependent()
    assert not {"u", "ub", "p"} & set(gated_refit.refit_gated(found, gated(found), read, COUNT))


def test_without_gates_nothing_changes() -> None:
    found = dependent()
    assert gated_refit.refit_gated(found, found, read, COUNT) == {}


def test_a_few_pictures_are_refused() -> None:
    found = dependent()
    with pytest.raises(InputError, match="too few"):
        gated_refit.refit_gated(found, gated(found), read, 4)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rewired=rewired)", "rewired=())"),
        ("found[node.inputs[index].name] = values", "pass"),
        ("reconstruct(network, refitted,", "reconstruct(refitted, refitted,"),
    ],
)
def test_planted_bugs_are_caught(old: str, new: str) -> None:
    _, after = errors_of(mutant(gated_refit, old, new), moody=False)
    assert after > 0.01
