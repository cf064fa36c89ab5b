"""Channel groups: by hand, in words, and in several spellings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_files import assert_golden
from graph_text import network
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deploycc.graph.channels.groups import ChannelGroups
from deploycc.graph.channels.labels import channel_groups, solve_equations
from deploycc.graph.channels.movement_rules import reshaped
from deploycc.importers import load


def groups_of(text: str) -> ChannelGroups:
    return channel_groups(network(f'<ir_version: 8, opset_import: ["": 13]> {text}').graph)


def free_groups(groups: ChannelGroups) -> set[tuple[tuple[str, int], ...]]:
    """The kernels of each free group."""
    return {tuple(groups.kernels(group)) for group in groups.free.tolist()}


@given(st.integers(1, 30), st.data())
def test_equations_are_solved(count: int, data: st.DataObject) -> None:
    pair = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    pairs = data.draw(st.lists(pair, max_size=40))
    classes = {label: {label} for label in range(count)}
    for a, b in pairs:
        together = classes[a] | classes[b]
        classes.update(dict.fromkeys(together, together))
    left, right = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    assert solve_equations(count, left, right).tolist() == [min(classes[label]) for label in range(count)]


@given(st.data())
def test_reshaping_what_is_not_written_out(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4))
    cuts = data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=0, max_size=3))
    total, new = int(np.prod(sizes)), []
    for cut in cuts:
        if total % cut == 0:
            new.append(cut)
            total //= cut
    new.append(total)
    thin = [data.draw(st.sampled_from([1, size])) for size in sizes]
    values = data.draw(hnp.arrays(np.int64, thin, elements=st.integers(0, 5)))
    got = reshaped(values, sizes, new)
    expected = np.broadcast_to(values, sizes).reshape(new)
    np.testing.assert_array_equal(np.broadcast_to(got, new), expected)


def test_a_residual_block_in_words() -> None:
    groups = groups_of("""g (float[1,3,4,4] x, float[2,3,3,3] w1, float[2,1,3,3] wd, float[2] bd, float[2,2,1,1] w2,
      float[4,4,1,1] w3, float[64,3] wg) => (float[1,3] y) {
      [first] a = Conv <pads = [1,1,1,1]> (x, w1)
      [dw] d = Conv <pads = [1,1,1,1], group = 2> (a, wd, bd)
      [second] b = Conv (d, w2)
      [sum] s = Add (a, b)
      [minus] m = Neg (s)
      [both] c = Concat <axis = 1> (s, m)
      [third] e = Conv (c, w3)
      [flat] f = Flatten (e)
      [gemm] y = Gemm (f, wg)
    }""")
    assert free_groups(groups) == {
        (("first", 0), ("dw", 0), ("second", 0)),
        (("first", 1), ("dw", 1), ("second", 1)),
        *((("third", kernel),) for kernel in range(4)),
    }
    text = "\n".join([groups.describe(int(groups.layers["first"][1])), groups.describe(int(groups.layers["gemm"][0]))])
    assert_golden("graph/groups.txt", f"{groups}\n\n{text}\n")


def test_gate() -> None:
    """LKAM: kernel k goes with output k of the gate, whichever reads the input; two units stay, their kernels go."""
    gate = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,3,4,4] x, float[4,3,1,1] w0, float[4,4,3,3] w, float[UNITS,4,1,1] wg, float half, int64[4] unit_of,
       float[2,4,1,1] wy) => (float[1,2,2,2] y) {
      [before] z = Conv (x, w0)
      [conv] c = Conv (z, w)
      p = GlobalAveragePool (z)
      [decide] l = Conv (p, wg)
      q = Sigmoid (l)
      on = Greater (q, half)
      m = Cast <to = 1> (on)
      [each] k = Gather <axis = 1> (m, unit_of)
      g = Mul (c, k)
      [after] y = Conv (g, wy)
    }"""
    before = {(("before", kernel),) for kernel in range(4)}
    single = channel_groups(network(gate.replace("UNITS", "4"), {"unit_of": np.arange(4)}).graph)
    assert free_groups(single) == before | {(("conv", kernel), ("decide", kernel)) for kernel in range(4)}
    units = channel_groups(network(gate.replace("UNITS", "2"), {"unit_of": np.array([0, 0, 1, 1])}).graph)
    assert free_groups(units) == before | {(("conv", kernel),) for kernel in range(4)}
    assert {units.pins[group].node for group in units.layers["decide"].tolist()} == {"each"}


@pytest.mark.parametrize(
    ("node", "shape", "code"),
    [
        ("[op] r = LRN <size = 3> (c)", "1,4,4,4", "channel-neighbours"),
        ("[op] r = Softmax <axis = 1> (c)", "1,4,4,4", "channel-normalised"),
        ("[op] r = DepthToSpace <blocksize = 2> (c)", "1,1,8,8", "channel-no-rule"),
        ("[op] r = ReduceMax <axes = [1], keepdims = 1> (c)", "1,1,4,4", "channel-reduced"),
    ],
)
def test_what_stays_says_why(node: str, shape: str, code: str) -> None:
    groups = groups_of(
        f"g (float[1,3,4,4] x, float[4,3,1,1] w) => (float[{shape}] r) {{ [conv] c = Conv (x, w) {node} }}"
    )
    assert len(groups.free) == 0
    (note,) = groups.notes
    assert (note.node, note.code) == ("op", code)
    assert all(groups.pins[group] == note for group in groups.layers["conv"].tolist())


def test_layers_without_names_are_known_by_their_output() -> None:
    groups = groups_of("""g (float[1,3,4,4] x, float[4,3,1,1] w, float[4,4,1,1] v) => (float[1,4,4,4] z) {
      y = Conv (x, w) [same] r = Relu (y) [same] z = Conv (r, v)
    }""")
    assert sorted(groups.layers) == ["y", "z"]


@pytest.mark.parametrize("name", ["vgg_ssd300_voc_deploy", "pvanet_pva9.1_imagenet"])
def test_real_networks_hold_nothing_without_a_rule(assets: Path, name: str) -> None:
    graph = load(assets / "prototxt" / f"{name}.prototxt", random_weights=0).graph
    assert channel_groups(graph).notes == ()


def test_the_heads_of_an_ssd_stay(assets: Path) -> None:
    graph = load(assets / "prototxt" / "squeezenet_ssd_voc_deploy.prototxt", random_weights=0).graph
    groups = channel_groups(graph)
    stay = {name for name, labels in groups.layers.items() if set(labels.tolist()) & set(groups.pins)}
    assert stay == {name for name in groups.layers if "mbox" in name}
    assert {note.code for note in groups.pins.values()} == {"channel-input", "channel-output"}
