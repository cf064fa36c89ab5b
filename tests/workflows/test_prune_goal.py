"""Pruning to a latency, predicted for a board and measured by a simulated clock."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graph_text import network
from numpy.typing import NDArray

import deploycc
from deploycc.cli import main
from deploycc.detector import Detector, InputSpec
from deploycc.detector.file import save
from deploycc.documents.costs import Convolution, Machine
from deploycc.errors import BudgetMissed
from deploycc.graph.cost import measure_cost
from deploycc.graph.export import to_onnx
from deploycc.importers import load
from deploycc.prediction.costs import PredictedCosts
from deploycc.pruning import whole_network
from deploycc.pruning.goal_search import GoalSearch
from deploycc.report.pruning import remarks
from deploycc.target import load as load_target
from deploycc.timing.convolutions import Costs
from deploycc.workflows import target_pruning
from deploycc.workflows.predict import predict
from deploycc.workflows.prune import Pruned, PruneSettings, prune

CHAIN = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,64,64] x, float[64,3,3,3] w1, float[96,64,3,3] w2, float[96,96,3,3] w3, float[4,96,1,1] w4)
   => (float[1,4,64,64] y) {
  [conv1] c1 = Conv <pads = [1,1,1,1]> (x, w1)
  [relu1] r1 = Relu (c1)
  [conv2] c2 = Conv <pads = [1,1,1,1]> (r1, w2)
  [relu2] r2 = Relu (c2)
  [conv3] c3 = Conv <pads = [1,1,1,1]> (r2, w3)
  [relu3] r3 = Relu (c3)
  [conv4] y = Conv (r3, w4)
}"""
TX2 = load_target("jetson-tx2-jp461")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Detector]:
    path = tmp_path_factory.mktemp("chain") / "chain.onnx"
    save(replace(network(CHAIN), input=InputSpec("x", 64, 64)), path)
    return path, load(path)


def l1(**goal: float) -> PruneSettings:
    return PruneSettings(by="l1", **goal)  # type: ignore[arg-type]


def test_a_goal_is_met_on_the_board_that_is_predicted(chain: tuple[Path, Detector]) -> None:
    detector = chain[1]
    before_ms = predict(detector, TX2, precisions=["fp16"]).predictions[0].time.ms
    pruned = prune(detector, l1(latency_ms=0.6 * before_ms), costs=PredictedCosts(TX2))
    goal = pruned.record.goal
    assert goal is not None
    assert goal.before_ms == pytest.approx(before_ms, rel=1e-6, abs=0)
    after_ms = predict(pruned.detector, TX2, precisions=["fp16"]).predictions[0].time.ms
    assert goal.after_ms == pytest.approx(after_ms, rel=1e-6, abs=0)
    assert 0.9 * goal.goal_ms <= after_ms <= goal.goal_ms == pytest.approx(0.6 * before_ms, rel=1e-6, abs=0)
    assert (pruned.record.times, pruned.record.below) == ("predicted", 0)
    (said,) = [sentence for sentence in remarks(pruned.record, "chain") if "goal" in sentence]
    assert "predicted on jetson-tx2-jp461 fp16" in said
    again = deploycc.prune(detector, l1(speedup=1 / 0.6), costs=PredictedCosts(TX2))
    assert measure_cost(again.detector.graph).macs == measure_cost(pruned.detector.graph).macs


