"""Kernel counts chosen on a device within a budget: profiles, the file that keeps them, and the final comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_text import network

from deploycc.cli import main
from deploycc.detector import Detector
from deploycc.documents.costs import CostTable, Machine
from deploycc.documents.document import read_document
from deploycc.errors import InputError, MeasureError
from deploycc.graph.channels.labels import channel_groups
from deploycc.pruning.decide import by_norm
from deploycc.report.pruning import remarks
from deploycc.timing.convolutions import Costs
from deploycc.timing.profile_layers import TimedLayer
from deploycc.workflows.cost_files import read_costs
from deploycc.workflows.profiled_pruning import profiled_counts
from deploycc.workflows.prune import PruneSettings, prune
from deploycc.workflows.target_pruning import check_settings

CHAIN = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,32,32] x, float[96,3,3,3] w1, float[96,96,3,3] w2, float[8,96,1,1] w3) => (float[1,8,32,32] y) {
  [conv1] c1 = Conv <pads = [1,1,1,1]> (x, w1)
  [relu1] r1 = Relu (c1)
  [conv2] c2 = Conv <pads = [1,1,1,1]> (r1, w2)
  [relu2] r2 = Relu (c2)
  [conv3] y = Conv (r2, w3)
}"""
MACHINE = Machine(processor="GPU", onnxruntime=None, threads=1, device="tx2", runtime="tensorrt 8.2.1")
WIDTH, STEP, BUILD_S = 32, 64, 120.0


