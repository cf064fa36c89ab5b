"""Steps of the optimiser: as large as asked, by both of its parts, and the same after its state was saved."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from graph_text import network, picture  # noqa: E402
from mutation import mutant  # noqa: E402

import deploycc  # noqa: E402
from deploycc.distillation import optimiser  # noqa: E402
from deploycc.distillation.optimiser import Optimiser, hidden_matrices  # noqa: E402
from deploycc.graph.split import split_heads  # noqa: E402
from deploycc.trainable.network import TrainableNetwork  # noqa: E402

RATE = 0.01
MATRICES = ("w", "v")
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,4,6,6] x, float[8,4,3,3] w, float[8] b, float[8,1,3,3] d, float[6,8,1,1] v) => (float[1,6,2,2] y) {
    c = Conv(x, w, b)
    k = Conv<group=8>(c, d)
    y = Conv(k, v)
}"""


def made() -> TrainableNetwork:
    rng = np.random.default_rng(1)
    shapes = {"w": (8, 4, 3, 3), "b": (8,), "d": (8, 1, 3, 3), "v": (6, 8, 1, 1)}
    scales = {"w": 1.0, "b": 0.1, "d": 10.0, "v": 0.01}
    values = {name: rng.normal(0, scales[name], shape).astype(np.float32) for name, shape in shapes.items()}
    return TrainableNetwork(network(TEXT, values))


def take_step(trained: TrainableNetwork, taken: Optimiser, seed: int = 1) -> None:
    [y] = trained(torch.from_numpy(picture(network(TEXT).graph, seed)))
    taken.zero_grad()
    (y - 1).square().sum().backward()
    taken.step()


def moved(module: ModuleType, matrices: tuple[str, ...] = ()) -> dict[str, float]:
    """Root mean square of the first step of each weight, relative to the weight's."""
    trained = made()
    before = {name: weight.detach().clone() for name, weight in zip(trained.names, trained.weights, strict=True)}
    taken = module.Optimiser(trained, RATE, matrices)
    taken.slow_down(0.5)
    take_step(trained, taken)
    after = dict(zip(trained.names, trained.weights, strict=True))
    return {
        name: float((after[name].detach() - old).square().mean().sqrt() / old.square().mean().sqrt())
        for name, old in before.items()
    }


def test_steps_are_relative_to_each_weight() -> None:
    for name, step in moved(optimiser).items():
        assert step == pytest.approx(RATE / 2, rel=1e-3), name  # the first step of Adam is its rate everywhere


def matrices_move_as_said(module: ModuleType) -> bool:
    found = moved(module, MATRICES)
    by_adam = all(abs(found[name] / (RATE / 2) - 1) < 1e-3 for name in ("b", "d"))
    # Singular values of a step of Muon are between about 0.7 and 1.2, and its elements then have 0.2 of the rate.
    return by_adam and all(0.6 < found[name] / (RATE / 2 * 1.5 * 0.2) < 1.3 for name in ("w", "v"))


def test_matrices_are_trained_by_muon() -> None:
    assert matrices_move_as_said(optimiser)


def test_predictors_and_depthwise_layers_are_no_hidden_matrices() -> None:
    detector = deploycc.load("street_ssd")
    assert detector.heads is not None
    split = split_heads(detector.graph, detector.heads.locations, detector.heads.scores)
    by_name = {node.name: node for node in detector.graph.nodes}
    plain, depthwise = set(), set()
    for node in (by_name[name] for name in split.backend.nodes):
        (depthwise if node.attrs.get("group", 1) > 1 else plain).add(node.inputs[1].name)
    assert depthwise
    assert split.frontend.nodes
    assert hidden_matrices(detector) == plain


@pytest.mark.parametrize(
    ("line", "bug"),
    [
        ('group["lr"] = group["peak"] * factor', 'group["lr"] = group["peak"]'),
        ("rate * scale * _MATRIX_STEP", "rate * _MATRIX_STEP"),
        ("weight.detach().flatten(1)", "weight.detach().clone().flatten(1)"),
    ],
)
def test_planted_bugs_are_noticed(line: str, bug: str) -> None:
    assert not matrices_move_as_said(mutant(optimiser, line, bug))


def test_a_saved_state_goes_on_with_the_same_steps() -> None:
    first, second = made(), made()
    ours, theirs = (Optimiser(one, RATE, MATRICES) for one in (first, second))
    take_step(first, ours)
    take_step(first, ours, 2)
    take_step(second, theirs)
    state, weights = theirs.state_dict(), second.state_dict()
    third = made()
    third.load_state_dict(weights)
    again = Optimiser(third, RATE, MATRICES)
    again.load_state_dict(state)
    take_step(third, again, 2)
    for mine, its in zip(first.weights, third.weights, strict=True):
        assert torch.equal(mine, its)


def test_a_network_of_matrices_alone_can_be_trained() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,2,2] x, float[3,4,1,1] w) => (float[1,3,2,2] y) { y = Conv(x, w) }'
    trained = TrainableNetwork(network(text))
    before = trained.weights[0].detach().clone()
    taken = Optimiser(trained, RATE, ("w",))
    trained(torch.ones(1, 4, 2, 2))[0].sum().backward()
    taken.slow_down(1.0)
    taken.step()
    assert not torch.equal(before, trained.weights[0])
