"""Gates hear what pictures differ in, whatever training changed in what they read."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from folded_detector import folded  # noqa: E402

import deploycc  # noqa: E402
from deploycc.detector import Detector  # noqa: E402
from deploycc.distillation.gate_calibration import batches, engaged_on, recalibrate  # noqa: E402
from deploycc.distillation.samples import Samples  # noqa: E402
from deploycc.trainable.gated import GatedNetwork, GateShape  # noqa: E402
from deploycc.workflows.pictures import open_pictures  # noqa: E402

PICTURES = "generated:5:30"
PAIR = ("backend.2.0/conv/Conv", "backend.2.1/conv/Conv")
"""One reads what the other makes."""


@pytest.fixture(scope="module")
def teacher() -> Detector:
    return deploycc.load("street_ssd")


def test_gates_are_recalibrated_whatever_the_gates_before_them_do(teacher: Detector) -> None:
    torch.manual_seed(2)
    samples = Samples(open_pictures(PICTURES, teacher.input), teacher.input, 1)
    network = GatedNetwork(folded(teacher), [], [], PAIR, GateShape(hidden=4))
    numbers = samples.trained_on[:24]

    def deviations() -> list[tuple[float, float]]:
        """Mean and deviation of what each gate follows."""
        values: list[list[torch.Tensor]] = [[], []]
        for _ in batches(network, numbers, samples, teacher):
            for (_, gate), found in zip(network.deciding, values, strict=True):
                found.append(gate.squeeze(gate.pooled).detach()[:, 0].flatten())
        return [(float(torch.cat(each).mean()), float(torch.cat(each).std())) for each in values]

    for _, gate in network.deciding:
        gate.start_in_order(torch.linspace(0, 1, 129)[:-1], 0.5)
        gate.follow(torch.randn(gate.squeeze.weight.shape[1]), 0.0, 0.5)
    recalibrate(network, numbers, samples, teacher, 0.5)
    for mean, deviation in deviations():
        assert mean == pytest.approx(4.0, rel=0, abs=0.1)
        assert deviation == pytest.approx(1.0, rel=0.1, abs=0)


@pytest.mark.parametrize("begun", [0.03, 0.07])
def test_gates_that_do_not_learn_spread_as_was_asked_again(teacher: Detector, begun: float) -> None:
    torch.manual_seed(2)
    samples = Samples(open_pictures(PICTURES, teacher.input), teacher.input, 1)
    network = GatedNetwork(folded(teacher), [], [], PAIR, GateShape(hidden=4))
    numbers = samples.trained_on[:24]
    for _, gate in network.deciding:
        gate.start_in_order(torch.linspace(0, 1, 129)[:-1], 0.5)
        gate.follow(torch.randn(gate.squeeze.weight.shape[1]), 0.0, begun)
    seen = []
    for _ in range(6):
        recalibrate(network, numbers, samples, teacher, 0.05)
        shares = engaged_on(network, numbers, samples, teacher)
        seen.append(float(np.std(shares)))
        assert np.mean(shares) == pytest.approx(0.5, rel=0, abs=0.02)
    assert seen[-1] == pytest.approx(0.05, rel=0.1, abs=0)
    steps = np.array(seen[1:]) / seen[:-1]
    assert steps.max() < 1.4  # a little at a time
    assert steps.min() > 0.7
