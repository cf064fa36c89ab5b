"""Branches equal multiplying by the gates: on random networks, for every pattern, and planted bugs that must show."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from unittest.mock import patch

import numpy as np
import pytest
from branching_networks import PATTERNS, Block, Branching, Pattern, Wish
from examples import examples
from gate_lowering import MODULE, conditionals, error, lowered, lowering_error
from gated_networks import Spelling, gated
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from mutation import find_example, mutant
from strategies import branching_networks, gate_spellings

from deploycc.documents.gate_plan import LayerPlan
from deploycc.graph.branches import conditional_layers, gated_network
from deploycc.graph.branches import conditions as decided
from deploycc.graph.branches import narrowed_part as parts
from deploycc.graph.branches import regions as gated_regions
from deploycc.graph.branches import writer as branches
from deploycc.graph.channels import reorder
from deploycc.graph.gates import decision as gate_decision
from deploycc.graph.gates import search as gates

# ---- equality -------------------------------------------------------------------------------------------------------


@settings(max_examples=examples(20))
@given(branching_networks(), st.sampled_from(PATTERNS))
def test_branches_equal_multiplying(made: Branching, pattern: Pattern) -> None:
    assert lowering_error(made, [pattern]) <= 1.0


@settings(max_examples=examples(5))
@given(branching_networks(), st.sampled_from(PATTERNS))
def test_plain_conditionals_equal_multiplying(made: Branching, pattern: Pattern) -> None:
    detector = made.build(pattern)
    graph = lowered(detector, made.plan(detector.graph), plain=True).detector.graph
    found = conditionals(graph)
    assert len(found) == sum(node.op == "If" for node in graph.nodes)
    assert all(len(node.outputs) == 1 for node in found)
    assert error(detector.graph, graph, made.picture()) <= 1.0


@settings(max_examples=examples(25))
@given(gate_spellings(), st.integers(0, 2**16))
def test_every_spelling_of_a_gate_is_lowered(spelling: Spelling, seed: int) -> None:
    detector = gated(spelling, seed=seed)
    order = np.random.default_rng(seed).permutation(4)
    pairs = tuple(int(kernel) for unit in order for kernel in (2 * unit, 2 * unit + 1))
    plan = LayerPlan(layer="gated", lowering="widths", order=pairs, sizes=(0, 2, 6, 8))
    result = lowered(detector, [plan])
    assert len(conditionals(result.detector.graph)) == (3 if not result.notes else 0)
    assert {note.code for note in result.notes} <= {"gate-order"}
    pictures = [np.random.default_rng(seed).normal(size=(1, 3, 6, 6)).astype(np.float32) for seed in range(3)]
    assert error(detector.graph, result.detector.graph, *pictures) <= 1.0


def test_the_strategy_reaches_what_it_should() -> None:
    """Without this, the properties above might hold because nothing is lowered."""
    wanted = ("lowered", "nested", "joined", "multiplies", "concatenated", "gate-not-joined")
    seen: Counter[str] = Counter()

    @settings(max_examples=25, derandomize=True, database=None, phases=[Phase.generate])
    @given(branching_networks())
    def collect(made: Branching) -> None:
        if min(seen[what] for what in wanted) >= 2:
            return  # enough was seen
        detector = made.build("on")
        result = lowered(detector, made.plan(detector.graph))
        seen.update({note.code for note in result.notes})
        found = conditionals(result.detector.graph)
        seen["lowered"] += bool(found)
        seen["nested"] += any(
            each.subgraphs() for outer in found for branch in outer.subgraphs() for each in branch.nodes
        )
        inside = [node for branch in result.detector.graph.subgraphs(recursive=True) for node in branch.nodes]
        seen["joined"] += any(node.op == "GlobalAveragePool" for node in inside)
        seen["multiplies"] += any(node.op == "Mul" for node in inside)
        seen["concatenated"] += any(
            node.name.startswith("gated") and node.op == "Concat" for node in result.detector.graph.nodes
        )

    collect()
    assert min(seen[what] for what in wanted) >= 2, seen


def test_a_layer_that_others_read_is_not_joined() -> None:
    made = Branching((Block("read_twice", "kernel", (0, 1, 0, 0)),), (Wish("widths", 0, True),), 0)
    detector = made.build("random")
    result = lowered(detector, made.plan(detector.graph))
    [note] = result.notes
    assert note.code == "gate-not-joined"
    assert "beside" in note.reason
    assert error(detector.graph, result.detector.graph, made.picture()) <= 1.0


# ---- planted bugs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bug:
    """A changed line, the functions that come from the changed module, and where it shows."""

    module: ModuleType
    old: str
    new: str
    replaces: tuple[tuple[ModuleType, str], ...]
    kinds: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ("random",)
    shown: Branching | None = None  # where it shows, if a search takes long


WRITING = ((MODULE, "write_layers"),)
KNOWING = ((conditional_layers, "all_on"),)
ASKING = ((conditional_layers, "Decided"),)
REORDERING = ((MODULE, "reorder_kernels"),)
FINDING = ((gated_network, "find_span"),)

# Networks that a search found, for bugs that show in few.
NEVER_ON = Branching(
    (Block("one", "first", (11, 7, 5, 11)),),
    (Wish("widths", 1257, False), Wish("blocks", 4557, False), Wish("widths", 14048, True), Wish("widths", 14577, False)),
    2668, False,
)  # fmt: skip
_WISHES = (Wish("widths", 214, True), Wish("widths", 793, True), Wish("widths", 46, True), Wish("blocks", 5080, False))
JOINED = Branching(
    (Block("two", "nested", (1, 11, 5, 5)), Block("two", "block", (9, 3, 0, 0)), Block("two", "block", (4, 1, 3, 5))),
    _WISHES, 164, False,
)  # fmt: skip
UNIFORM = Branching(
    (Block("plain", "nested", (1, 11, 5, 5)), Block("plain", "block", (9, 3, 0, 0)), Block("plain", "block", (4, 1, 3, 5))),
    _WISHES, 164, False,
)  # fmt: skip
_CHOICES = ("nested", (6, 10, 10, 0)), ("block", (4, 3, 1, 4)), ("block", (10, 10, 3, 3))
TWO_LAYERS, PLAIN_LAYERS = (
    Branching(
        tuple(Block(kind, granularity, choices) for granularity, choices in _CHOICES),
        (Wish("widths", 624, True), Wish("widths", 5392, False), Wish("widths", 3840, True)), 25789, False,
    )
    for kind in ("two", "plain")
)  # fmt: skip

BUGS = {
    "what reads the kernels does not follow": Bug(
        reorder, "if not np.array_equal(values, old):", "if operand.axis == 0 and not np.array_equal(values, old):", REORDERING
    ),
    "indices are permuted, but not what they say": Bug(
        reorder, "values = _indices(groups, place, node, operand, values)", "values = np.sort(values)", REORDERING
    ),
    "a branch gives its own shape": Bug(
        conditional_layers, "return writer.pad(result, self._layers[index].region.kernels)", "return result", WRITING
    ),
    "zeros come first": Bug(
        branches, "added = [0, 0, 0, 0, 0, channels - shape[1], 0, 0]", "added = [0, channels - shape[1], 0, 0, 0, 0, 0, 0]",
        ((conditional_layers, "Writer"),),
    ),
    "the gate multiplies after the bias": Bug(
        gated_regions, '.values["y"] == 0).all())', '.values["y"] == 0).size)', FINDING
    ),
    "no mask inside a width": Bug(
        decided, "return unsure == known and len(known) == 1", "return True", KNOWING
    ),
    "every gate is taken for a nested one": Bug(decided, 'gate.granularity == "nested"', "True", KNOWING),
    "no mask inside a block": Bug(decided, "unsure == known and len(known) == 1", "unsure == known", KNOWING),
    "the joined gate reads the wrong channels": Bug(
        conditional_layers, "part = self._narrow(region.decision, region, kept)",
        "part = self._narrow(region.decision, region, None if kept is None else kept[::-1])", WRITING, shown=JOINED
    ),
    "the joined layer reads the wrong channels": Bug(
        conditional_layers, "np.arange(kernels) < width", "np.arange(kernels) >= kernels - width", WRITING, ("two",), shown=TWO_LAYERS
    ),
    "a width is one too narrow": Bug(
        conditional_layers, "range(size, kernels))", "range(min(size + 1, kernels - 1), kernels))", WRITING, ("one",)
    ),
    "conditions ask the wrong scores": Bug(
        decided, "{known.score_of[kernel] for kernel in kernels}", "set(sorted(set(known.score_of))[: len(kernels)])", ASKING
    ),
    "masks do not follow the units": Bug(decided, "[comparison.score_of[kernel] for kernel in kernels])", "kernels)", ASKING),
    "a unit that is never on is taken for one that always is": Bug(
        gate_decision, "score > limit + _CLEAR", "score > limit - 1e9", ((gates, "read_decision"),), ("one",), ("off",), NEVER_ON
    ),
    "the wrong flag is asked": Bug(conditional_layers, "flags[middle - 1]", "flags[middle - 2]", WRITING),
    "the branches are swapped": Bug(
        branches, '("then_branch", yes), ("else_branch", no)', '("then_branch", no), ("else_branch", yes)',
        ((conditional_layers, "Writer"),),
    ),
    "a skipped layer is taken for a skipped chain": Bug(
        conditional_layers, "spread(stem, evaluated(alone))", "spread(stem, 0 * evaluated(alone))", WRITING, ("plain",), ("off",),
        shown=PLAIN_LAYERS
    ),
    "uniform maps are not looked at one by one": Bug(
        branches, "(values == few).all()", "(values == few).any()", ((conditional_layers, "Writer"),), shown=UNIFORM
    ),
    "channels that are cut off may hold anything": Bug(
        parts, "copy.nodes = [node for node in copy.nodes if node.outputs]", "copy.nodes = copy.nodes[::-1]",
        ((conditional_layers, "narrowed"),),
    ),
}  # fmt: skip

# Networks in which a search of about a second found them.
FOUND = {
    "what reads the kernels does not follow": Branching((Block("depthwise", "kernel", (10, 10, 0, 1)), Block("three", "first", (1, 4, 6, 9))), (Wish("multiply", 469, True), Wish("widths", 299, True), Wish("multiply", 18480, True), Wish("widths", 37958, False), Wish("widths", 6828, True)), 22349, False),
    "indices are permuted, but not what they say": Branching((Block("depthwise", "kernel", (10, 10, 0, 1)), Block("three", "first", (1, 4, 6, 9))), (Wish("multiply", 469, True), Wish("widths", 299, True), Wish("multiply", 18480, True), Wish("widths", 37958, False), Wish("widths", 6828, True)), 22349, False),
    "every gate is taken for a nested one": Branching((Block("depthwise", "block", (1, 1, 7, 8)), Block("one", "nested", (6, 3, 2, 1)), Block("shared", "block", (4, 1, 4, 10))), (Wish("multiply", 112, True), Wish("widths", 50180, True), Wish("multiply", 65536, True), Wish("widths", 780, True)), 252, False),
    "no mask inside a block": Branching((Block("two", "kernel", (2, 8, 6, 2)),), (Wish("blocks", 58242, False), Wish("widths", 28018, False), Wish("multiply", 528, False), Wish("blocks", 8114, True), Wish("widths", 240, True)), 648, False),
    "a width is one too narrow": Branching((Block("one", "kernel", (0, 0, 0, 0)),), (Wish("widths", 0, True), Wish("widths", 0, True), Wish("widths", 0, True)), 0, False),
    "conditions ask the wrong scores": Branching((Block("depthwise", "kernel", (10, 10, 0, 1)), Block("three", "first", (1, 4, 6, 9))), (Wish("multiply", 469, True), Wish("widths", 299, True), Wish("multiply", 18480, True), Wish("widths", 37958, False), Wish("widths", 6828, True)), 22349, False),
    "the wrong flag is asked": Branching((Block("two", "kernel", (2, 8, 6, 2)),), (Wish("blocks", 58242, False), Wish("widths", 28018, False), Wish("multiply", 528, False), Wish("blocks", 8114, True), Wish("widths", 240, True)), 648, False),
    "the branches are swapped": Branching((Block("depthwise", "block", (0, 0, 0, 0)),), (Wish("widths", 0, True), Wish("widths", 0, True), Wish("widths", 0, True)), 0, False),
    "channels that are cut off may hold anything": Branching((Block("two", "kernel", (2, 8, 6, 2)),), (Wish("blocks", 58242, False), Wish("widths", 28018, False), Wish("multiply", 528, False), Wish("blocks", 8114, True), Wish("widths", 240, True)), 648, False),
}  # fmt: skip


@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs_show(name: str) -> None:
    bug = BUGS[name]
    broken = mutant(bug.module, bug.old, bug.new)
    patches = [patch.object(module, function, getattr(broken, function)) for module, function in bug.replaces]
    with ExitStack() as stack:
        for each in patches:
            stack.enter_context(each)
        shown = (
            bug.shown
            or FOUND.get(name)
            or find_example(branching_networks(*bug.kinds), lambda made: lowering_error(made, bug.patterns) > 1.0)
        )
        assert lowering_error(shown, bug.patterns) > 1.0
    assert lowering_error(shown, bug.patterns) <= 1.0
