"""Gates are found in every spelling, and nothing that only resembles a gate is found."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from branching_networks import Block, Branching, Wish
from examples import examples
from gated_networks import DECISIONS, KERNELS, LAYERS, PLACES, POOLS, Spelling, gated, text_network
from graph_text import picture, run
from hypothesis import given, settings
from mutation import find_example, mutant
from strategies import gate_spellings

from deploycc.detector import Detector
from deploycc.graph.gates import search as gates_module
from deploycc.graph.gates.metadata import DescribedGate, read_entry, write_entry
from deploycc.graph.gates.search import Gate, find_gates, search_gates
from deploycc.importers import load

GATE = ["p = GlobalAveragePool(a)", LAYERS["two"], "s = Sigmoid(z)"]
FIRST = "a = Conv<pads=[1,1,1,1]>(x, w_first)"
CONV = "c = Conv<pads=[1,1,1,1]>(a, w, b)"
LAST = "out = Conv(y, w_last)"
ON = "o = Greater(s, f_half)\n m = Cast<to=1>(o)"


def only(detector: Detector) -> Gate:
    gates, notes = search_gates(detector.graph)
    assert notes == ()
    (gate,) = gates
    return gate


def refused(body: list[str]) -> str:
    detector = text_network(body)
    gates, notes = search_gates(detector.graph)
    assert gates == ()
    run(detector.graph)  # the near-miss is a network that runs
    return notes[0].code if notes else ""


@given(gate_spellings())
@settings(max_examples=examples(60))
def test_every_spelling_is_found_and_read(spelling: Spelling) -> None:
    detector = gated(spelling)
    gate = only(detector)
    assert gate.layer == "gated"
    assert (gate.kernels, gate.units, gate.unit_of) == (KERNELS, spelling.units, spelling.unit_of)
    assert gate.granularity == ("kernel" if spelling.group is None else "block")
    assert gate.place == PLACES[spelling.layout]
    assert gate.threshold == pytest.approx(DECISIONS[spelling.decision][1], rel=0, abs=1e-6)
    assert gate.reads == ("a",)
    assert gate.source == "structure"
    tensors = detector.graph.tensors()
    (multiply,) = (node for node in detector.graph.nodes if node.name == gate.multiply)
    assert {gate.response, gate.vector} <= {tensor.name for tensor in multiply.inputs}
    assert tensors[gate.response].shape[1] == KERNELS
    own = {node.name for node in detector.graph.nodes} - {"Conv_0", "gated", gate.multiply}
    assert set(gate.nodes) < own
    hidden = 3 * 4 + spelling.units * 3
    assert gate.macs == (hidden if spelling.layer == "two" else spelling.units * 4)


@given(gate_spellings())
@settings(max_examples=examples(40))
def test_the_vector_found_switches_the_layer(spelling: Spelling) -> None:
    """Whatever the network computes: with the vector as found, response times vector is the product."""
    detector = gated(spelling)
    gate = only(detector)
    graph = detector.graph.copy()
    tensors = graph.tensors()
    (multiply,) = (node for node in graph.nodes if node.name == gate.multiply)
    product = multiply.outputs[0]
    if tensors[gate.vector].dtype == np.bool_:
        vector = gs.Variable("vector_float", np.float32)
        graph.nodes.append(gs.Node("Cast", "vector_cast", {"to": 1}, [tensors[gate.vector]], [vector]))
    else:
        vector = tensors[gate.vector]
    vector.shape = [1, KERNELS, 1, 1]
    graph.outputs = [tensors[gate.response], vector, product]
    response, on, switched = run(graph.cleanup(), picture(detector.graph))
    assert set(np.unique(on)) <= {0.0, 1.0}
    np.testing.assert_array_equal(response * on, switched)


@pytest.mark.parametrize(
    ("expected", "body"),
    [
        ("gate-soft", [FIRST, CONV, *GATE, "y = Mul(c, s)", LAST]),
        ("gate-soft", [FIRST, CONV, *GATE, "m = Clip(z, f_zero, f_one)", "y = Mul(c, m)", LAST]),
        ("gate-not-binary", [FIRST, CONV, *GATE, ON, "m2 = Add(m, f_half)", "y = Mul(c, m2)", LAST]),
        ("gate-not-binary", [FIRST, CONV, *GATE, "d = Sub(s, f_half)", "m = Sign(d)", "y = Mul(c, m)", LAST]),
        ("gate-not-binary", [FIRST, CONV, *GATE, "d = Mul(s, f_two)", "m = Round(d)", "y = Mul(c, m)", LAST]),
        ("gate-soft", [FIRST, CONV, *GATE, "m = Round(z)", "y = Mul(c, m)", LAST]),
        ("gate-soft", [FIRST, CONV, *GATE, ON, "m2 = Mul(m, s)", "y = Mul(c, m2)", LAST]),
        ("gate-reads-own-output", [FIRST, CONV, "p = GlobalAveragePool(c)", "z = Sigmoid(p)", "o = Greater(z, f_half)", "m = Cast<to=1>(o)", "y = Mul(c, m)", LAST]),
        ("gate-no-convolution", [FIRST, CONV, *GATE, ON, "d = Conv<pads=[1,1,1,1]>(a, w)", "c2 = Add(c, d)", "y = Mul(c2, m)", LAST]),
        ("gate-no-convolution", [FIRST, "h1 = Conv(a, w_hidden)", "h2 = Concat<axis=1>(a, a)", *GATE, ON, "y = Mul(h2, m)", LAST]),
        ("gate-leaks", [FIRST, CONV, *GATE, ON, "y0 = Mul(c, m)", "y = Add(y0, c)", LAST]),
        ("gate-leaks", [FIRST, CONV, "c1 = Relu(c)", *GATE, ON, "y0 = Mul(c1, m)", "n = Neg(c)", "y = Add(y0, n)", LAST]),
        ("", [FIRST, CONV, "p = ReduceMax<axes=[1], keepdims=1>(a)", "s = Sigmoid(p)", ON, "y = Mul(c, m)", LAST]),
        ("", [FIRST, CONV, "s = Sigmoid(c)", ON, "y = Mul(c, m)", LAST]),
        ("", [FIRST, CONV, "c1 = Sigmoid(c)", "y = Mul(c, c1)", LAST]),
        ("", [FIRST, CONV, "y = Mul(c, b4)", LAST]),
    ],
)  # fmt: skip
def test_near_misses_are_no_gates(expected: str, body: list[str]) -> None:
    assert refused(body) == expected


def test_a_gate_for_the_columns_is_no_gate_for_the_kernels() -> None:
    """Eight columns and eight kernels: a factor of eight elements on the last axis weighs columns."""
    wide = CONV.replace("[1,1,1,1]", "[1,2,1,2]")
    columns = [FIRST, wide, *GATE, ON, "mw = Transpose<perm=[0,3,2,1]>(m)", "y = Mul(c, mw)", LAST]
    assert refused(columns) == ""


def test_a_decision_that_is_always_on_is_no_gate() -> None:
    body = [FIRST, CONV, *GATE, "o = Less(s, f_two)", "m = Cast<to=1>(o)", "y = Mul(c, m)", LAST]
    assert refused(body) == "gate-not-binary"


def test_one_decision_for_the_whole_layer() -> None:
    body = [FIRST, CONV, "p = GlobalAveragePool(a)", "z = ReduceMean<axes=[1]>(p)", "o = Greater(z, f_zero)", "m = Cast<to=1>(o)", "y = Mul(c, m)", LAST]  # fmt: skip
    gate = only(text_network(body))
    assert (gate.units, gate.unit_of, gate.granularity) == (1, (0,) * KERNELS, "block")


@pytest.mark.parametrize("falls", [True, False])
def test_nested_units_are_one_number_with_falling_offsets(falls: bool) -> None:
    row = np.random.default_rng(1).normal(size=(1, 3, 1, 1)).astype(np.float32)
    offsets = np.float32([1, 0.5, -0.5, -1] if falls else [1, -0.5, 0.5, -1])
    detector = gated(Spelling(group="gather"), {"w_out": np.repeat(row, 4, 0), "b_gate": offsets})
    assert only(detector).granularity == ("nested" if falls else "block")


def test_a_constant_that_switches_some_kernels_off_makes_each_its_own() -> None:
    """Kernels of a unit no longer fire together."""
    body = [FIRST, CONV, *GATE, "o = Greater(s, f_half)", "g = Cast<to=1>(o)", "m0 = Gather<axis=1>(g, i_unit_of)", "m = Mul(m0, b4)", "y = Mul(c, m)", LAST]  # fmt: skip
    some = np.float32([0, 1] * 4).reshape(1, 8, 1, 1)
    detector = text_network(body, 4, {"b4": some})
    assert only(detector).units == KERNELS


def test_a_shared_pool_belongs_to_no_gate() -> None:
    body = [FIRST, CONV, *GATE, ON, "y0 = Mul(c, m)", "u = Conv(p, w_gate)", "y = Add(y0, u)", LAST]
    gate = only(text_network(body))
    assert [name.split("_")[0] for name in gate.nodes] == ["Conv", "Relu", "Conv", "Sigmoid", "Greater", "Cast"]


def test_pools_differ_and_all_are_read() -> None:
    assert {only(gated(Spelling(pool=pool))).reads for pool in POOLS} == {("a",)}


# ---- metadata of the file -----------------------------------------------------------------------------------------------


def description(detector: Detector, **changes: object) -> DescribedGate:
    gate = find_gates(detector.graph)[0]
    facts: dict[str, object] = {
        "layer": "backend.1", "conv": gate.layer, "multiply": gate.multiply, "place": "after-bias",
        "probability": "s", "decision": "o", "mask": gate.vector, "threshold": 0.5, "granularity": "block",
        "kernels": 8, "units": 4, "unit_of": (0, 0, 1, 1, 2, 2, 3, 3),
    }  # fmt: skip
    return DescribedGate.model_validate({**facts, **changes})


def test_a_description_that_fits_is_taken() -> None:
    detector = gated(Spelling(group="gather"))
    gates, notes = search_gates(detector.graph, [description(detector, granularity="nested")])
    assert notes == ()
    assert (gates[0].source, gates[0].granularity) == ("metadata", "nested")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"conv": "other"}, "convolution"),
        ({"kernels": 16}, "kernels"),
        ({"unit_of": (0, 1, 2, 3, 0, 1, 2, 3)}, "unit of each kernel"),
        ({"threshold": 0.4}, "threshold"),
        ({"multiply": "gone"}, "does not hold one"),
    ],
)
def test_a_description_that_contradicts_the_network_is_not_believed(changes: dict[str, object], reason: str) -> None:
    detector = gated(Spelling(group="gather"))
    gates, notes = search_gates(detector.graph, [description(detector, **changes)])
    assert [gate.source for gate in gates] == ["structure"]
    assert [note.code for note in notes] == ["gate-metadata"]
    assert reason in notes[0].reason


def test_the_entry_is_read_back_and_checked() -> None:
    detector = gated(Spelling(group="gather"))
    entry = write_entry((description(detector),))
    assert read_entry(entry) == (description(detector),)
    assert read_entry(entry.replace('"block"', '"group"')) == (description(detector),)  # as version 0.1 wrote it
    with pytest.raises(ValueError, match="units"):
        read_entry(entry.replace('"units":4', '"units":"4"'))
    with pytest.raises(ValueError, match="schema_version"):
        read_entry(entry.replace('"schema_version":1', '"schema_version":2'))


# ---- other importers --------------------------------------------------------------------------------------------------

CAFFE = """
name: "gated"
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "first" type: "Convolution" bottom: "data" top: "first" convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "pool" type: "Pooling" bottom: "first" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "decide" type: "Convolution" bottom: "pool" top: "decide" convolution_param { num_output: 6 kernel_size: 1 } }
layer { name: "sigmoid" type: "Sigmoid" bottom: "decide" top: "sigmoid" }
THRESHOLD
layer { name: "vector" type: "Flatten" bottom: "mask" top: "vector" }
layer { name: "conv" type: "Convolution" bottom: "first" top: "conv" convolution_param { num_output: 6 kernel_size: 3 pad: 1 } }
layer { name: "switch" type: "Scale" bottom: "conv" bottom: "vector" top: "switch" scale_param { axis: 0 } }
layer { name: "relu" type: "ReLU" bottom: "switch" top: "switch" }
layer { name: "last" type: "Convolution" bottom: "switch" top: "last" convolution_param { num_output: 2 kernel_size: 1 } }
"""


def test_a_caffe_gate_with_a_threshold_layer(tmp_path: Path) -> None:
    path = tmp_path / "gated.prototxt"
    layer = 'layer { name: "mask" type: "Threshold" bottom: "sigmoid" top: "mask" threshold_param { threshold: 0.6 } }'
    path.write_text(CAFFE.replace("THRESHOLD", layer), encoding="utf-8")
    gate = only(load(path, random_weights=1))
    assert (gate.layer, gate.kernels, gate.place) == ("conv", 6, "after-bias")
    assert gate.threshold == pytest.approx(0.6, rel=0, abs=1e-6)
    assert {"pool", "decide"} <= set(gate.nodes)


def test_caffe_attention_is_not_a_gate(tmp_path: Path) -> None:
    path = tmp_path / "attention.prototxt"
    path.write_text(CAFFE.replace("THRESHOLD", "").replace('"mask"', '"sigmoid"'), encoding="utf-8")
    gates, notes = search_gates(load(path, random_weights=1).graph)
    assert gates == ()
    assert [note.code for note in notes] == ["gate-soft"]


# ---- planted bugs -----------------------------------------------------------------------------------------------------


def misread(module: ModuleType, spelling: Spelling) -> bool:
    """Return whether a changed module misreads a spelling."""
    gates = module.find_gates(gated(spelling).graph)
    if len(gates) != 1:
        return True
    facts = (gates[0].layer, gates[0].unit_of, gates[0].place, gates[0].reads)
    return facts != ("gated", spelling.unit_of, PLACES[spelling.layout], ("a",))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return [(left, right), (right, left)]", "return [(left, right)]"),
        ('return "after-activation"', 'return "after-bias"'),
        ('if any(step.op != "Add" for step in affine):', "if affine:"),
        ('following.op == "Add" and', 'following.op == "Sub" and'),
        ('following.op == "BatchNormalization"', 'following.op == "BatchNorm"'),
        ("tensor = affine.data", "return None"),
        ('node.op == "Where"', 'node.op == "Select"'),
        ("aligned[1] not in (1, response[1])", "aligned[1] not in (1,)"),
        ("if node.op not in _WINDOW_POOLS:", "if True:"),
        ('"Cast", "MaxPool", "AveragePool"', '"Cast"'),
    ],
)
def test_planted_bugs_are_seen(old: str, new: str) -> None:
    module = mutant(gates_module, old, new)
    shown = find_example(gate_spellings(), lambda spelling: misread(module, spelling))
    assert misread(module, shown)
    assert not misread(gates_module, shown)


@pytest.mark.parametrize(
    ("old", "new", "near_miss"),
    [
        ("if values.points != {0.0, 1.0}:", "if False:", "one of -1, 0, 1"),
        ("if any(_depends_on(tensor, conv) for tensor in maps):", "if False:", "own output"),
        ("if others or is_output(graph, step.outputs[0]):", "if False:", "leak"),
    ],
)
def test_planted_bugs_that_would_take_a_near_miss(old: str, new: str, near_miss: str) -> None:
    bodies = {
        "one of -1, 0, 1": [FIRST, CONV, *GATE, "d = Sub(s, f_half)", "m = Sign(d)", "y = Mul(c, m)", LAST],
        "own output": [FIRST, CONV, "p = GlobalAveragePool(c)", "o = Greater(p, f_half)", "m = Cast<to=1>(o)", "y = Mul(c, m)", LAST],
        "leak": [FIRST, CONV, *GATE, ON, "y0 = Mul(c, m)", "y = Add(y0, c)", LAST],
    }  # fmt: skip
    graph = text_network(bodies[near_miss]).graph
    assert find_gates(graph) == ()
    module = mutant(gates_module, old, new)
    assert module.search_gates(graph) != search_gates(graph)


def test_nodes_of_several_gates_belong_to_the_first() -> None:
    block = Block("two", "nested", (1, 2, 0, 0))
    separate, shared = (
        find_gates(Branching((block,), (Wish("widths", 0, False),), 5, common).build("on").graph)
        for common in (False, True)
    )
    assert [sorted({name.rstrip("0123456789") for name in gate.nodes}) for gate in shared] == [
        ["cast", "decide", "gather", "globalaveragepool", "greater", "relu", "squeeze"], [],
    ]  # fmt: skip
    assert [gate.macs for gate in shared] == [separate[0].macs, 0]
    assert separate[0].macs > 0
