"""The pass: what goes, what stays and why, and the report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from channel_networks import ChannelNetwork
from channel_removal import error, zeroed
from examples import examples
from golden_files import assert_golden
from graph_text import RTX, detector, network, operators, run
from hypothesis import given, settings
from hypothesis import strategies as st
from mutation import find_example, mutant
from strategies import channel_networks

from deploycc.detector import Detector
from deploycc.errors import ModelError
from deploycc.graph.channels import carriers as carriers_module
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.text import to_text
from deploycc.passes import PIPELINE
from deploycc.passes.fold_affine import fold_affine
from deploycc.passes.fold_gates import fold_gates
from deploycc.passes.lower_detection import lower_detection
from deploycc.passes.options import Options, Prune
from deploycc.passes.prune_channels import PruneReport, choose, prune, prune_channels

prune_module = sys.modules[prune.__module__]  # its name in the package is the pass
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
PADDED = CHAIN.replace("Conv (d", "Conv <pads = [1,1,1,1]> (d").replace("float[4,4,1,1] w2", "float[4,4,3,3] w2")


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
    source = network(PADDED)
    report = prune(source, Prune({"conv1": (0,)}))
    assert report.removed == {}
    (note,) = report.stays
    assert note.code == "channel-constant"
    assert "conv2: it pads with zeros" in note.reason


def test_a_carrier_takes_constants_in_front_of_padding() -> None:
    source = network(PADDED)
    expected = run(zeroed(source.graph, {"conv1": (0, 1, 3)}))
    report = prune(source, Prune({"conv1": (0, 3)}, carriers={"conv1": (1,)}))
    assert report.removed == {"conv1": (0, 3), "dw": (0, 3)}
    (note,) = report.stays
    assert (note.node, note.code) == ("conv1", "channel-carrier")
    assert note.reason == (
        "conv1[1] = dw[1] stays: conv2: it gets what 2 removed channels would add through this one, whose kernels are "
        "zero now"
    )
    np.testing.assert_allclose(run(source.graph)[0], expected[0], rtol=RTOL, atol=ATOL)


def test_a_carrier_that_nothing_needs_is_a_kernel_like_others() -> None:
    source = network(CHAIN)
    expected = run(zeroed(source.graph, {"conv1": (0, 3)}))
    report = prune(source, Prune({"conv1": (0, 3)}, carriers={"conv1": (1,)}))
    assert report.stays == ()
    np.testing.assert_allclose(run(source.graph)[0], expected[0], rtol=RTOL, atol=ATOL)
    listed = network(CHAIN)
    assert prune(listed, Prune({"conv1": (0, 1)}, carriers={"conv1": (1,)})).removed["conv1"] == (0, 1)


def test_an_output_carries_nothing() -> None:
    """A carrier of zeros would show."""
    outputs = "float[2] b3, int64[1] one, int64[1] two) => (float[1,2,6,6] y, float[1,1,6,6] z)"
    shown = PADDED.replace("float[2] b3) => (float[1,2,6,6] y)", outputs)
    shown = shown.replace("[conv3]", "[shown] z = Slice (d, one, two, one) [conv3]")
    source = network(shown, {"one": np.array([1]), "two": np.array([2])})
    before = run(source.graph)
    report = prune(source, Prune({"conv1": (0, 3)}, carriers={"conv1": (1,)}))
    assert report.removed == {}
    for got, expected in zip(run(source.graph), before, strict=True):
        np.testing.assert_array_equal(got, expected)


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


@settings(max_examples=examples(60))
@given(st.one_of(channel_networks("conv", "bn", "meet", "depthwise"), channel_networks()))
def test_the_pass_with_carriers_equals_kernels_times_zero(made: ChannelNetwork) -> None:
    source = detector(made.build())
    error_of, _ = pass_with_carriers(source, made.seed)
    assert error_of <= 1.0


def test_carriers_are_reached() -> None:
    """Without this, the property above might hold because nothing is ever carried."""
    seen: list[int] = []

    @settings(max_examples=80, derandomize=True, database=None)
    @given(channel_networks("conv", "bn", "meet", "depthwise"))
    def collect(made: ChannelNetwork) -> None:
        seen.append(pass_with_carriers(detector(made.build()), made.seed)[1])

    collect()
    assert sum(seen) > 5


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (prune_module, "    silence(graph, _those_in(groups, _listed(wanted), constants.carriers))\n", ""),
        (carriers_module, "for index in (1, 2) if", "for index in (1,) if"),
    ],
    ids=["not silenced", "its bias stays"],
)
def test_planted_bug_in_carriers_is_noticed(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, old: str, new: str
) -> None:
    broken = mutant(module, old, new)
    if module is carriers_module:
        monkeypatch.setattr(prune_module, "silence", broken.silence)
    prune_with = broken.prune if module is prune_module else prune

    def shows(made: ChannelNetwork) -> bool:
        return pass_with_carriers(detector(made.build()), made.seed, prune_with)[0] > 1.0

    shown = find_example(channel_networks("conv", "bn", "meet", "depthwise"), shows)
    monkeypatch.undo()
    assert pass_with_carriers(detector(shown.build()), shown.seed)[0] <= 1.0


def pass_with_carriers(
    source: Detector, seed: int, prune_with: Callable[[Detector, Prune], PruneReport] = prune
) -> tuple[float, int]:
    """Pruned against masked, with some kernels as carriers whether they can be or not; how many are carriers."""
    groups = channel_groups(source.graph)
    random = np.random.default_rng(seed)
    drawn = {name: random.random(len(labels)) for name, labels in groups.layers.items()}
    least = 0.2 * (seed % 2)  # carriers may be among the kernels that go
    wanted = {name: tuple(np.flatnonzero((draw >= least) & (draw < 0.7)).tolist()) for name, draw in drawn.items()}
    carriers = {name: tuple(np.flatnonzero(draw < 0.2).tolist()) for name, draw in drawn.items()}
    pruned = replace(source, graph=source.graph.copy())
    asked = Prune(wanted, carriers=carriers)
    report = prune_with(pruned, asked)
    needed = choose(source.graph, groups, asked)[1].carriers
    zero = {
        name: tuple(
            kernel
            for kernel in sorted({*wanted[name], *carriers[name]})
            if kernel in report.removed.get(name, ()) or int(groups.layers[name][kernel]) in needed
        )
        for name in wanted
    }
    masks = {name: kernels for name, kernels in zero.items() if kernels}
    return error(run(pruned.graph), run(zeroed(source.graph, masks))), len(needed)


def test_golden() -> None:
    source = network(RESIDUAL)
    assert_golden("passes/prune_channels.before.txt", to_text(source.graph) + "\n")
    report = prune(source, Prune({"conv1": (1, 3), "conv2": (0, 1, 3)}))
    assert operators(source.graph) == ["Conv", "Relu", "Conv", "Conv", "Add", "Conv"]
    said = "".join(f"{note.node}: {note.code}: {note.reason}\n" for note in report.stays)
    assert_golden("passes/prune_channels.after.txt", f"{to_text(source.graph)}\n\n{said}")
