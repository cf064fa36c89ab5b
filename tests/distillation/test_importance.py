"""What the outputs depend on, against the divergence that is measured when channels are really turned down."""

from __future__ import annotations

from types import ModuleType
from typing import Literal

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from mutation import mutant  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from turned_down import MAKERS, PICTURES, measured, picture, small  # noqa: E402

from deploycc.detector import Detector  # noqa: E402
from deploycc.distillation import importance, loss  # noqa: E402
from deploycc.graph.channels.labels import channel_groups  # noqa: E402

PROBES = 25


def estimated(detector: Detector, module: ModuleType = importance) -> dict[str, NDArray[np.float64]]:
    groups = channel_groups(detector.graph)
    by_layer = module.output_change(detector, groups, picture, list(range(PICTURES)) * PROBES)
    return {layers[0]: sum(by_layer[name] for name in layers if name in by_layer) for layers in MAKERS}


def errors(detector: Detector, module: ModuleType = importance) -> list[float]:
    """Of the estimates, relative to what was measured, per layer; and how badly they order the kernels."""
    truth, estimate = measured(detector), estimated(detector, module)
    return [float(np.abs(estimate[name] / values.mean(0) - 1).max()) for name, values in truth.items()]


@pytest.mark.parametrize("activation", ["Sigmoid", "Softmax"])
def test_the_estimate_is_the_divergence(activation: Literal["Sigmoid", "Softmax"]) -> None:
    assert max(errors(small(activation))) < 0.5  # 150 random directions: 4 standard deviations are 0.46


@pytest.mark.parametrize(
    ("old", "new", "activation"),
    [
        ("continue  # a depthwise", "pass  # a depthwise", "Softmax"),
        ("root * noise - probabilities * (root * noise).sum(1, keepdim=True)", "root * noise", "Softmax"),
        ("(probabilities * (1 - probabilities)).sqrt() * noise", "noise", "Sigmoid"),
        (
            "change += np.bincount(labels, by_kernel(weights, axis), groups.count)",
            "change = np.bincount(labels, by_kernel(weights, axis), groups.count)",
            "Softmax",
        ),
        ("+ (weight * noise * offsets).sum()", "", "Sigmoid"),
        ("np.maximum(members, 1)", "1", "Softmax"),
    ],
)
def test_planted_bugs_are_noticed(old: str, new: str, activation: Literal["Sigmoid", "Softmax"]) -> None:
    assert max(errors(small(activation), mutant(importance, old, new))) > 0.7


@pytest.mark.parametrize(
    ("old", "new", "activation"),
    [
        ("+ _doubts(probabilities, scores.activation, background, generator)", "", "Sigmoid"),
        ("weight.sqrt() * torch", "weight * torch", "Sigmoid"),
        ("noise - probabilities * noise.sum(1, keepdim=True)", "noise", "Softmax"),
    ],
)
def test_planted_bugs_of_doubts_are_noticed(
    old: str, new: str, activation: Literal["Sigmoid", "Softmax"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "DOUBT_WEIGHT", 20.0)  # of all terms this one counts most
    assert max(errors(small(activation), mutant(importance, "import torch\n", "import torch\n"))) < 0.5
    assert max(errors(small(activation), mutant(importance, old, new))) > 0.7
