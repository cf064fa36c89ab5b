"""The pass: what goes, what stays and why, and the report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from channel_networks import ChannelNetwork
from channel_removal import error
from examples import examples
from golden_files import assert_golden
from graph_text import RTX, detector, network, operators, run
from hypothesis import given, settings
from strategies import channel_networks

from deploycc.errors import ModelError
from deploycc.graph.channels.groups import layer_names
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.text import to_text
from deploycc.passes import PIPELINE
from deploycc.passes.fold_affine import fold_affine
from deploycc.passes.fold_gates import fold_gates
from deploycc.passes.lower_detection import lower_detection
from deploycc.passes.options import Options, Prune
from deploycc.passes.prune_channels import prune, prune_channels

RTOL, ATOL = 1e-5, 1e-5

RESIDUAL = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,6,6] x, float[4,3,3,3] w1, float[4] b1, float[4,1,3,3] wd, float[4] bd, float[4,4,1,1] w2, float[4] b2,
   float[2,4,1,1] w3, float[2] b3) => (float[1,2,6,6] y) {
  [conv1] c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)
  [relu1] r1 = Relu (c1)
  [dw] d = Conv <pads = [1,1,1,1], group = 4> (r1, wd, bd)
  [conv2] c2 = Conv (d, w2, b2)
  [sum] s = Add (c2, r1)
  [conv3] y = Conv (s, w3, b3)
}"""

CHAIN = RESIDUAL.replace("[sum] s = Add (c2, r1)", "[relu2] s = Relu (c2)")


def zeroed(graph: gs.Graph, kernels: dict[str, tuple[int, ...]]) -> gs.Graph:
    """A copy whose layers' outputs are multiplied by zero at these kernels: what the pass promises to equal."""
    copy = graph.copy()
    for node, name in list(layer_names(copy.nodes)):
        if name in kernels:
            out = node.outputs[0]
            axis = len(out.shape) - 1 if node.op == "MatMul" else 1
            mask = np.ones(out.shape[axis], np.float32)
            mask[list(kernels[name])] = 0
            mask = mask.reshape([-1 if index == axis else 1 for index in range(len(out.shape))])
            inner = gs.Variable(f"{out.name}_whole", np.float32, out.shape)
            factor = gs.Constant(f"{out.name}_mask", mask)
            node.outputs = [inner]
            copy.nodes.append(gs.Node("Mul", f"{name}_mask", inputs=[inner, factor], outputs=[out]))
    return copy.toposort()


def test_nothing_happens_unasked() -> None:
    source = network(RESIDUAL)
    result = prune_channels(source, Options(RTX))
    assert not result.changed
    assert result.notes == ()


def test_the_pass_runs_after_folding_and_before_detection() -> None:
    places = [PIPELINE.index(step) for step in (fold_affine, fold_gates, prune_channels, lower_detection)]
    assert places == sorted(places)


def test_a_depthwise_bias_is_folded_into_the_reader() -> None:
    source = network(CHAIN)
    expected = run(zeroed(source.graph, {"conv1": (1, 2)}))
    report = prune(source, Prune({"conv1": (1, 2)}))
    assert report.removed == {"conv1": (1, 2), "dw": (1, 2)}
    assert report.stays == ()
    shapes = {node.name: node.inputs[1].values.shape for node in source.graph.nodes if node.op == "Conv"}
    assert shapes == {"conv1": (2, 3, 3, 3), "dw": (2, 1, 3, 3), "conv2": (4, 2, 1, 1), "conv3": (2, 4, 1, 1)}
    assert next(node for node in source.graph.nodes if node.name == "dw").attrs["group"] == 2
    np.testing.assert_allclose(run(source.graph)[0], expected[0], rtol=RTOL, atol=ATOL)


def test_report_counts() -> None:
    report = prune(network(CHAIN), Prune({"conv1": (0,)}))
    first = report.layers[0]
    assert (first.name, first.op, first.kernels) == ("conv1", "Conv", (4, 3))
    assert first.macs == (4 * 36 * 27, 3 * 36 * 27)
    assert first.params == (4 * 27 + 4, 3 * 27 + 3)
    assert report.before.macs == 4 * 36 * 27 + 4 * 36 * 9 + 4 * 36 * 4 + 2 * 36 * 4
    assert report.after.macs == 3 * 36 * 27 + 3 * 36 * 9 + 4 * 36 * 3 + 2 * 36 * 4
    assert sum(layer.macs[1] for layer in report.layers) == report.after.macs


