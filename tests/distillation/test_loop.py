"""Steps of a training: as large as asked, relative to each weight."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from graph_text import network, picture  # noqa: E402
from mutation import mutant  # noqa: E402

from deploycc.distillation import loop  # noqa: E402
from deploycc.distillation.loop import TrainingSettings  # noqa: E402
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


def steps_are_as_asked(module: ModuleType) -> bool:
    """Whether the first step of each weight is the rate, relative to its root mean square, as Adam's first step is."""
    trained = made()
    before = {name: weight.detach().clone() for name, weight in zip(trained.names, trained.weights, strict=True)}
    optimiser = module.make_optimiser(trained, TrainingSettings(rate=RATE))
    for group in optimiser.param_groups:
        group["lr"] = group["peak"]
    [y] = trained(torch.from_numpy(picture(network(TEXT).graph)))
    (y - 1).square().sum().backward()
    optimiser.step()
    moved = {
        name: float((weight.detach() - before[name]).square().mean().sqrt() / before[name].square().mean().sqrt())
        for name, weight in zip(trained.names, trained.weights, strict=True)
    }
    return all(abs(step / RATE - 1) < 1e-3 for step in moved.values())


def test_steps_are_relative_to_each_weight() -> None:
    assert steps_are_as_asked(loop)


def test_a_step_that_is_not_relative_is_noticed() -> None:
    assert not steps_are_as_asked(mutant(loop, '"peak": settings.rate * scale', '"peak": settings.rate'))
