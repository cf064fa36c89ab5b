"""Whole networks are timed in turns, and the fastest is taken."""

from __future__ import annotations

import numpy as np
import pytest
from graph_text import network, run
from numpy.typing import NDArray

from deploycc.errors import MeasureError
from deploycc.graph.channels.labels import channel_groups
from deploycc.pruning import kept_counts
from deploycc.pruning.decide import Choice
from deploycc.pruning.whole_network import fastest, relative_times
from deploycc.timing.convolutions import Costs
from deploycc.timing.machine import this_machine
from deploycc.timing.timer import LocalTimer

CHAIN = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,64,64] x, float[64,3,3,3] w1, float[64,64,3,3] w2, float[2,64,1,1] w3) => (float[1,2,64,64] y) {
  [conv1] c1 = Conv <pads = [1,1,1,1]> (x, w1)
  [relu1] r1 = Relu (c1)
  [conv2] c2 = Conv <pads = [1,1,1,1]> (r1, w2)
  [relu2] r2 = Relu (c2)
  [conv3] y = Conv (r2, w3)
}"""


def test_a_sixteenth_of_the_kernels_takes_less_time_than_all() -> None:
    graph = network(CHAIN).graph
    groups = channel_groups(graph)
    most = frozenset([*groups.layers["conv1"][4:].tolist(), *groups.layers["conv2"][4:].tolist()])
    before = run(graph)[0]
    ratios = relative_times(graph, groups, {"all": frozenset(), "few": most}, "all", LocalTimer(this_machine(1)))
    assert len(ratios["few"]) == len(ratios["all"]) >= 6
    assert np.median(ratios["few"]) < 0.7
    assert (ratios["all"] == 1).all()
    np.testing.assert_array_equal(run(graph)[0], before)


def test_only_what_is_clearly_faster_replaces_the_reference() -> None:
    steady, rounds = np.ones(20), np.arange(20)
    slightly, often, rarely = 0.995 * steady, np.where(rounds < 16, 0.9, 1.4), np.where(rounds < 14, 0.9, 1.4)
    assert fastest({"16": steady, "a": slightly}, "16") == "16"
    assert fastest({"16": steady, "a": rarely}, "16") == "16"
    assert fastest({"16": steady, "a": often}, "16") == "a"
    assert fastest({"16": steady, "a": often, "b": 0.8 * steady}, "16") == "b"


@pytest.mark.parametrize("winner", ["8", "1", "16"])
def test_what_is_fastest_as_a_whole_is_taken(winner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network(CHAIN).graph
    groups = channel_groups(graph)
    use = {"conv1": np.where(np.arange(64) < 37, 0.5, 0.0), "conv2": np.where(np.arange(64) < 21, 0.5, 0.0)}
    choice = Choice({name: tuple(np.flatnonzero(each == 0).tolist()) for name, each in use.items()}, use, "")
    able = groups.of_kernels(choice.kernels)
    each = kept_counts.fixed_multiple(groups, choice, able, use, 8)
    monkeypatch.setattr(kept_counts, "fastest_multiple", lambda *arguments: each)
    seen = {}

    def pretended(
        graph: object, groups: object, candidates: dict[str, frozenset[int]], reference: str, timer: object, say: object
    ) -> dict[str, NDArray[np.float64]]:
        seen.update(candidates)
        return {name: np.full(6, 0.5 if name == winner else 2.0 - (name == reference)) for name in candidates}

    monkeypatch.setattr(kept_counts, "relative_times", pretended)
    going, decided, times = kept_counts.fastest_counts(graph, groups, choice, able, use, Costs(this_machine(1)))
    assert sorted(seen) == ["1", "16", "32", "8"]  # multiples of 8 are what each layer has
    assert going == seen[winner]
    assert [each.kept for each in decided] == {"8": [40, 24], "1": [37, 21], "16": [48, 32]}[winner]
    assert times == {name: 0.5 if name == winner else 2.0 - (name == "16") for name in seen}


def test_nothing_is_timed_where_nothing_can_go() -> None:
    graph = network(CHAIN).graph
    groups = channel_groups(graph)
    found = kept_counts.fastest_counts(graph, groups, Choice({}, {}, ""), (), groups.layers, Costs(this_machine(1)))
    assert found == (frozenset(), (), {})


def test_a_network_that_does_not_load_is_a_diagnosed_failure() -> None:
    graph = network(CHAIN).graph
    groups = channel_groups(graph)
    graph.nodes[1].op = "NoSuchOperator"
    with pytest.raises(MeasureError) as raised:
        relative_times(graph, groups, {"all": frozenset()}, "all", LocalTimer(this_machine(1)))
    assert raised.value.code == "onnxruntime-refuses"
    assert raised.value.hint == "`round_to=16` needs no timing"
