"""Whole blocks and kernels in one ranking, against every set of blocks; and pruning with them from end to end."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from channel_removal import error
from graph_text import network, run
from numpy.typing import NDArray

from deploycc.cli import main
from deploycc.detector import Detector, InputSpec
from deploycc.detector.file import save
from deploycc.graph.blocks.removal import remove_block
from deploycc.graph.channels.labels import channel_groups
from deploycc.importers import load
from deploycc.passes import PIPELINE
from deploycc.passes import run as run_passes
from deploycc.prediction.costs import PredictedCosts
from deploycc.pruning.decide import by_norm
from deploycc.pruning.worth import ShareOfLayer, identity_share
from deploycc.report.pruning import layers_table, remarks
from deploycc.target import load as load_target
from deploycc.workflows.block_choice import BlockSearch
from deploycc.workflows.goal_choice import GoalInputs
from deploycc.workflows.prune import PruneSettings, cpu_options, prune

TEXT = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,16,16] x, float[16,3,3,3] w1, float[8,16,1,1] w2, float[16,8,3,3] w3, float[16,16,3,3] w4,
   float[16,16,1,1] w5, float[8,16,3,3] w6, float[4,24,1,1] w7) => (float[1,4,16,16] y) {
  [stem] a1 = Conv <pads = [1,1,1,1]> (x, w1)
  [relu1] a2 = Relu (a1)
  [narrow] a3 = Conv (a2, w2)
  [relu2] a4 = Relu (a3)
  [widen] a5 = Conv <pads = [1,1,1,1]> (a4, w3)
  [sum] a6 = Add (a2, a5)
  [plain] a7 = Conv <pads = [1,1,1,1]> (a6, w4)
  [relu3] a8 = Relu (a7)
  [left] a9 = Conv (a8, w5)
  [right] b1 = Conv <pads = [1,1,1,1]> (a8, w6)
  [join] b2 = Concat <axis = 1> (a9, b1)
  [relu4] b3 = Relu (b2)
  [head] y = Conv (b3, w7)
}"""
BLOCKS = {"sum a5", "identity a8", "identity a9", "concat a9", "concat b1"}


class Planted:
    """A convolution that costs its launch, and its multiply-accumulates."""

    def __init__(self, node: gs.Node, launch: float) -> None:
        self.tensors = (node.inputs[0].name, node.outputs[0].name)
        self._window, self._launch = int(np.prod(node.inputs[1].shape[2:])), launch

    def costs(self, kept: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(self._launch + self._window * kept.prod(axis=1) / 100, np.float64)


def block_search(launch: float) -> BlockSearch:
    dense = network(TEXT, seed=3)
    groups = channel_groups(dense.graph)
    layers = set(groups.layers) - {"head"}
    inputs = GoalInputs(dense, dense, groups, by_norm(dense.graph, groups, 1.0, layers), layers)
    return BlockSearch(
        inputs,
        lambda choice: ShareOfLayer(choice.use),
        lambda part: [Planted(node, launch) for node in part.dense.graph.nodes if node.op == "Conv"],
        4,
    )


def test_the_loss_is_that_of_the_best_set_of_blocks() -> None:
    search = block_search(60.0)
    goal, losses = 0.75 * search.cost, search.losses()
    assert {" ".join(key) for key in losses} == BLOCKS
    blocks = [block for block, _ in losses.values()]
    every = [
        search.score(search.without(chosen), goal)
        for count in range(3)
        for chosen in itertools.combinations(blocks, count)
    ]
    missed, loss = search.score(search.choose(goal), goal)
    assert missed == min(every)[0] == 0
    assert loss <= 1.02 * min(every)[1]


def test_what_a_block_is_worth() -> None:
    search = block_search(0.0)
    losses = {" ".join(key): loss for key, (_, loss) in search.losses().items()}
    graph = {node.name: node for node in search.inputs.dense.graph.nodes}
    for block, share in {"sum a5": 1 / 2, "concat b1": 1 / 3, "concat a9": 2 / 3}.items():  # of what the readers get
        assert losses[block] == pytest.approx(-2 * np.log(1 - share), rel=1e-9, abs=0)
    assert losses["identity a8"] == 1 - identity_share(graph["plain"])
    weight = np.zeros((4, 4, 3, 3), np.float32)
    weight[range(4), range(4), 1, 1] = [1, -2, 3, 4]
    same = gs.Node("Conv", inputs=[gs.Variable("v"), gs.Constant("w", weight)])
    assert identity_share(same) == 1
    same.inputs[1].values[0, 1, 0, 0] = 10
    assert identity_share(same) == 0.5
    same.inputs[1].values = weight[:2]
    assert identity_share(same) == 0


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Detector]:
    path = tmp_path_factory.mktemp("blocks") / "blocks.onnx"
    save(replace(network(TEXT, seed=3), input=InputSpec("x", 16, 16)), path)
    return path, load(path)


def test_blocks_go_where_launches_are_what_takes_time(detector: tuple[Path, Detector]) -> None:
    costs = PredictedCosts(load_target("jetson-tx2-jp461"))
    goal = PruneSettings(by="l1", speedup=1.1, scope="both")
    pruned = prune(detector[1], replace(goal, blocks=True), costs=costs)
    record = pruned.record
    assert record.blocks
    assert record.goal is not None
    assert record.goal.after_ms <= record.goal.goal_ms
    gone = [name for block in record.blocks for name in block.layers]
    assert {layer.name for layer in record.layers if layer.kernels[1] == 0} == set(gone)
    assert all(
        len(record.removed[layer.name]) == layer.kernels[0] - layer.kernels[1]
        for layer in record.layers
        if layer.kernels[0] != layer.kernels[1]
    )
    (said,) = [sentence for sentence in remarks(record, "blocks") if sentence.startswith("removed whole: ")]
    assert all(name in said for name in gone)
    (pays,) = [sentence for sentence in remarks(record, "blocks") if " of the time for " in sentence]
    saved = 1 - record.goal.after_ms / record.goal.before_ms
    assert pays.startswith(f"{saved:.1%} of the time for ")
    assert ("a smaller share of the time" in pays) == ("names what bounds each launch" in pays)
    table = layers_table(record, "blocks")
    assert table is not None
    assert {row[0] for row in table.rows if row[-1] == "removed whole"} == set(gone)
    reference = detector[1].graph.copy()
    for key in pruned.decision.prune.blocks:
        assert remove_block(reference, key) is not None
    compiled = run_passes(detector[1], replace(cpu_options(), prune=pruned.decision.prune), PIPELINE).detector
    assert error(run(compiled.graph), run(pruned.detector.graph)) <= 1.0
    assert {node.name for node in compiled.graph.nodes if node.op == "Conv"} == {
        node.name for node in reference.nodes if node.op == "Conv"
    }


@pytest.mark.parametrize("options", [["--below", "0.2"], []])
def test_blocks_without_a_goal_are_refused(
    options: list[str], detector: tuple[Path, Detector], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prune", str(detector[0]), "--by", "l1", "-o", str(tmp_path / "o.onnx"), "--blocks", *options]) == 1
    assert "error[prune-option]" in capsys.readouterr().err
