"""What the outputs lose without whole blocks, against the divergence that is measured when blocks are turned down."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import onnx_graphsurgeon as gs
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from graph_text import network  # noqa: E402
from mutation import mutant  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from ssd_tails import grid_priors  # noqa: E402

from deploycc.detector import Detector, SsdHeads  # noqa: E402
from deploycc.distillation import block_importance  # noqa: E402
from deploycc.distillation.heads import score_tensor  # noqa: E402
from deploycc.distillation.loss import distillation_loss, probabilities_of  # noqa: E402
from deploycc.graph.blocks.search import Block, find_blocks  # noqa: E402
from deploycc.graph.channels.labels import channel_groups  # noqa: E402
from deploycc.trainable.network import TrainableNetwork  # noqa: E402

PICTURES, PROBES, TURNED_DOWN = 2, 60, 0.02
TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[1,3,4,4] x, float[4,3,3,3] w1, float[4,4,1,1] w2, float[4,4,3,3] w3, float[4,4,1,1] wl, float[3,4,1,1] ws,
   int64[3] four, int64[3] classes) => (float[a,b,c] loc, float[d,e,f] scores)
{
    [one] y = Conv<pads=[1,1,1,1]>(x, w1)
    z = Relu(y)
    [two] p = Conv(z, w2)
    r = Relu(p)
    [three] q = Conv<pads=[1,1,1,1]>(r, w3)
    s = Add(r, q)
    [box] lc = Conv(s, wl)
    lt = Transpose<perm=[0,2,3,1]>(lc)
    loc = Reshape(lt, four)
    [score] sc = Conv(s, ws)
    st = Transpose<perm=[0,2,3,1]>(sc)
    logits = Reshape(st, classes)
    scores = Sigmoid(logits)
}"""


def picture(number: int) -> NDArray[np.float32]:
    return np.random.default_rng(number).normal(0, 1, (1, 3, 4, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def detector() -> Detector:
    rng = np.random.default_rng(3)
    shapes = {"w1": (4, 3, 3, 3), "w2": (4, 4, 1, 1), "w3": (4, 4, 3, 3), "wl": (4, 4, 1, 1), "ws": (3, 4, 1, 1)}
    values = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    values["w2"] *= 0.3  # what takes the place of this layer is larger than what it makes
    made = network(TEXT, {**values, "four": np.array([1, 16, 4]), "classes": np.array([1, 16, 3])})
    centres = grid_priors((4, 4), np.array([[0.2, 0.3]], np.float32))
    corners = np.concatenate([centres[:, :2] - centres[:, 2:] / 2, centres[:, :2] + centres[:, 2:] / 2], axis=1)
    return replace(made, heads=SsdHeads("loc", "scores", corners, np.full((16, 4), 0.1, np.float32), 3, None))


def turned_down(detector: Detector, block: Block) -> Detector:
    """A part of the block's tensor is replaced by zero or by the block's source."""
    graph = detector.graph.copy()
    tensors = graph.tensors()
    old = tensors[block.tensor]
    kept, rest, mixed = (gs.Variable(f"mixed{n}", np.float32, old.shape) for n in range(3))
    source = tensors[block.source] if block.kind == "identity" else gs.Constant("zero", np.zeros(1, np.float32))
    for reader in list(old.outputs):
        reader.inputs = [mixed if tensor is old else tensor for tensor in reader.inputs]
    share, less = (
        gs.Constant(f"share{n}", np.float32([part])) for n, part in enumerate((TURNED_DOWN, 1 - TURNED_DOWN))
    )
    graph.nodes += [
        gs.Node("Mul", "kept", inputs=[old, less], outputs=[kept]),
        gs.Node("Mul", "rest", inputs=[source, share], outputs=[rest]),
        gs.Node("Add", "mixed", inputs=[kept, rest], outputs=[mixed]),
    ]
    return replace(detector, graph=graph.toposort())


def outputs(detector: Detector) -> list[tuple[torch.Tensor, torch.Tensor]]:
    run = TrainableNetwork(detector, [score_tensor(detector).name, "loc"])
    with torch.no_grad():
        results = [run(torch.from_numpy(picture(number))) for number in range(PICTURES)]
    return [(scores.double(), offsets.double()) for scores, offsets in results]


def worst(detector: Detector, module: ModuleType = block_importance) -> float:
    """The largest relative error of the estimates."""
    blocks = find_blocks(detector.graph, channel_groups(detector.graph))
    assert {block.key for block in blocks} == {("identity", "r"), ("sum", "q")}
    estimated = module.block_change(detector, blocks, picture, list(range(PICTURES)) * PROBES)
    activation, before, errors = score_tensor(detector).activation, outputs(detector), []
    for block in blocks:
        losses = [
            distillation_loss(scores, offsets, probabilities_of(its, activation), locations, activation, None).total
            for (scores, offsets), (its, locations) in zip(outputs(turned_down(detector, block)), before, strict=True)
        ]
        errors.append(abs(estimated[block.key] / (float(np.mean(losses)) / TURNED_DOWN**2) - 1))
    return max(errors)


def test_the_estimate_is_the_divergence(detector: Detector) -> None:
    assert worst(detector) < 0.5  # 120 random directions: 4 standard deviations are 0.52


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.5 * change**2", "change**2"),
        ("0.0 if source is None else _gradient(parameters[source])", "0.0"),
    ],
)
def test_planted_bugs_are_noticed(old: str, new: str, detector: Detector) -> None:
    assert worst(detector, mutant(block_importance, old, new)) > 0.6
