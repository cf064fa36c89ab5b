"""Removing channels equals masking them with zeros: on random networks, and with planted bugs that must show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
from channel_networks import ChannelNetwork
from channel_removal import NO_NETWORK, Parts, carried_error, choice, dead_error, error, kill, masked, removal_error
from examples import examples
from graph_text import network, run
from hypothesis import given, settings
from hypothesis import strategies as st
from mutation import find_example, mutant
from strategies import channel_networks, constant_networks

from deploycc.graph.channels import carriers, constant_rules, labels, movement_rules, readers, removal, reshaping, rules
from deploycc.graph.channels import constants as channel_constants
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.channels.removal import remove_channels

_MOST = 0.7  # of the kernels die where a carrier is to have some to carry


@settings(max_examples=examples(75))
@given(channel_networks())
def test_removed_equals_masked(made: ChannelNetwork) -> None:
    worst, _ = removal_error(made.build(), made.seed)
    assert worst <= 1.0


@settings(max_examples=examples(60))
@given(st.one_of(channel_networks(), constant_networks()))
def test_dead_channels_go_without_a_trace(made: ChannelNetwork) -> None:
    worst, _ = dead_error(kill(made.build(), made.seed))
    assert worst <= 1.0


@settings(max_examples=examples(60))
@given(st.one_of(channel_networks("conv", "bn", "meet", "transposed"), channel_networks(), constant_networks()))
def test_a_carrier_holds_what_other_dead_channels_add(made: ChannelNetwork) -> None:
    worst, _ = carried_error(kill(made.build(), made.seed, _MOST))
    assert worst <= 1.0


@settings(max_examples=examples(40))
@given(channel_networks())
def test_original_is_not_touched_and_shapes_follow(made: ChannelNetwork) -> None:
    graph = made.build()
    before = run(graph)
    groups = channel_groups(graph)
    cut = graph.copy()
    result = remove_channels(cut, groups, choice(groups, made.seed))
    for got, want in zip(run(graph), before, strict=True):
        np.testing.assert_array_equal(got, want)
    again = channel_groups(cut)
    gone = set(result.groups)
    for name, labelled in groups.tensors.items():
        left = sum(group not in gone for group in labelled.groups.tolist())
        assert cut.tensors()[name].shape[labelled.axis] == left > 0
    assert {name: len(kernels) for name, kernels in again.layers.items()} == {
        name: len(kernels) - len(result.layers.get(name, ())) for name, kernels in groups.layers.items()
    }


def test_the_strategy_reaches_merges_and_removals() -> None:
    """Without this, the properties above might hold because nothing is ever removed."""
    seen: list[int] = []
    carried: list[int] = []
    ops: set[str] = set()

    @settings(max_examples=80, derandomize=True, database=None)
    @given(channel_networks())
    def collect(made: ChannelNetwork) -> None:
        graph = made.build()
        groups = channel_groups(graph)
        seen.append(len(remove_channels(graph, groups, choice(groups, made.seed)).groups))
        ops.update(node.op for node in graph.nodes)

    @settings(max_examples=80, derandomize=True, database=None)
    @given(channel_networks("conv", "bn", "meet", "transposed"))
    def carry(made: ChannelNetwork) -> None:
        carried.append(carried_error(kill(made.build(), made.seed, _MOST))[1])

    collect()
    carry()
    assert sum(carried) > 20
    assert np.mean(np.array(seen) > 0) > 0.5
    assert np.mean(seen) > 2
    assert ops >= {"Add", "Concat", "Slice", "Gather", "Gemm", "ConvTranspose", "Transpose", "Reshape"}


# ---- planted bugs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bug:
    """One line of a module changed, and the kinds of blocks that show it soon (all where none is named)."""

    module: ModuleType
    old: str
    new: str
    kinds: str = ""


LABELLING = {
    "no coupling where tensors are added": Bug(
        rules, "site.unite(channels.values, values)", "pass", "residual meet"
    ),
    "labels of Concat are swapped": Bug(
        movement_rules, "site.write(axis, np.concatenate(parts))\n        return\n    known",
        "site.write(axis, np.concatenate(parts[::-1]))\n        return\n    known", "concat"
    ),
    "the negated half of a C.ReLU is forgotten": Bug(
        movement_rules, "site.write(axis, np.concatenate(parts))\n        return\n    known",
        "site.write(axis, np.concatenate([parts[0], *(site.fresh(len(p)) for p in parts[1:])]))\n        return\n    known",
        "crelu"
    ),
    "fresh labels after a depthwise convolution": Bug(
        rules, "made = np.repeat(source, outputs // groups)", "made = site.fresh(outputs)", "depthwise"
    ),
    "groups of a convolution are not united": Bug(
        rules, "site.unite(stacked[1:], np.broadcast_to(stacked[0], stacked[1:].shape))", "pass", "conv grouped"
    ),
    "kernels of a grouped convolution are interleaved": Bug(
        rules, "made = np.tile(site.fresh(outputs // groups), groups)",
        "made = np.repeat(site.fresh(outputs // groups), groups)", "grouped"
    ),
    "wrong index map of Flatten": Bug(
        movement_rules, "return np.broadcast_to(values, before).reshape(after)",
        'return np.broadcast_to(values, before).reshape(after, order="F")', "conv"
    ),
    "the second part of a Split starts one channel early": Bug(movement_rules, "start += size", "start += size - 1", "split"),
    "a Slice starts one channel early": Bug(
        movement_rules, "site.write(channels.axis, channels.values[cut])",
        "site.write(channels.axis, np.roll(channels.values, 1)[cut])", "cut"
    ),
    "Transpose moves the channels the wrong way": Bug(
        movement_rules, "perm.index(channels.axis)", "perm[channels.axis]", "conv"
    ),
    "a constant for each channel, a gate or a slope of PReLU, is not cut": Bug(
        rules, "            site.operand(index, operand_axis, values)", "            pass", "prelu affine"
    ),
    "the gate is not coupled with what it gates": Bug(
        rules, "site.shape(index)[operand_axis] == 1 != shape[axis]", "site.shape(index)[-1] == 1 != shape[-1]", "gate"
    ),
    "some statistics of a BatchNormalization are not cut": Bug(
        rules, "for index in range(1, len(site.node.inputs)):\n            site.operand",
        "for index in range(1, 3):\n            site.operand", "bn"
    ),
    "weights of a transposed convolution are cut along the wrong axis": Bug(
        rules, "site.operand(1, 1, kernels)", "site.operand(1, 0, kernels)", "transposed"
    ),
    "a Gemm's matrix is never transposed": Bug(
        rules, 'rows_last = bool(site.node.attrs.get("transB", 0))', "rows_last = False", "conv cut"
    ),
    "LRN is taken for an element-wise operator": Bug(
        rules, 'site.pin(channels.values, "channel-neighbours", "LRN sums over neighbouring channels")',
        "site.write(1, channels.values)", "lrn"
    ),
    "a channel that is gathered twice may be removed once": Bug(
        movement_rules, 'site.pin(channels.values, "channel-gather", "it gathers some channels more than once")', "pass", "pick gate"
    ),
    "a reshape to two channel axes unites nothing": Bug(
        labels, "self.unite(axes, np.broadcast_to(first, axes.shape))", "pass", "crelu shuffle"
    ),
    "an operator without a rule passes its channels on": Bug(
        labels, 'site.pin_operands("channel-no-rule", f"{node.op} has no channel rule")',
        "site.write(1, site.channels(0).values) if site.channels(0) else None", "unknown"
    ),
    "outputs of the network are cut": Bug(
        labels, "for tensor in graph.outputs:\n        if tensor.name in walk.channels:",
        "for tensor in graph.outputs:\n        if False:", "conv"
    ),
}  # fmt: skip

CUTTING = {
    "sizes of a Split stay": Bug(reshaping, '"Split": _split,', "", "split"),
    "bounds of a Slice stay": Bug(reshaping, '"Slice": _slice,', "", "cut"),
    "a Slice's start is off by one": Bug(
        reshaping, "stays[: cut.start]", "stays[: cut.start + 1]", "cut"
    ),
    "the group count stays": Bug(reshaping, '"Conv": _convolution,', "", "depthwise"),
    "the shape of a Reshape stays": Bug(reshaping, '"Reshape": _target_shape,', "", "crelu shuffle"),
    "the sizes of a Resize stay": Bug(reshaping, '"Resize": _resize,', "", "resize"),
    "indices of a Gather are not renumbered": Bug(reshaping, '"Gather": _gather,', "", "pick"),
}  # fmt: skip

CONSTANTS = {
    "a BatchNormalization's shift is ignored": Bug(constant_rules, "+ (beta - mean * scale)", "", "bn"),
    "a bias is ignored": Bug(
        constant_rules, "factor * result.reshape(-1) + bias", "factor * result.reshape(-1)", "conv"
    ),
    "a constant goes through padding into a kernel": Bug(
        constant_rules, 'transposed or (node.op == "Conv" and pads(node))', "transposed", "depthwise"
    ),
    "an average counts no border": Bug(
        constant_rules, 'if border and site.node.attrs.get("count_include_pad", 0):', "if False:", "pool_window"
    ),
    "a border counts as the constant that it surrounds": Bug(
        constant_rules, "kept = np.where(channels.values == border, channels.values, np.nan)",
        "kept = channels.values", "border"
    ),
    "a constant added to a picture is a constant": Bug(
        constant_rules, '"Add": lambda node, x: x[0] + x[1]',
        '"Add": lambda node, x: np.where(np.isnan(x[0]), x[1], x[0])', "residual"
    ),
    "a constant is folded through padding": Bug(
        readers, 'node.op == "Conv" and not pads(node)', 'node.op == "Conv"', "conv"
    ),
    "a constant is not folded": Bug(removal, "_add_to_bias(graph, node, shift)", "pass", "conv"),
    "a Gemm's alpha is forgotten": Bug(
        readers, 'node.attrs.get("alpha", 1.0) * (held', "(held", "conv"
    ),
    "a Gemm's beta is forgotten": Bug(removal, "beta * old.astype", "old.astype", "conv"),
    "the shift of every group goes to the first": Bug(
        readers, "kernels = slice(group * kernels_per_group, (group + 1) * kernels_per_group)",
        "kernels = slice(0, kernels_per_group)", "grouped"
    ),
}  # fmt: skip


CARRYING = {
    "nothing is carried": Bug(removal, "carry(graph, node, read, gone, held, constants.carriers)", "pass"),
    "what is carried replaces the carrier's own weights": Bug(readers, "by_input[column] +=", "by_input[column] ="),
    "the carrier's constant counts as one": Bug(readers, "lost / held[column]", "lost"),
    "channels that stay are carried too": Bug(
        readers, "lost = np.nan_to_num(np.where(gone[read.groups], held, 0.0))", "lost = np.nan_to_num(held)"
    ),
    "any channel is a carrier": Bug(readers, "np.isin(read.groups, list(carriers)) & ", ""),
    "a channel without a constant is a carrier": Bug(readers, "if size[largest] > 0 else None", ""),
    "a grouped convolution has a carrier": Bug(readers, 'and int(node.attrs.get("group", 1)) == 1', ""),
    "a transposed convolution carries along the wrong axis": Bug(readers, '"ConvTranspose": 0', '"ConvTranspose": 1'),
    "a carrier goes with the others": Bug(channel_constants, "[*groups.pins, *constants.carriers]", "[*groups.pins]"),
}  # fmt: skip


def parts_with(monkeypatch: pytest.MonkeyPatch, bug: Bug) -> Parts:
    """The functions under test, with a bug in one module."""
    broken = mutant(bug.module, bug.old, bug.new)
    if bug.module is movement_rules:
        table = {**rules.RULES, **broken.MOVEMENT_RULES}
        return Parts(groups=lambda graph: channel_groups(graph, table))
    if bug.module is rules:
        return Parts(groups=lambda graph: channel_groups(graph, broken.RULES))
    if bug.module is labels:
        return Parts(groups=broken.channel_groups)
    if bug.module is removal:
        return Parts(remove=broken.remove_channels)
    if bug.module is reshaping:
        monkeypatch.setattr(removal, "restate", broken.restate)
    elif bug.module is constant_rules:
        monkeypatch.setattr(channel_constants, "CONSTANT_RULES", broken.CONSTANT_RULES)
    elif bug.module is readers:
        for name in ("why_not_foldable", "reader_shift", "carry"):
            monkeypatch.setattr(removal, name, getattr(broken, name))
        for name in ("why_not_foldable", "carrier_column"):
            monkeypatch.setattr(channel_constants, name, getattr(broken, name))
        monkeypatch.setattr(carriers, "can_carry", broken.can_carry)
    else:
        return Parts(constants=broken.channel_constants, removable=broken.removable)
    return Parts()


def noticed(compare: Callable[[], tuple[float, int]]) -> bool:
    """Return whether the outputs differ or cannot be computed: labels that do not fit a tensor may fail earlier."""
    try:
        return compare()[0] > 1.0
    except (ValueError, IndexError, TypeError, KeyError, *NO_NETWORK):
        return True


@pytest.mark.parametrize("bug", [*LABELLING, *CUTTING])
def test_planted_bug_in_removal_is_noticed(monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    planted = {**LABELLING, **CUTTING}[bug]
    parts = parts_with(monkeypatch, planted)

    def shows(made: ChannelNetwork) -> bool:
        return noticed(lambda: removal_error(made.build(), made.seed, parts))

    shown = find_example(channel_networks(*planted.kinds.split()), shows)
    assert shows(shown)
    monkeypatch.undo()
    assert removal_error(shown.build(), shown.seed)[0] <= 1.0


@pytest.mark.parametrize("bug", CONSTANTS)
def test_planted_bug_in_constants_is_noticed(monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    parts = parts_with(monkeypatch, CONSTANTS[bug])

    def shows(made: ChannelNetwork) -> bool:
        return noticed(lambda: dead_error(kill(made.build(), made.seed), parts))

    shown = find_example(constant_networks(*CONSTANTS[bug].kinds.split()), shows)
    assert shows(shown)
    monkeypatch.undo()
    assert dead_error(kill(shown.build(), shown.seed))[0] <= 1.0


@pytest.mark.parametrize("bug", CARRYING)
def test_planted_bug_in_carrying_is_noticed(monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    parts = parts_with(monkeypatch, CARRYING[bug])

    def shows(made: ChannelNetwork) -> bool:
        return noticed(lambda: carried_error(kill(made.build(), made.seed, _MOST), parts))

    shown = find_example(channel_networks("conv", "bn", "transposed", "grouped"), shows)
    assert shows(shown)
    monkeypatch.undo()
    assert carried_error(kill(shown.build(), shown.seed, _MOST))[0] <= 1.0


# ---- spellings that the random networks do not use ------------------------------------------------------------------

SPELLINGS = {
    "old": """<ir_version: 8, opset_import: ["": 9]>