def test_a_goal_that_cannot_be_met_is_refused_with_the_fastest_that_can(
    chain: tuple[Path, Detector], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, detector = chain
    with pytest.raises(BudgetMissed, match="the fastest that can be takes") as refused:
        prune(detector, l1(latency_ms=1e-3), costs=PredictedCosts(TX2))
    assert refused.value.code == "latency-goal"
    out = tmp_path / "out.onnx"
    command = ["prune", str(path), "-t", "jetson-tx2-jp461", "--by", "l1", "-o", str(out)]
    assert main([*command, "--latency", "0.001ms"]) == 3
    assert not out.exists()
    said = " ".join(capsys.readouterr().err.split())
    assert "ms start 4 launches and the network, and " in said
    assert "--blocks lets branches and layers go whole" in said
    fastest = said.partition("fastest that can be takes ")[2].split()[0]
    assert main([*command, "--latency", f"{1.01 * float(fastest):g}ms"]) == 0
    assert out.exists()


def test_a_goal_that_one_board_misses_does_not_keep_the_others_from_being_compiled(
    chain: tuple[Path, Detector], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    slow, fast = "jetson-tx2-jp461", "jetson-xavier-jp512"

    def pretended(detector: Detector, settings: PruneSettings, costs: PredictedCosts, **known: object) -> Pruned:
        assert settings.latency_ms == 1
        if costs.target.name == slow:
            raise BudgetMissed("latency-goal", "no pruning makes the network take 1 ms")
        return prune(detector, PruneSettings(by="l1", below=0.2, multiple=8))

    monkeypatch.setattr(target_pruning, "prune", pretended)
    command = ["compile", str(chain[0]), "-t", slow, "-t", fast, "--by", "l1", "--latency", "1ms", "-o", str(out)]
    assert main([*command, "--json", "--precision", "fp16", "--no-build", "--no-verify", "--no-original"]) == 1
    said = capsys.readouterr()
    assert f"{slow} is refused" in said.err
    assert "error[latency-goal]" in said.err
    assert "error[targets-refused]: 1 of 2 targets" in said.err
    refused, compiled = json.loads(said.out)
    assert refused["target"] == slow
    assert refused["error"]["code"] == "latency-goal"
    assert compiled["compile"]["prunings"]
    assert [folder.name for folder in out.iterdir()] == [fast]


@pytest.mark.parametrize(
    "options",
    [
        ["--latency", "soon"],
        ["--latency", "0ms"],
        ["--speedup", "0.9x"],
        ["--speedup", "nan"],
        ["--latency", "25ms", "--speedup", "1.3x"],
        ["--latency", "25ms", "--below", "0.1"],
        ["--latency", "25ms", "--mask", "mask.json"],
    ],
)
def test_a_goal_that_cannot_be_meant_is_refused(
    options: list[str], chain: tuple[Path, Detector], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", str(chain[0]), "--by", "l1", "-o", str(tmp_path / "out.onnx"), *options]) == 1
    assert "error[prune-option]" in capsys.readouterr().err


def test_work_is_that_of_the_whole_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The front-end keeps its kernels, but reads fewer channels: that is work that goes, too."""
    detector, seen = deploycc.load("street_ssd"), list[float]()
    price_of_work = GoalSearch.price_of_work

    def spied(search: GoalSearch, goal: float) -> float:
        seen.append(search.full_work)
        return price_of_work(search, goal)

    monkeypatch.setattr(GoalSearch, "price_of_work", spied)
    pruned = prune(detector, l1(speedup=1.02), costs=PredictedCosts(TX2))
    assert set(seen) == {measure_cost(pruned.decision.dense.graph).macs}


class Products(Costs):
    """A machine on which a convolution takes as long as it has multiply-accumulates."""

    def __init__(self) -> None:
        super().__init__(Machine(processor="products", onnxruntime="none", threads=1))
        self.asked = set[int]()

    def measure(self, convolutions: Iterable[Convolution]) -> None:
        """Everything is known."""
        self.asked.update(convolution.kernels for convolution in convolutions)

    def samples_ms(self, convolution: Convolution) -> tuple[float, ...]:
        return (float(convolution.kernels * convolution.inputs * math.prod(convolution.kernel)),)


@pytest.mark.parametrize(("multiple", "step", "within"), [(None, 8, 0.06), (2, 2, 0.03)])
def test_a_goal_on_this_machine_is_corrected_by_timing_whole_networks(
    multiple: int | None,
    step: int,
    within: float,
    chain: tuple[Path, Detector],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clock sees a fixed cost and noise that the convolutions do not show."""
    random = np.random.default_rng(0)

    def network_ms(graph: gs.Graph) -> float:
        to_onnx(graph)  # it can be run
        return 10.0 + 1e-6 * measure_cost(graph).macs

    def pretended(
        networks: Iterable[tuple[str, gs.Graph]], timer: object, say: object, seconds: float
    ) -> dict[str, NDArray[np.float64]]:
        load_now = random.uniform(1, 2, 9)  # other work on the machine
        return {name: network_ms(graph) * load_now for name, graph in networks}

    monkeypatch.setattr(whole_network, "network_times", pretended)
    costs = Products()
    pruned = prune(chain[1], PruneSettings(by="l1", speedup=1.4, multiple=multiple), costs=costs)
    goal = pruned.record.goal
    assert goal is not None
    ratio = network_ms(pruned.detector.graph) / network_ms(chain[1].graph)
    assert (1 - within) / 1.4 <= ratio <= 1 / 1.4
    assert goal.after_ms / goal.before_ms == pytest.approx(ratio, rel=1e-6, abs=0)
    assert pruned.record.times == "measured"
    kept = {layer.name: layer.kernels[1] for layer in pruned.record.layers}
    assert all(count % step == 0 for name, count in kept.items() if name != "conv4")
    assert {40, 56, 72, 88} <= costs.asked  # multiples of 16 do not come near the goal: those of 8 are timed then
