"""One decision for many layers: variants equal multiplying on random networks, and planted bugs that must show."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from types import ModuleType
from unittest.mock import patch

import pytest
from branching_networks import PATTERNS, Block, Branching, Pattern, Wish
from examples import examples
from gate_lowering import MODULE, conditionals, error, lowered, lowering_error
from hypothesis import Phase, example, given, seed, settings
from hypothesis import strategies as st
from mutation import find_example, mutant
from strategies import branching_networks

from deploycc.documents.gate_plan import LayerPlan
from deploycc.graph.branches import conditions as decided
from deploycc.graph.branches import shared_part as variants

WISH = Wish("widths", 3, False)


# Networks that a search found, for bugs that show in few. Here the last layer but one has kernels of only one of the two units that a branch asks for: the other may be on.
UNLIKE = Branching(
    (Block("two", "block", (0, 0, 0, 0)), Block("concat", "block", (0, 0, 0, 0)), Block("two", "block", (0, 0, 0, 0))),
    (Wish("widths", 0, True),), 1278, True,
)  # fmt: skip
TWO_EXITS = Branching(
    (Block("concat", "nested", (1, 2, 1, 0)), Block("one", "nested", (1, 2, 1, 0))), (Wish("widths", 3, True),), 1, True
)
WRONG_VARIANT = Branching(
    (Block("two", "layer", (8, 9, 6, 11)), Block("pooled", "layer", (6, 9, 5, 3)), Block("two", "first", (7, 9, 0, 4))),
    (Wish("widths", 2216, True), Wish("widths", 3411, True), Wish("widths", 255, False), Wish("widths", 808, True),
     Wish("widths", 65535, True)), 5719, True,
)  # fmt: skip
OTHER_UNITS = Branching(
    (Block("two", "first", (6, 2, 0, 3)), Block("two", "first", (0, 10, 1, 3))),
    (Wish("widths", 6, False), Wish("blocks", 0, True), Wish("widths", 1, True)), 40, True,
)  # fmt: skip
LEFT_OUTSIDE = Branching(
    (Block("one", "layer", (1, 1, 5, 2)), Block("far", "layer", (5, 3, 0, 0)), Block("far", "layer", (5, 3, 0, 0))),
    (Wish("multiply", 488, False), Wish("blocks", 4646, True), Wish("multiply", 236, True)), 65535, True,
)  # fmt: skip


@settings(max_examples=examples(60))
@example(UNLIKE, "edge")
@given(branching_networks(shared=True), st.sampled_from(PATTERNS))
def test_variants_equal_multiplying(made: Branching, pattern: Pattern) -> None:
    assert lowering_error(made, [pattern]) <= 1.0


@settings(max_examples=examples(4))
@example(TWO_EXITS, "random")
@example(TWO_EXITS, "front")
@example(TWO_EXITS, "on")
@given(branching_networks(shared=True), st.sampled_from(PATTERNS))
def test_plain_conditionals_equal_multiplying(made: Branching, pattern: Pattern) -> None:
    detector = made.build(pattern)
    graph = lowered(detector, made.plan(detector.graph), plain=True).detector.graph
    found = conditionals(graph)
    assert len(found) == sum(node.op == "If" for node in graph.nodes)
    assert all(len(node.outputs) == 1 for node in found)
    assert error(detector.graph, graph, made.picture()) <= 1.0


class _Enough(Exception):
    """Every wanted property was seen often enough: no more networks are drawn."""


def test_the_strategy_reaches_what_it_should() -> None:
    """Without this, the property above might hold because nothing is lowered."""
    wanted = ("lowered", "nested", "multiplies", "does not multiply", "narrow", "several exits", "units of other sizes",
              "gate-not-narrowed", "gate-shape", "gate-mixed")  # fmt: skip
    seen: Counter[str] = Counter()

    @seed(1)  # `derandomize` would draw other networks after each edit of this test
    @settings(max_examples=120, database=None, phases=[Phase.generate])
    @given(branching_networks(shared=True))
    def collect(made: Branching) -> None:
        if min(seen[what] for what in wanted) >= 2:
            raise _Enough
        detector = made.build("on")
        result = lowered(detector, made.plan(detector.graph))
        seen.update({note.code for note in result.notes})
        graph = result.detector.graph
        inside = [node for branch in graph.subgraphs(recursive=True) for node in branch.nodes]
        seen["lowered"] += bool(conditionals(graph))
        seen["nested"] += any(node.op == "If" for node in inside)
        seen["multiplies"] += any(node.op == "Mul" for node in inside)
        seen["does not multiply"] += bool(inside) and not any(node.op == "Mul" for node in inside)
        seen["narrow"] += any(
            node.op == "Conv" and 1 < node.inputs[1].shape[0] < 6 and node.inputs[1].shape[1] < 6 for node in inside
        )
        vectors = {
            node.inputs[1].name for node in detector.graph.nodes if node.op == "Mul" and len(node.inputs[1].shape) == 4
        }
        seen["units of other sizes"] += bool(conditionals(graph)) and len(vectors) > 1
        seen["several exits"] += any(len(node.outputs) > 1 for node in conditionals(graph))

    with contextlib.suppress(_Enough):
        collect()
    assert min(seen[what] for what in wanted) >= 2, seen


@pytest.mark.parametrize("pattern", PATTERNS)
def test_two_decisions_at_once_are_lowered_too(pattern: Pattern) -> None:
    """They are rare in random networks, and which networks are drawn depends on all modules that are loaded."""
    blocks = (
        Block("plain", "nested", (2, 10, 1, 6)),
        Block("residual", "nested", (2, 5, 5, 4)),
        Block("two", "layer", (4, 4, 11, 8)),
    )
    made = Branching(blocks, (Wish("widths", 1241, False),), 494, True)
    detector = made.build(pattern)
    graph = lowered(detector, made.plan(detector.graph)).detector.graph
    assert len({node.name.rsplit("/", 1)[0] for node in conditionals(graph)}) == 2
    assert lowering_error(made, [pattern]) <= 1.0


def test_all_that_lies_between_is_narrow() -> None:
    """Depthwise convolutions and poolings between gated layers lose their channels too; the head sees all it needs."""
    made = Branching(
        (Block("depthwise", "nested", (0, 2, 1, 0)), Block("pooled", "nested", (0, 2, 0, 0))), (WISH,), 1, True
    )
    detector = made.build("random")
    plan = [
        layer.model_copy(update={"order": tuple(range(6)), "sizes": (2, 4, 6)}) for layer in made.plan(detector.graph)
    ]
    result = lowered(detector, plan)
    assert result.notes == ()
    [outer] = [node for node in result.detector.graph.nodes if node.op == "If"]
    [inner] = [node for node in outer.attrs["else_branch"].nodes if node.op == "If"]
    narrow = inner.attrs["else_branch"].nodes
    weights = [tuple(node.inputs[1].shape[:2]) for node in narrow if node.op == "Conv"]
    assert weights[:2] == [(2, 6), (2, 1)]
    assert weights[2:] == [(2, 2)] * 5  # three gated ones and two heads
    assert not [
        node
        for node in result.detector.graph.nodes
        if node.op == "Conv" and node.name.startswith(("gated", "depthwise"))
    ]
    assert error(detector.graph, result.detector.graph, made.picture()) <= 1.0


@pytest.mark.parametrize("missing", ["a layer", "a variant"])
def test_a_plan_for_some_of_the_layers_is_refused(missing: str) -> None:
    made = Branching((Block("two", "nested", (0, 2, 0, 0)),), (WISH,), 1, True)
    detector = made.build("random")
    first, second = (
        LayerPlan(layer=layer.layer, lowering="variants", order=tuple(range(6)), sizes=(2, 6))
        for layer in made.plan(detector.graph)
    )
    plan = [first] if missing == "a layer" else [first, second.model_copy(update={"sizes": (2, 4, 6)})]
    result = lowered(detector, plan)
    [note] = result.notes
    assert (note.node, note.code) == (first.layer, "gate-not-shared")
    assert not conditionals(result.detector.graph)


def test_a_layer_without_gate_has_no_variants() -> None:
    made = Branching((Block("plain", "nested", (0, 2, 0, 0)),), (WISH,), 1, True)
    detector = made.build("random")
    [plain] = [node.name for node in detector.graph.nodes if node.name.startswith("plain")]
    result = lowered(detector, [LayerPlan(layer=plain, lowering="variants", order=tuple(range(6)), sizes=(2, 6))])
    assert [(note.node, note.code) for note in result.notes] == [(plain, "gate-missing")]


def test_masks_are_those_of_the_kernels_that_are_there() -> None:
    """Rare in random networks: the smallest variant must be chosen, hold other kernels than the first, and one be off."""
    made = Branching((Block("one", "kernel", (0, 2, 0, 0)),), (Wish("widths", 8, False),), 3, True)
    assert lowering_error(made, ["random"]) <= 1.0
    broken = mutant(
        variants, 'f"{gate.layer}_mask", comparison, held)', 'f"{gate.layer}_mask", comparison, range(len(held)))'
    )
    with patch.object(MODULE, "write_variants", broken.write_variants):
        assert lowering_error(made, ["random"]) > 1.0


# ---- planted bugs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bug:
    """A changed line, the function that comes from the changed module, and where it shows."""

    module: ModuleType
    old: str
    new: str
    replaces: tuple[ModuleType, str]
    kinds: tuple[str, ...] = ("one", "two", "depthwise", "pooled")  # nearly all of them can be lowered
    patterns: tuple[Pattern, ...] = ("random",)
    shown: Branching | None = None  # where it shows, if that is rare


WRITING = (MODULE, "write_variants")
FINDING = (MODULE, "find_shared_part")

BUGS = {
    "the wrong variant is asked for": Bug(
        variants, "part.comparisons[0], asked, nested", "part.comparisons[0], beyond[0], nested", WRITING, shown=WRONG_VARIANT
    ),
    "a branch computes the other's variant": Bug(
        variants, "lambda branch: up_to(branch, number - 1)", "lambda branch: up_to(branch, 0)", WRITING
    ),
    "no mask inside": Bug(variants, "if not (all_on(gate, held, asked) and", "if not (True and", WRITING),
    "the last score is asked instead of the first": Bug(decided, "[0, min(scores), ", "[0, max(scores), ", (variants, "any_score_on")),
    "some kernels do not count as missing": Bug(
        variants, "np.flatnonzero(~keep[gate.layer]).tolist()", "np.flatnonzero(~keep[gate.layer]).tolist()[1:]", WRITING
    ),
    "kernels obey the units of another layer": Bug(
        variants, "        comparison.score_of[kernel]\n", "        part.comparisons[0].score_of[kernel]\n", WRITING, shown=OTHER_UNITS
    ),
    "a branch takes the units of one layer for all that it asks": Bug(
        variants, "if not set(tested) <= set(comparison.score_of):", "if False:", WRITING, ("two", "concat"), ("edge",), UNLIKE
    ),
    "what lies between stays outside": Bug(
        variants, "queue += [writer for tensor in node.inputs if (writer := producer(tensor)) is not None]", "pass", FINDING,
        shown=LEFT_OUTSIDE,
    ),
    "results take one another's places": Bug(variants, "connect(part.exits, up_to", "connect(part.exits[::-1], up_to", WRITING),
}  # fmt: skip

# Networks in which a search of about a second found them.
FOUND = {
    "a branch computes the other's variant": Branching((Block("one", "kernel", (0, 0, 0, 0)),), (Wish("widths", 0, True), Wish("widths", 0, True), Wish("widths", 0, True)), 0, True),
    "no mask inside": Branching((Block("pooled", "kernel", (10, 10, 0, 1)), Block("two", "first", (1, 4, 6, 9))), (Wish("multiply", 469, True), Wish("widths", 299, True), Wish("multiply", 18480, True), Wish("widths", 37958, False), Wish("widths", 6828, True)), 22349, True),
    "the last score is asked instead of the first": Branching((Block("one", "first", (6, 8, 10, 4)),), (Wish("blocks", 431, True), Wish("widths", 181, True), Wish("widths", 2080, False), Wish("multiply", 836, True), Wish("multiply", 26469, False)), 18316, True),
    "some kernels do not count as missing": Branching((Block("one", "first", (6, 8, 10, 4)),), (Wish("blocks", 431, True), Wish("widths", 181, True), Wish("widths", 2080, False), Wish("multiply", 836, True), Wish("multiply", 26469, False)), 18316, True),
    "results take one another's places": Branching((Block("pooled", "block", (1, 1, 7, 8)), Block("one", "nested", (6, 3, 2, 1)), Block("depthwise", "block", (4, 1, 4, 10))), (Wish("multiply", 112, True), Wish("widths", 50180, True), Wish("multiply", 65536, True), Wish("widths", 780, True)), 252, True),
}  # fmt: skip


@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs_show(name: str) -> None:
    bug = BUGS[name]
    broken = mutant(bug.module, bug.old, bug.new)
    module, function = bug.replaces
    with patch.object(module, function, getattr(broken, function)):
        shown = (
            bug.shown
            or FOUND.get(name)
            or find_example(
                branching_networks(*bug.kinds, shared=True), lambda made: lowering_error(made, bug.patterns) > 1.0
            )
        )
        assert lowering_error(shown, bug.patterns) > 1.0
    assert lowering_error(shown, bug.patterns) <= 1.0