@dataclass
class Board:
    """A launch takes 0.1 ms, kernels come in tiles of 32, inputs are read 64 at once, engines are built in two minutes."""

    machine: Machine = MACHINE
    most_pictures: int = 8
    builds: bool = True
    now_s: float = 0.0
    kept: list[list[int]] = field(default_factory=list)
    words: str = "{} + relu"
    tells_nodes: bool = False

    def load(self, model: onnx.ModelProto, context: Mapping[str, object]) -> onnx.ModelProto:
        return model

    def profile(self, model: onnx.ModelProto, profiles: int) -> list[list[TimedLayer]]:
        self.now_s += BUILD_S
        self.kept.append([weight.dims[0] for weight in model.graph.initializer])
        return [[*self._layers(model), TimedLayer("pool", 0.25)]] * profiles

    def time_pictures(self, networks: Mapping[str, onnx.ModelProto], *_: object, **__: object) -> dict[str, Any]:
        self.now_s += BUILD_S * len(networks)
        return {
            key: np.full((5, 1), sum(layer.median_ms for layer in self._layers(model)))
            for key, model in networks.items()
        }

    def _layers(self, model: onnx.ModelProto) -> list[TimedLayer]:
        shapes = {weight.name: weight.dims for weight in model.graph.initializer}
        rows = [(node.name, shapes[node.input[1]]) for node in model.graph.node if node.op_type == "Conv"]
        tiles = [(name, -(-of[0] // WIDTH) * WIDTH, -(-of[1] // STEP) * STEP) for name, of in rows]
        return [
            TimedLayer(self.words.format(name), 0.1 + kernels * inputs * 1e-4, (name,) if self.tells_nodes else ())
            for name, kernels, inputs in tiles
        ]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return network(CHAIN)


def chosen(detector: Detector, board: Board, budget_s: float, costs: Costs | None = None) -> tuple[Any, Any, Any]:
    groups = channel_groups(detector.graph)
    choice = by_norm(detector.graph, groups, 0.45, groups.layers)
    able = groups.of_kernels(choice.kernels)
    said: list[str] = []

    def say(what: str, done: int = 0, total: int = 0) -> None:
        said.append(f"{what} {done}/{total}")

    costs = costs or Costs(MACHINE, timer=board)
    known = len(costs.profiles)
    clock = lambda: board.now_s  # noqa: E731
    made = profiled_counts(detector, groups, choice, able, groups.layers, costs, (), budget_s, say, clock)
    assert said[-1].startswith("the budget is over" if not made[2] else "comparing the chosen network")
    assert [words for words in said if words.startswith("profiling")] == [
        f"profiling networks on tx2, {2 * number:g} minutes of {budget_s / 60:g} {known + number}/12"
        for number in range(len(costs.profiles) - known)
    ]
    return made


def test_counts_fill_the_tiles_of_the_device(detector: Detector) -> None:
    board = Board()
    _, rounded, ratios = chosen(detector, board, 3600)
    assert [(of.layers, of.before, of.least, of.kept, of.multiple) for of in rounded] == [
        (("conv1",), 96, 53, 64, 32),  # as fast as 56, which l1 would leave
        (("conv2",), 96, 53, 64, 32),
    ]
    assert dict(rounded[1].times_ms)[8] == pytest.approx(dict(rounded[1].times_ms)[64], rel=1e-3)
    assert len(board.kept) <= 12
    assert ratios["all"] == 1
    assert ratios["profiles"] < 1


def test_what_was_measured_is_kept_and_a_second_call_goes_on(tmp_path: Path, detector: Detector) -> None:
    path, board = tmp_path / "costs.json", Board()
    chosen(detector, board, 5 * BUILD_S, read_costs(path, board))  # type: ignore[arg-type]
    table = read_document(path, CostTable)
    built = len(table.profiles)
    assert built == 3  # and two more are compared
    assert board.now_s == 5 * BUILD_S
    assert table.profiles[0].layers[1].samples_ms == pytest.approx([0.1 + 96 * 128e-4] * 3)
    assert table.profiles[0].others_ms == (0.25,) * 3
    assert table.profiles[0].seconds == BUILD_S
    second = Board()
    chosen(detector, second, 3600, read_costs(path, second))  # type: ignore[arg-type]
    assert [kept for kept in second.kept if kept in board.kept] == []
    assert len(read_document(path, CostTable).profiles) == built + len(second.kept)
    third = Board()
    chosen(detector, third, 3600, read_costs(path, third))  # type: ignore[arg-type]
    assert third.kept == []


def test_a_small_budget_ends_without_the_comparison(detector: Detector) -> None:
    board = Board()
    going, _, ratios = chosen(detector, board, 30)
    assert len(board.kept) == 1
    assert ratios == {}
    assert going


def test_the_record_says_what_chose(detector: Detector) -> None:
    settings = PruneSettings(by="l1", below=0.45, scope="both", budget_s=3600)
    record = prune(detector, settings, costs=Costs(MACHINE, timer=Board())).record
    assert set(record.relative_times) == {"all", "profiles"}
    (sentence,) = [line for line in remarks(record, "net", False) if "whole network" in line]
    assert sentence.startswith("the whole network's time by kernels kept, measured on tx2, GPU, tensorrt 8.2.1, fp32, ")
    assert sentence.endswith(f"those that profiles of whole networks chose {record.relative_times['profiles']:.2f}")


def test_a_goal_of_latency_is_met_with_few_engines(detector: Detector) -> None:
    board = Board()
    settings = PruneSettings(by="l1", speedup=1.4, scope="both", budget_s=3600)
    record = prune(detector, settings, costs=Costs(MACHINE, timer=board)).record
    assert [layer.kernels for layer in record.layers] == [(96, 64), (96, 96), (8, 8)]  # a full tile less of one layer
    assert record.goal is not None
    assert 0.95 * record.goal.goal_ms <= record.goal.after_ms <= record.goal.goal_ms
    assert len(board.kept) <= 12
    assert board.now_s <= 3600


def test_a_profile_in_other_words_is_said(detector: Detector) -> None:
    with pytest.raises(MeasureError) as caught:
        chosen(detector, Board(words="__myl_{}"), 3600)
    assert caught.value.code == "profile-unknown-layers"
    assert caught.value.context["a layer of the profile"] == "__myl_conv1"


def test_a_profile_in_other_words_is_read_by_the_nodes_that_it_tells(detector: Detector) -> None:
    costs = Costs(MACHINE, timer=Board(words="__myl_ConvRelu_myl0_{}", tells_nodes=True))
    chosen(detector, costs.timer, 30, costs)  # type: ignore[arg-type]
    assert [row.samples_ms[0] for row in costs.profiles[0].layers] == pytest.approx([0.7144, 1.3288, 0.5096])


@pytest.mark.parametrize(
    ("device", "others"), [(None, {}), ("local", {}), ("tx2", {"multiple": 16}), ("tx2", {"by": "fisher"})]
)
def test_a_budget_needs_a_device_and_counts_to_choose(device: str | None, others: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        check_settings(PruneSettings(**{"by": "l1", "budget_s": 60.0, **others}), device)
    assert caught.value.code == "prune-option"
    assert "budget" in f"{caught.value} {caught.value.hint}"


def test_prune_refuses_a_budget_without_a_device_before_it_reads_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prune", "street_ssd", "--by", "l1", "--below", "0.3", "--budget", "30m", "-o", "out.onnx"]) == 1
    assert "a budget is for networks that a device builds" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