g (float[1,3,4,4] x, float[4,3,1,1] w, float[2,2,1,1] v, float[4] half) => (float[1,2,4,4] y) {
 c = Conv(x,w) a,b = Split<axis=1, split=[2,2]>(c) s = Slice<axes=[1], starts=[2], ends=[4]>(c)
 t = Add(b, s) u = Sum(t, a) y = Conv(u, v) }""",
    "shared": """<ir_version: 8, opset_import: ["": 13]>
g (float[1,4,4,4] x, float[4,4,1,1] w, float[4] b, float[2,4,1,1] v) => (float[1,2,4,4] y) {
 c = Conv(x,w,b) r = Relu(c) d = Conv(r,w,b) y = Conv(d, v, ) }""",
    "tile": """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,4,4] x, float[3,3,1,1] w, int64[4] rep, float[2,6,1,1] v) => (float[1,2,4,4] y) {
 c = Conv(x,w) d = Tile(c,rep) y = Conv(d, v) }""",
    "expand": """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,4,4] x, float[3,3,1,1] w, int64[4] rep, float[2,3,1,1] v) => (float[1,2,4,4] y) {
 c = GlobalAveragePool(x) e = Conv(c,w) d = Expand(e,rep) y = Conv(d, v) }""",
    "convtdw": """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,4,4] x, float[4,3,1,1] w, float[4,2,2,2] t, float[8] tb, float[2,8,1,1] v) => (float[1,2,5,5] y) {
 c = Conv(x,w) e = ConvTranspose<group=4>(c,t,tb) y = Conv(e, v) }""",
    "instance": """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,4,4] x, float[4,3,1,1] w, float[4] t, float[4] tb, float[2,4,1,1] v) => (float[1,2,4,4] y) {
 c = Conv(x,w) e = InstanceNormalization(c,t,tb) y = Conv(e, v) }""",
    "squeeze": """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,4,4] x, float[4,3,1,1] w, int64[2] ax, float[4,5] m) => (float[1,5] y) {
 c = Conv(x,w) e = GlobalMaxPool(c) s = Squeeze(e, ax) y = MatMul(s, m) }""",
}
VALUES = {
    "tile": {"rep": np.array([1, 2, 1, 1])},
    "expand": {"rep": np.array([1, 3, 4, 4])},
    "squeeze": {"ax": np.array([2, 3])},
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings(name: str) -> None:
    graph = network(SPELLINGS[name], VALUES.get(name)).graph
    groups = channel_groups(graph)
    assert groups.notes == ()
    cut = graph.copy()
    result = remove_channels(cut, groups, choice(groups, 0))
    assert result.groups
    assert error(run(cut), run(masked(graph, groups, result.groups))) <= 1.0


def test_what_a_subgraph_reads_stays() -> None:
    graph = network("""<ir_version: 8, opset_import: ["": 13]>
    g (float[1,3,4,4] x, float[4,3,1,1] w, float[4,3,1,1] v, bool on) => (float[1,4,4,4] y) {
      [inside] c = Conv (x, w)
      [outside] d = Conv (x, v)
      [if] e = If (on) <
        then_branch = one () => (float[1,4,4,4] a) { a = Relu (c) },
        else_branch = two () => (float[1,4,4,4] b) { b = Neg (c) }
      >
      y = Add (e, d)
    }""").graph
    groups = channel_groups(graph)
    assert {groups.pins[group].node for group in groups.layers["inside"].tolist()} == {"if"}
    assert len(groups.free) == 0
    assert next((note.node, note.code) for note in groups.notes) == ("if", "channel-no-rule")
