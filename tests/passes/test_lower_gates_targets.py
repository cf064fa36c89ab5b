"""What the lowering makes for each target, what it refuses, and the shipped gated detectors."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from branching_networks import Block, Branching, Wish
from gate_lowering import conditionals, error, lowered
from gated_networks import Spelling, gated
from golden_files import assert_golden
from graph_text import run

from deploycc import importers, models, target
from deploycc.detector import Detector
from deploycc.documents.gate_plan import LayerPlan
from deploycc.errors import ModelError, Note
from deploycc.graph.cost import layer_costs, measure_cost
from deploycc.graph.export import to_onnx
from deploycc.graph.gates.search import find_gates, gates_by_decision
from deploycc.graph.half import all_nodes
from deploycc.graph.text import to_text
from deploycc.parsers.support import Contract, refusals
from deploycc.parsers.tensorrt_releases import numbers
from deploycc.passes import PIPELINE
from deploycc.passes import run as run_passes
from deploycc.passes.for_target import options_for
from deploycc.passes.runner import Compiled

PLAN = (LayerPlan(layer="gated", lowering="widths", order=tuple(range(8))[::-1], sizes=(0, 2, 8)),)
SHARED = Branching((Block("two", "nested", (0, 1, 0, 0)),), (Wish("widths", 0, True),), 5, True)
RESIDUAL = Branching((Block("residual", "kernel", (0, 1, 0, 0)),), (Wish("widths", 0, True),), 5)
WIDE = Branching((Block("concat", "nested", (1, 2, 1, 0)), Block("one", "nested", (1, 2, 1, 0))), (Wish("widths", 3, True),), 1, True)  # fmt: skip
SHIPPED = ("street_ssd_lkam", "street_ssd_blocks")


def compiled(detector: Detector, name: str, plan: tuple[LayerPlan, ...], precision: str = "fp32") -> Compiled:
    options = options_for(target.load(name), precision=precision, detection="raw")  # type: ignore[arg-type]
    return run_passes(detector, replace(options, gate_plan=plan), PIPELINE)


def whole_layers(detector: Detector, *, joined: bool) -> tuple[LayerPlan, ...]:
    """Half and full width, or nothing; in reversed order where each kernel has its own decision."""
    layers = []
    for number, gate in enumerate(find_gates(detector.graph)):
        order = tuple(range(gate.kernels))[:: -1 if gate.units == gate.kernels else 1]
        sizes = (0, gate.kernels // 2, gate.kernels)
        inside = joined and number % 2 == 1
        layers.append(LayerPlan(layer=gate.layer, lowering="widths", order=order, sizes=sizes, joined=inside))
    return tuple(layers)


def every_unit(detector: Detector) -> tuple[LayerPlan, ...]:
    """A variant for each number of units, which are nested."""
    return tuple(
        LayerPlan(
            layer=gate.layer, lowering="variants", order=tuple(range(gate.kernels)),
            sizes=tuple(np.cumsum(np.bincount(gate.unit_of)).tolist()),
        )
        for gate in find_gates(detector.graph)
    )  # fmt: skip


# ---- what it looks like ---------------------------------------------------------------------------------------------


def test_golden() -> None:
    detector = gated(Spelling(layer="conv"))
    assert_golden("passes/lower_gates.before.txt", to_text(detector.graph))
    text = to_text(lowered(detector, PLAN).detector.graph)
    assert_golden("passes/lower_gates.after.txt", text)
    assert [node.op_type for node in onnx.parser.parse_model(text).graph.node].count("If") == 1


def test_nothing_happens_without_a_plan() -> None:
    detector = gated(Spelling())
    before = to_text(detector.graph)
    result = lowered(detector, [LayerPlan(layer="gated", lowering="multiply", order=tuple(range(8)))])
    assert not result.changed
    assert to_text(result.detector.graph) == before


def test_a_block_whose_gates_are_off_computes_no_convolution() -> None:
    """Both layers of the residual off: the branch that is taken adds zeros to the shortcut."""
    detector = RESIDUAL.build("off")
    order = tuple(range(6))
    both = [LayerPlan(layer=gate.layer, lowering="widths", order=order, sizes=(0, 6), joined=number > 0)
            for number, gate in enumerate(find_gates(detector.graph))]  # fmt: skip
    result = lowered(detector, both)
    assert result.notes == ()
    assert error(detector.graph, result.detector.graph, RESIDUAL.picture()) <= 1.0
    [outer] = [node for node in result.detector.graph.nodes if node.op == "If"]
    assert not any(node.op == "Conv" for node in outer.attrs["else_branch"].nodes)
    assert {node.op for node in outer.attrs["else_branch"].nodes} == {"Expand"}
    assert not any(node.name.startswith("gated") and node.op == "Conv" for node in result.detector.graph.nodes)


def test_the_worst_case_is_counted_and_the_largest_branch_listed() -> None:
    detector = gated(Spelling(layer="conv"))
    graph = lowered(detector, PLAN).detector.graph
    before, after = measure_cost(detector.graph), measure_cost(graph)
    assert after.macs == before.macs
    assert after.params > before.params  # the narrow branch has its own weights
    assert after.nodes == len(list(all_nodes(graph)))
    listed = [layer.name.partition("#")[0] for layer in layer_costs(graph)]
    assert sorted(listed) == sorted(layer.name for layer in layer_costs(detector.graph))


@pytest.mark.parametrize("channels", [4, 40])  # below and above what goes through graphsurgeon's export
def test_branches_own_their_weights_in_the_file(channels: int) -> None:
    weight = np.random.default_rng(0).normal(size=(channels, 3, 3, 3)).astype(np.float32)
    x = gs.Variable("x", np.float32, [1, 3, 8, 8])
    yes = gs.Variable("yes", np.bool_, [])
    branches = {}
    for name, factor in (("then_branch", 1), ("else_branch", 2)):
        made = gs.Variable(f"{name}_out", np.float32, [1, channels, 6, 6])
        constant = gs.Constant(f"{name}_w", weight * np.float32(factor))
        branches[name] = gs.Graph(
            [gs.Node("Conv", name, {}, [x, constant], [made])], outputs=[made], name=name, opset=13
        )
    y = gs.Variable("y", np.float32, [1, channels, 6, 6])
    total = gs.Variable("total", np.float32, [])
    nodes = [
        gs.Node("ReduceSum", "sum", {"keepdims": 0}, [x], [total]),
        gs.Node("Greater", "positive", {}, [total, gs.Constant("zero", np.array(0, np.float32))], [yes]),
        gs.Node("If", "choose", branches, [yes], [y]),
    ]
    graph = gs.Graph(nodes, [x], [y], opset=13, ir_version=8)
    ours, theirs = to_onnx(graph), gs.export_onnx(graph)
    onnx.checker.check_model(ours, full_check=True)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
    assert len(ours.graph.initializer) == 1
    assert len(to_text(graph)) < 10_000


# ---- what it refuses ------------------------------------------------------------------------------------------------


def only_note(detector: Detector, *plan: LayerPlan) -> Note:
    result = lowered(detector, plan)
    assert not conditionals(result.detector.graph)
    [note] = result.notes
    return note


def test_several_pictures_at_once_are_refused() -> None:
    detector = gated(Spelling(layer="conv"))
    detector.graph.inputs[0].shape[0] = 2
    for tensor in detector.graph.tensors().values():
        if isinstance(tensor, gs.Variable) and tensor is not detector.graph.inputs[0]:
            tensor.shape = None
    note = only_note(detector, *PLAN)
    assert (note.node, note.code) == ("gated", "gate-batch")
    assert "2 pictures at once" in note.reason


def test_a_gate_that_reads_its_own_output_is_refused() -> None:
    from gated_networks import text_network

    lines = [
        "a = Conv<pads=[1,1,1,1]>(x, w_first)", "c = Conv<pads=[1,1,1,1]>(a, w, b)", "p = GlobalAveragePool(c)",
        "o = Greater(p, f_zero)", "g = Cast<to=1>(o)", "y = Mul(c, g)", "out = Conv(y, w_last)",
    ]  # fmt: skip
    note = only_note(text_network(lines), *PLAN)
    assert (note.node, note.code) == ("gated", "gate-missing")
    assert "which it gates" in note.reason


def test_soft_attention_is_refused() -> None:
    from gated_networks import text_network

    lines = [
        "a = Conv<pads=[1,1,1,1]>(x, w_first)", "p = GlobalAveragePool(a)", "z = Conv(p, w_gate, b_gate)",
        "g = Sigmoid(z)", "c = Conv<pads=[1,1,1,1]>(a, w, b)", "y = Mul(c, g)", "out = Conv(y, w_last)",
    ]  # fmt: skip
    note = only_note(text_network(lines), *PLAN)
    assert note.code == "gate-missing"
    assert "attention" in note.reason


def test_channels_that_are_an_output_keep_their_order() -> None:
    detector = gated(Spelling(layer="conv"))
    detector.graph.outputs.append(detector.graph.tensors()["y"])
    assert only_note(detector, *PLAN).code == "gate-order"
    in_order = PLAN[0].model_copy(update={"order": tuple(range(8))})
    result = lowered(detector, [in_order])
    assert result.notes == ()
    assert len(conditionals(result.detector.graph)) == 2
    x = np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)
    assert error(detector.graph, result.detector.graph, x) <= 1.0


def test_a_plan_of_another_network_is_an_error() -> None:
    with pytest.raises(ModelError, match="which the network does not have") as raised:
        lowered(gated(Spelling()), [PLAN[0].model_copy(update={"layer": "gate"})])
    assert raised.value.hint == "did you mean gated?"
    short = LayerPlan(layer="gated", lowering="widths", order=(0, 1), sizes=(2,))
    with pytest.raises(ModelError, match="has 8 kernels, but 2 in the gate plan"):
        lowered(gated(Spelling()), [short])


# ---- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("jetson-tx2-jp46", "TensorRT 8.0.1 executes both branches"),
        ("drive-px2-dgpu", "reads Caffe networks, which have no If"),
    ],
)
def test_without_conditionals_the_product_stays(name: str, reason: str) -> None:
    made = compiled(gated(Spelling()), name, PLAN)
    [note] = [note for note in made.notes if note.code == "gate-no-conditional"]
    assert note.node == "gated"
    assert reason in note.reason
    assert ("came with TensorRT 8.2" in note.reason) == (name == "jetson-tx2-jp46")
    assert not conditionals(made.detector.graph)


@pytest.mark.parametrize("name", ["x86-cpu", "x86-rtx", "x86-dgpu-trt10", "jetson-tx2-jp461", "jetson-orin-jp62"])
@pytest.mark.parametrize("kind", ["widths", "variants"])
def test_parsers_with_conditionals_take_the_branches(name: str, kind: str) -> None:
    detector = gated(Spelling(layer="conv")) if kind == "widths" else SHARED.build("random")
    sizes = {"order": tuple(range(6)), "sizes": (2, 4, 6)}
    plan = PLAN if kind == "widths" else tuple(each.model_copy(update=sizes) for each in SHARED.plan(detector.graph))
    made = compiled(detector, name, plan)
    assert [note for note in made.notes if note.code in ("parser-refuses", "opset-stays")] == []
    plain = name == "jetson-tx2-jp461"
    assert len(conditionals(made.detector.graph)) == (3 if plain and kind == "variants" else 2)
    if plain:
        assert all(node.op != "If" for branch in made.detector.graph.subgraphs() for node in branch.nodes)
        assert {len(node.outputs) for node in conditionals(made.detector.graph)} == {1}
    for node in conditionals(made.detector.graph):
        branches = (node.attrs[branch].outputs for branch in ("then_branch", "else_branch"))
        for one, other, result in zip(*branches, node.outputs, strict=True):
            assert list(one.shape) == list(other.shape) == list(result.shape)
            assert one.name != other.name
        assert list(node.inputs[0].shape) == []
    x = np.random.default_rng(0).normal(size=detector.graph.inputs[0].shape).astype(np.float32)
    assert error(detector.graph, made.detector.graph, x) <= 1.0


@pytest.mark.parametrize("version", ["8.2.1", "8.5.2", "8.6.1", "9.3.0", "10.3.0"])
@pytest.mark.parametrize("made", [SHARED, RESIDUAL, WIDE], ids=["variants", "joined", "several exits"])
def test_every_release_takes_plain_conditionals(made: Branching, version: str) -> None:
    detector = made.build("random")
    graph = lowered(detector, made.plan(detector.graph), plain=True).detector.graph
    agreed = Contract("tensorrt-onnx", numbers(version), max_opset=99, max_ir=99)
    assert conditionals(graph)
    assert not [refusal for refusal in refusals(graph, agreed) if refusal.op == "If"]


def test_a_release_that_connects_no_branch_multiplies() -> None:
    facts = target.load("jetson-xavier-jp512").model_dump() | {"name": "old", "runtime_version": "8.4.1"}
    options = replace(options_for(target.Target.model_validate(facts)), gate_plan=PLAN)
    made = run_passes(gated(Spelling()), options, PIPELINE)
    [note] = [note for note in made.notes if note.code == "gate-no-conditional"]
    assert "connects no tensor to the branches" in note.reason
    assert not conditionals(made.detector.graph)


@pytest.mark.parametrize("opset", [8, 9, 10, 11, 12])
def test_branches_follow_to_older_operator_sets(opset: int) -> None:
    detector = gated(Spelling(layer="conv"))
    blocks = LayerPlan(layer="gated", lowering="blocks", order=tuple(range(8)), sizes=(2, 4), always=2)
    options = options_for(target.load("x86-cpu"))
    contract = replace(options.contract, max_opset=opset)
    made = run_passes(detector, replace(options, contract=contract, gate_plan=(blocks,)), PIPELINE)
    assert made.detector.graph.opset == opset
    assert len(conditionals(made.detector.graph)) == 2
    x = np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)
    assert error(detector.graph, made.detector.graph, x) <= 1.0


def test_fp16_reaches_into_branches() -> None:
    detector = gated(Spelling(layer="conv"))
    graph = compiled(detector, "x86-rtx", PLAN, "fp16").detector.graph
    assert conditionals(graph)
    assert {node.inputs[1].dtype for node in all_nodes(graph) if node.op == "Conv"} == {np.dtype(np.float16)}
    x = np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)
    half = compiled(detector, "x86-rtx", (), "fp16").detector.graph
    for got, expected in zip(run(graph, x), run(half, x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-2, atol=1e-2)


def test_a_lowered_file_compiles_again() -> None:
    detector = gated(Spelling(layer="conv"))
    graph = lowered(detector, PLAN).detector.graph
    again = replace(detector, graph=gs.import_onnx(to_onnx(graph)))
    made = compiled(again, "x86-cpu", ())
    assert [note.code for note in made.notes] == ["opaque"]
    x = np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)
    assert error(graph, made.detector.graph, x) <= 1.0


# ---- TensorRT-RTX ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", ["widths", "blocks", "joined", "variants"])
def test_tensorrt_rtx_builds_real_conditionals(kind: str, precision: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")
    detector = (SHARED if kind == "variants" else RESIDUAL).build("random")
    layers: list[LayerPlan] = []
    for number, gate in enumerate(find_gates(detector.graph)):
        lowering, sizes = {"blocks": ("blocks", (2, 4)), "variants": ("variants", (2, 4, 6))}.get(
            kind, ("widths", (0, 2, 6))
        )
        joined = kind == "joined" and number > 0
        order = tuple(range(6)) if kind == "variants" else (5, 4, 3, 2, 1, 0)
        layers.append(LayerPlan(layer=gate.layer, lowering=lowering, order=order, sizes=sizes, joined=joined))  # type: ignore[arg-type]
    made = compiled(detector, "x86-rtx", tuple(layers), precision).detector.graph
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse(to_onnx(made).SerializeToString())
    kinds = Counter(network.get_layer(index).type for index in range(network.num_layers))
    chosen = len(conditionals(made))
    assert chosen == {"widths": 4, "blocks": 4, "joined": 6, "variants": 2}[kind]
    assert kinds[trt.LayerType.CONDITION] == chosen
    assert kinds[trt.LayerType.CONDITIONAL_OUTPUT] == sum(len(node.outputs) for node in conditionals(made))
    assert kinds[trt.LayerType.CONDITIONAL_INPUT] >= chosen
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    assert engine.nbytes > 10_000


# ---- shipped detectors ----------------------------------------------------------------------------------------------


def forced(detector: Detector, pattern: str, x: np.ndarray) -> Detector:
    """A copy whose decisions are those of a pattern: their biases are far from the threshold, or for ``x`` at it."""
    copy = replace(detector, graph=detector.graph.copy())
    random = np.random.default_rng(0)
    tensors = copy.graph.tensors()
    for gates in gates_by_decision(find_gates(copy.graph)):
        node = tensors[gates[0].score].inputs[0]
        while node.op != "Conv":
            node = node.inputs[0].inputs[0]
        bias = np.array(node.inputs[2].values)
        side = {"on": np.ones(bias.shape), "off": -np.ones(bias.shape)}.get(pattern, random.choice([-1, 1], bias.shape))
        if pattern == "edge":
            part = copy.graph.copy()
            part.outputs = [part.tensors()[node.outputs[0].name]]
            [logits] = run(part.cleanup(), x)
            limit = np.log(gates[0].threshold / (1 - gates[0].threshold))
            node.inputs[2].values = (bias - logits.reshape(-1) + limit).astype(np.float32)
        elif pattern != "trained":
            node.inputs[2].values = (1e4 * np.sort(side)[::-1]).astype(np.float32)
    return copy


@pytest.mark.parametrize("how", ["alone", "joined"])
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_detectors_keep_their_outputs(name: str, how: str) -> None:
    """At the threshold too, but where a gate's sums are others than before: rounding may decide otherwise there.

    They are where it adds up fewer zeros, being joined, or the same numbers in another order.
    """
    trained = compiled(importers.load(models.resolve(name)), "x86-cpu", ()).detector
    pictures = [np.random.default_rng(seed).normal(size=trained.input.shape).astype(np.float32) for seed in range(2)]
    shared = len(gates_by_decision(find_gates(trained.graph))) == 1
    for pattern in ("on", "off", "random", "trained", *(["edge"] if shared or how == "alone" else [])):
        detector = forced(trained, pattern, pictures[0])
        plan = every_unit(detector) if shared and how == "joined" else whole_layers(detector, joined=how == "joined")
        if pattern == "edge":
            plan = tuple(each.model_copy(update={"order": tuple(range(each.kernels))}) for each in plan)
        result = lowered(detector, plan)
        assert result.notes == ()
        wanted = len(plan[0].sizes) - 1 if plan[0].lowering == "variants" else 12
        assert len(conditionals(result.detector.graph)) >= wanted >= 2
        assert error(detector.graph, result.detector.graph, *pictures) <= 1.0