def test_a_sum_needs_both_terms() -> None:
    source = network(RESIDUAL)
    before = run(source.graph)[0]
    result = prune_channels(source, Options(RTX, prune=Prune({"conv1": (1,)})))
    assert not result.changed
    (note,) = result.notes
    assert (note.node, note.code) == ("conv1", "channel-shared")
    assert note.reason == (
        "conv1[1] = dw[1] = conv2[1] stays: dw: its kernel 1 holds the same channel and is not removed"
    )
    np.testing.assert_array_equal(run(source.graph)[0], before)
    kernels = {"conv1": (1,), "conv2": (1,)}
    expected = run(zeroed(source.graph, kernels))[0]
    assert prune(source, Prune(kernels)).removed == {"conv1": (1,), "dw": (1,), "conv2": (1,)}
    np.testing.assert_allclose(run(source.graph)[0], expected, rtol=RTOL, atol=ATOL)


def test_a_constant_in_front_of_padding_stays_and_says_why() -> None:
    padded = CHAIN.replace("Conv (d", "Conv <pads = [1,1,1,1]> (d").replace("float[4,4,1,1] w2", "float[4,4,3,3] w2")
    source = network(padded)
    report = prune(source, Prune({"conv1": (0,)}))
    assert report.removed == {}
    (note,) = report.stays
    assert note.code == "channel-constant"
    assert "conv2: it pads with zeros" in note.reason


def test_one_channel_is_kept() -> None:
    report = prune(network(CHAIN), Prune({"conv1": (0, 1, 2, 3)}))
    assert report.removed["conv1"] == (1, 2, 3)
    (note,) = report.stays
    assert note.code == "channel-last"
    assert note.reason.startswith("conv1[0] = dw[0] stays: ")


def test_outputs_stay() -> None:
    report = prune(network(CHAIN), Prune({"conv3": (0,)}))
    assert report.removed == {}
    assert [(note.node, note.code) for note in report.stays] == [("conv3", "channel-output")]


def test_dead_channels_go_on_request() -> None:
    source = network(CHAIN)
    weight, bias = source.graph.nodes[0].inputs[1:]
    weight.values = weight.values * np.array([1, 0, 1, 0], np.float32).reshape(-1, 1, 1, 1)
    # Relu makes zero of one dead kernel's bias; of the other's a constant, which the padded depthwise one cannot pass on
    bias.values = np.array([1, -1, 1, 1], np.float32)
    assert prune(detector(source.graph.copy()), Prune()).removed == {}
    before = run(source.graph)[0]
    report = prune(source, Prune(dead=True))
    assert report.removed == {"conv1": (1,), "dw": (1,)}
    np.testing.assert_allclose(run(source.graph)[0], before, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize(
    ("kernels", "code", "hint"),
    [({"conv": (0,)}, "prune-unknown-layer", "did you mean conv"), ({"conv1": (4,)}, "prune-unknown-kernel", None)],
)
def test_wrong_kernels_are_refused(kernels: dict[str, tuple[int, ...]], code: str, hint: str | None) -> None:
    with pytest.raises(ModelError) as raised:
        prune(network(CHAIN), Prune(kernels))
    assert raised.value.code == code
    assert hint is None or hint in str(raised.value.hint)


@settings(max_examples=examples(60))
@given(channel_networks())
def test_the_pass_equals_kernels_times_zero(made: ChannelNetwork) -> None:
    """Kernels whose group stays work on; all others are zero: the outputs are those of the network masked so."""
    source = detector(made.build())
    groups = channel_groups(source.graph)
    random = np.random.default_rng(made.seed)
    wanted = {
        name: tuple(np.flatnonzero(random.random(len(labels)) < 0.5).tolist()) for name, labels in groups.layers.items()
    }
    pruned = replace(source, graph=source.graph.copy())
    report = prune(pruned, Prune(wanted))
    went = {name: tuple(k for k in kernels if k in report.removed.get(name, ())) for name, kernels in wanted.items()}
    masks = {name: kernels for name, kernels in went.items() if kernels}
    assert error(run(pruned.graph), run(zeroed(source.graph, masks))) <= 1.0


def test_golden() -> None:
    source = network(RESIDUAL)
    assert_golden("passes/prune_channels.before.txt", to_text(source.graph) + "\n")
    report = prune(source, Prune({"conv1": (1, 3), "conv2": (0, 1, 3)}))
    assert operators(source.graph) == ["Conv", "Relu", "Conv", "Conv", "Add", "Conv"]
    said = "".join(f"{note.node}: {note.code}: {note.reason}\n" for note in report.stays)
    assert_golden("passes/prune_channels.after.txt", f"{to_text(source.graph)}\n\n{said}")
