"""Steps of the optimiser: as large as asked, relative to each weight, and the same after its state was saved."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from graph_text import network, picture  # noqa: E402
from mutation import mutant  # noqa: E402

from deploycc.distillation import optimiser  # noqa: E402
from deploycc.distillation.optimiser import Optimiser  # noqa: E402
from deploycc.trainable.network import TrainableNetwork  # noqa: E402

RATE = 0.01
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


def steps_are_as_asked(module: ModuleType) -> bool:
    """Whether the first step of each weight is half the rate, relative to its root mean square: Adam's first is."""
    trained = made()
    before = {name: weight.detach().clone() for name, weight in zip(trained.names, trained.weights, strict=True)}
    taken = module.Optimiser(trained, RATE)
    taken.slow_down(0.5)
    take_step(trained, taken)
    moved = {
        name: float((weight.detach() - before[name]).square().mean().sqrt() / before[name].square().mean().sqrt())
        for name, weight in zip(trained.names, trained.weights, strict=True)
    }
    return all(abs(step / (RATE / 2) - 1) < 1e-3 for step in moved.values())


def test_steps_are_relative_to_each_weight() -> None:
    assert steps_are_as_asked(optimiser)


@pytest.mark.parametrize(
    ("line", "bug"),
    [
        ('group["lr"] = group["peak"] * factor', 'group["lr"] = group["peak"]'),
        ('"peak": rate * scale', '"peak": rate'),
    ],
)
def test_planted_bugs_are_noticed(line: str, bug: str) -> None:
    assert not steps_are_as_asked(mutant(optimiser, line, bug))


def test_a_saved_state_goes_on_with_the_same_steps() -> None:
    first, second, third = made(), made(), made()
    ours, theirs = Optimiser(first, RATE), Optimiser(second, RATE)
    take_step(first, ours)
    take_step(first, ours, 2)
    take_step(second, theirs)
    third.load_state_dict(second.state_dict())
    again = Optimiser(third, RATE)
    again.load_state_dict(theirs.state_dict())
    take_step(third, again, 2)
    for mine, its in zip(first.weights, third.weights, strict=True):
        assert torch.equal(mine, its)
