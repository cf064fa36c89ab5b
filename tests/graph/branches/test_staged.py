"""A network in two stages: it equals the one that multiplies, whatever is decided, and planted bugs show."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from branching_networks import PATTERNS, Block, Branching, Pattern, Wish
from examples import examples
from gate_lowering import ATOL, RTOL
from graph_text import run
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutation import mutant
from numpy.typing import NDArray
from strategies import branching_networks

from deploycc.cpu_session import open_session
from deploycc.errors import MeasureError, Note
from deploycc.graph.branches import shared_part, staged
from deploycc.graph.branches.gated_network import read_gated_network
from deploycc.graph.branches.shared_part import SharedPart, find_shared_part
from deploycc.graph.branches.staged import Stages
from deploycc.graph.export import to_onnx
from deploycc.graph.gates.search import gates_by_decision
from deploycc.passes.lower_gates import kernels_of_variants

Array = NDArray[Any]
THREE = Branching((Block("two", "nested", (0, 2, 0, 0)),), (Wish("widths", 0, False),), 3, True)
CHOOSING: dict[Pattern, int] = {"off": 0, "front": 1, "on": 2}
"""Which of the three second stages each pattern needs."""
KERNELS = Branching((Block("one", "kernel", (0, 2, 0, 0)),), (Wish("widths", 8, False),), 3, True)


def split(made: Branching, graph: gs.Graph) -> Stages | Note | None:
    """The first decision of a network in stages, as its plan asks for; None where it has none."""
    network = read_gated_network(graph)
    sizes = {layer.layer: layer for layer in made.plan(graph)}
    for gates in gates_by_decision(network.gates):
        part = find_shared_part(network, gates)
        if not isinstance(part, SharedPart):
            continue
        layers = [sizes[gate.layer] for gate in gates]
        return staged.split_at_decision(graph, part, kernels_of_variants(layers))
    return None


def compute(graph: gs.Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    session = open_session(to_onnx(graph), 1, {})
    names = {value.name for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]
    return dict(zip(outputs, session.run(None, {name: feeds[name] for name in names}), strict=True))


def run_stages(stages: Stages, picture: Array) -> tuple[int, dict[str, Array]]:
    feeds = {stages.first.inputs[0].name: picture}
    feeds |= compute(stages.first, feeds)
    [number] = feeds[stages.decision].tolist()
    return number, compute(stages.second[number], feeds)


def error(made: Branching, pattern: Pattern) -> float:
    """Largest difference in units of the tolerance; infinity where a stage does not run."""
    graph = made.build(pattern).graph
    before = to_onnx(graph).SerializeToString()
    stages = split(made, graph)
    assert to_onnx(graph).SerializeToString() == before
    if stages is None or isinstance(stages, Note):
        return 0.0
    worst = 0.0
    for picture in (made.picture(), -made.picture()):
        try:
            _, got = run_stages(stages, picture)
        except (MeasureError, IndexError, KeyError):
            return np.inf
        for tensor, expected in zip(graph.outputs, run(graph, picture), strict=True):
            difference = np.abs(got[tensor.name] - expected) / (ATOL + RTOL * np.abs(expected))
            worst = max(worst, float(np.max(difference, initial=0.0)))
    return worst


@settings(max_examples=examples(5))
@example(THREE, "front")
@example(THREE, "on")
@example(KERNELS, "random")
@given(branching_networks(shared=True), st.sampled_from(PATTERNS))
def test_stages_equal_multiplying(made: Branching, pattern: Pattern) -> None:
    assert error(made, pattern) <= 1.0


@pytest.fixture(scope="module")
def stages() -> Stages:
    made = split(THREE, THREE.build("front").graph)
    assert isinstance(made, Stages)
    return made


def test_nothing_is_computed_twice_and_no_branch_is_left(stages: Stages) -> None:
    graph = THREE.build("front").graph
    first = [node.name for node in stages.first.nodes if node.op == "Conv"]
    for number, stage in enumerate(stages.second):
        onnx.checker.check_model(to_onnx(stage), full_check=True)
        convolutions = [node for node in stage.nodes if node.op == "Conv"]
        assert len(convolutions) + len(first) == sum(node.op == "Conv" for node in graph.nodes)
        assert not {node.name for node in convolutions} & set(first)
        assert [tensor.name for tensor in stage.outputs] == [tensor.name for tensor in graph.outputs]
        widths = {node.outputs[0].shape[1] for node in convolutions if node.name.startswith("gated")}
        assert widths == {(2, 4, 6)[-len(stages.second) :][number]}
        assert not [node for node in (*stage.nodes, *stages.first.nodes) if node.op == "If"]
    onnx.checker.check_model(to_onnx(stages.first), full_check=True)
    made = {tensor.name for tensor in stages.first.outputs}
    read = {tensor.name for stage in stages.second for tensor in stage.inputs}
    assert made - {stages.decision} == read - {tensor.name for tensor in graph.inputs}


@pytest.mark.parametrize("pattern", CHOOSING)
def test_the_smallest_variant_that_holds_what_is_on_is_chosen(pattern: Pattern) -> None:
    stages = split(THREE, THREE.build(pattern).graph)
    assert isinstance(stages, Stages)
    assert run_stages(stages, THREE.picture())[0] == CHOOSING[pattern]


def test_an_output_that_does_not_depend_on_the_decision_keeps_its_name() -> None:
    graph = THREE.build("front").graph
    early = next(node for node in graph.nodes if node.name.startswith("stem")).outputs[0]
    graph.outputs.append(early)
    stages = split(THREE, graph)
    assert isinstance(stages, Stages)
    assert early.name not in {tensor.name for tensor in stages.first.outputs}
    _, got = run_stages(stages, THREE.picture())
    for tensor, expected in zip(graph.outputs, run(graph, THREE.picture()), strict=True):
        np.testing.assert_allclose(got[tensor.name], expected, rtol=RTOL, atol=ATOL)


def test_one_variant_needs_no_stages() -> None:
    graph = THREE.build("on").graph
    network = read_gated_network(graph)
    part = find_shared_part(network, gates_by_decision(network.gates)[0])
    assert isinstance(part, SharedPart)
    full = {gate.layer: np.ones(gate.kernels, np.bool_) for gate in part.gates}
    note = staged.split_at_decision(graph, part, [full, full])
    assert isinstance(note, Note)
    assert note.code == "gate-not-staged"


BUGS: dict[str, tuple[ModuleType, str, str, Pattern]] = {
    "the decision leaves a test out": (staged, "range(1, len(narrow.bodies)):", "range(2, len(narrow.bodies)):", "on"),
    "one test is enough": (staged, '"Add", stem, [total, lacks]', '"Mul", stem, [total, lacks]', "on"),
    "stages count from the last": (staged, "narrow, number, outside)", "narrow, ~number % len(narrow.bodies), outside)", "off"),
    "kernels are missed too late": (shared_part, "asked, stem = beyond[number - 1]", "asked, stem = beyond[-2]", "front"),
    "no mask": (shared_part, "if not (all_on(gate, held, asked) and", "if not (True and", "random"),
    "a tensor is not handed on": (staged, "name)] for name in read)", "name)] for name in list(read)[1:])", "on"),
}  # fmt: skip


@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs_show(name: str) -> None:
    module, old, new, pattern = BUGS[name]
    broken = mutant(module, old, new)
    names = ("split_at_decision",) if module is staged else ("asks_beyond", "paste_variant")
    with pytest.MonkeyPatch.context() as planted:
        for function in names:
            planted.setattr(staged, function, getattr(broken, function))
        assert error(KERNELS if pattern == "random" else THREE, pattern) > 1.0
