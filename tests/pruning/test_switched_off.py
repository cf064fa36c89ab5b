"""Around kernels that are off, the others are refitted; what is off stays as it was trained."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from graph_text import network, run
from mutation import mutant
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.errors import InputError
from deploycc.pruning import switched_off

COUNT = 15
OFF = {
    "first": np.isin(np.arange(8), (1, 4, 6, 7)),
    "second": np.isin(np.arange(6), (0, 3)),
    "third": np.zeros(4, bool),
}

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


def gated(found: Detector) -> Detector:
    """The network while its gates switch kernels off."""
    zeros = {}
    tensors = found.graph.tensors()
    for layer, names in (("first", ("u", "ub")), ("second", ("v", "vb"))):
        for name in names:
            zeros[name] = tensors[name].values.copy()
            zeros[name][OFF[layer]] = 0
    return with_values(found, zeros)


def wrong(found: Detector, other: Detector, output: int) -> float:
    """Share of an output's energy that is wrong on new pictures."""
    errors, energy = 0.0, 0.0
    for number in range(COUNT, COUNT + 5):
        expected, got = run(found.graph, read(number))[output], run(other.graph, read(number))[output]
        errors, energy = errors + float(np.sum((got - expected) ** 2)), energy + float(np.sum(expected**2))
    return errors / energy


def errors_of(module: ModuleType = switched_off) -> tuple[float, float]:
    found = dependent()
    refitted = with_values(found, module.refit_without(found, OFF, read, COUNT))
    return tuple(max(wrong(found, gated(one), output) for output in (0, 2)) for one in (found, refitted))  # type: ignore[return-value]


def test_what_is_on_says_what_all_said() -> None:
    before, after = errors_of()
    assert before > 0.2
    assert after < 0.01


def test_what_is_off_stays_as_it_was_trained() -> None:
    found = dependent()
    trained = {
        name: tensor.values.copy() for name, tensor in found.graph.tensors().items() if hasattr(tensor, "values")
    }
    values = switched_off.refit_without(found, OFF, read, COUNT)
    for name, tensor in found.graph.tensors().items():
        if name in trained:
            np.testing.assert_array_equal(tensor.values, trained[name], err_msg=name)
    off, later_off = OFF["first"], OFF["second"]
    np.testing.assert_array_equal(values["v"][later_off], trained["v"][later_off])
    np.testing.assert_array_equal(values["vb"][later_off], trained["vb"][later_off])
    np.testing.assert_array_equal(values["w"][:, later_off], trained["w"][:, later_off])  # it reads nothing there
    assert not np.array_equal(values["w"][:, ~later_off], trained["w"][:, ~later_off])
    depthwise = values.get("db", trained["db"])  # the channel must be what it was when its gate opens
    np.testing.assert_array_equal(depthwise[off], trained["db"][off])


def test_layers_without_bias_and_before_all_gates_stay() -> None:
    found = dependent()
    assert not {"u", "ub", "p"} & set(switched_off.refit_without(found, OFF, read, COUNT))


def test_where_nothing_is_off_nothing_changes() -> None:
    found = dependent()
    assert switched_off.refit_without(found, {"first": np.zeros(8, bool)}, read, COUNT) == {}


def test_a_few_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        switched_off.refit_without(dependent(), OFF, read, 4)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("zeroed[off[name]] = 0", "zeroed[~off[name]] = 0"),
        ("rewired=off)", "rewired=())"),
        ("found[node.inputs[index].name] = values", "pass"),
    ],
)
def test_planted_bugs_are_caught(old: str, new: str) -> None:
    _, after = errors_of(mutant(switched_off, old, new))
    assert after > 0.01
