"""What kernels are worth in each picture, against what is measured when a layer's own kernels are turned down."""

from __future__ import annotations

from types import ModuleType
from typing import Literal

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from mutation import mutant  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from turned_down import PICTURES, measured, picture, small  # noqa: E402

from deploycc.distillation import picture_worth  # noqa: E402
from deploycc.trainable.network import TrainableNetwork  # noqa: E402

PROBES = 150
LAYERS = ("one", "two", "three")
"""What the last two make is added: a gate of one of them switches off that part alone."""


def by_picture(
    activation: Literal["Sigmoid", "Softmax"], module: ModuleType = picture_worth
) -> dict[str, NDArray[np.float64]]:
    found = module.picture_worth(small(activation), LAYERS, picture, list(range(PICTURES)) * PROBES)
    return {layer: values.reshape(PROBES, PICTURES, -1).mean(0) for layer, values in found.worths.items()}


def worst(activation: Literal["Sigmoid", "Softmax"], module: ModuleType = picture_worth) -> float:
    """Largest error of a kernel's worth in a picture, relative to what was measured."""
    truth = measured(small(activation), [(layer,) for layer in LAYERS])
    return max(
        float(np.abs(values / truth[layer] - 1).max()) for layer, values in by_picture(activation, module).items()
    )


@pytest.mark.parametrize("activation", ["Sigmoid", "Softmax"])
def test_the_estimate_is_the_divergence_in_each_picture(activation: Literal["Sigmoid", "Softmax"]) -> None:
    assert worst(activation) < 0.5  # 150 random directions: 4 standard deviations are 0.46


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("** 2 / max(1, seen)", "** 2"),
        ("0.5 * by_kernel", "by_kernel"),
        ("parameters[layer], 0)", "parameters[layer][:1], 0)"),
    ],
)
def test_planted_bugs_are_noticed(old: str, new: str) -> None:
    assert worst("Softmax", mutant(picture_worth, old, new)) > 0.7


def test_the_means_are_of_what_the_layers_read() -> None:
    found = picture_worth.picture_worth(small("Softmax"), LAYERS, picture, [0, 3, 4])
    run = TrainableNetwork(small("Softmax"), ["r"])
    for row, number in enumerate((0, 3, 4)):
        np.testing.assert_allclose(found.means["one"][row], picture(number).mean((0, 2, 3)), rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            [read] = run(torch.from_numpy(picture(number)))
        for layer in ("two", "three"):
            np.testing.assert_allclose(found.means[layer][row], read.mean((0, 2, 3)).numpy(), rtol=1e-5, atol=1e-6)


def test_the_mean_is_over_pictures() -> None:
    found = picture_worth.picture_worth(small("Softmax"), LAYERS, picture, [0, 1])
    for layer, values in found.mean_worths().items():
        np.testing.assert_allclose(values, (found.worths[layer][0] + found.worths[layer][1]) / 2, rtol=1e-9, atol=0)
